"""Several processes that train together over MPI (fastnn.dist): the same as one, files of one rank, and lost ranks that end the job."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import cli, data, dist, nn, optim, shard, tensor, train
from fastnn.ops.batchnorm_shared import combined
from fastnn.shard import Shard, memory

SCRIPT = Path(__file__).parent / "many_processes.py"
MPIEXEC = shutil.which("mpiexec") or shutil.which("mpiexec", path=str(Path(sys.executable).parent))
OPEN_MPI = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}
THREE = ("plain", "eager", "few", "weighed", "judged", "synchronised")
SCENARIOS = (*THREE, "accumulated", "summed", "mixed", "local")


def launched(folder: Path, ranks: int, *scenarios: str, script: Path | None = SCRIPT) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("mpi4py", reason="many processes need mpi4py: pip install '.[mpi]'")
    if MPIEXEC is None:
        pytest.skip("there is no mpiexec: pip install mpich")
    words = scenarios if script is None else (str(script), str(folder), *scenarios)
    command = [MPIEXEC, "-n", str(ranks), sys.executable, *words]
    environment = {**os.environ, **OPEN_MPI}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, cwd=folder)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """What one, two and three ranks have made of all scenarios."""
    folders = {}
    for ranks in (1, 2, 3):
        folders[ranks] = tmp_path_factory.mktemp(f"ranks{ranks}")
        done = launched(folders[ranks], ranks, *(THREE if ranks == 3 else SCENARIOS))
        assert done.returncode == 0, done.stderr
    return folders


def of(folder: Path, name: str, ranks: int) -> list[dict[str, Any]]:
    return [dict(np.load(folder / f"{name}-{ranks}-{rank}.npz")) for rank in range(ranks)]


def numbers(found: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: value for name, value in found.items() if value.dtype.kind in "fi"}


@pytest.mark.parametrize(("name", "ranks"), [*((name, 2) for name in SCENARIOS), *((name, 3) for name in THREE)])
def test_ranks_end_as_one_process_does(name: str, ranks: int, found: dict[int, Path]) -> None:
    """Masks, augmentation, mixing, uneven rows, weights of classes, accumulation and figures included; the same bits on all ranks."""
    (alone,), several = of(found[1], name, 1), of(found[ranks], name, ranks)
    for other in several[1:]:
        assert {k: v.tobytes() for k, v in numbers(other).items()} == {k: v.tobytes() for k, v in numbers(several[0]).items()}
    if name == "local":
        return
    for key, value in numbers(alone).items():
        bound = 3e-5 if name == "synchronised" else 2e-6
        np.testing.assert_allclose(several[0][key], value, rtol=bound, atol=bound, err_msg=key)


@pytest.mark.parametrize("ranks", [2, 3])
def test_steps_are_replayed_with_the_bits_of_eager_ones(ranks: int, found: dict[int, Path]) -> None:
    replayed, eager = of(found[ranks], "few", ranks)[0], of(found[ranks], "plain", ranks)[0]
    assert str(replayed["replayed"]).startswith("replayed") and str(eager["replayed"]).startswith("replayed")
    fit = of(found[ranks], "eager", ranks)[0]
    if ranks == 2:
        assert str(fit["replayed"]) == "eager: replay=False"
    assert {k: v.tobytes() for k, v in numbers(fit).items()} == {k: v.tobytes() for k, v in numbers(eager).items()}


def test_buckets_are_set_off_while_backward_runs(tmp_path: Path) -> None:
    """In the replayed step, between its kernels."""
    assert launched(tmp_path, 2, "overlapping").returncode == 0
    names = of(tmp_path, "overlapping", 2)[0]["names"].tolist()
    last = len(names) - 1 - names[::-1].index("channel_sum")  # the first layer's bias
    assert names[names.index("cross_entropy_backward") : last].count("look") == 4  # two weights and biases behind


@pytest.mark.parametrize("ranks", [2, 3])
def test_evaluation_in_turns_has_the_bits_of_one_process(ranks: int, found: dict[int, Path]) -> None:
    (alone,), several = of(found[1], "judged", 1), of(found[ranks], "judged", ranks)
    assert {k: v.tobytes() for k, v in numbers(several[0]).items()} == {k: v.tobytes() for k, v in numbers(alone).items()}
    assert alone["matrix"].sum() == 359


def test_local_statistics_are_those_of_a_ranks_rows(found: dict[int, Path]) -> None:
    (alone,), several = of(found[1], "local", 1), of(found[2], "local", 2)
    assert np.abs(alone["weight 1.running_var"] - several[0]["weight 1.running_var"]).max() > 1e-4


def test_loops_of_ones_own(tmp_path: Path) -> None:
    for ranks in (1, 2):
        assert launched(tmp_path, ranks, "stepped").returncode == 0
    (alone,), (first, second) = of(tmp_path, "stepped", 1), of(tmp_path, "stepped", 2)
    for key, value in numbers(alone).items():
        np.testing.assert_allclose(first[key], value, rtol=2e-6, atol=2e-6, err_msg=key)
        assert first[key].tobytes() == second[key].tobytes()


def test_a_signal_to_one_rank_stops_all_behind_one_step_and_resuming_is_exact(tmp_path: Path) -> None:
    done = launched(tmp_path, 2, "whole", "interrupted")
    assert done.returncode == 0, done.stderr
    whole, interrupted = of(tmp_path, "whole", 2), of(tmp_path, "interrupted", 2)
    assert {int(rank["steps"]) for rank in interrupted} == {12}  # told with the next one
    for a, b in zip(whole, interrupted):
        assert {k: v.tobytes() for k, v in numbers(a).items()} == {k: v.tobytes() for k, v in numbers(b).items() if k != "steps"}
    assert len(train.History.load(tmp_path / "history.csv").rows) == 1
    arrays, _ = fastnn.files.read(tmp_path / "model.safetensors")
    assert set(arrays) == {k.removeprefix("weight ") for k in whole[0] if k.startswith("weight ")}


def test_what_differs_is_refused_and_named(tmp_path: Path) -> None:
    done = launched(tmp_path, 2, "refused")
    assert done.returncode == 0, done.stderr
    first, second = (rank["said"].tolist() for rank in of(tmp_path, "refused", 2))
    assert first == second
    wanted = [
        "size of the training data",
        "model",
        "batch_size of the training data",
        "optimizer",
        "epochs",
        "normalize of the training data",
    ]
    alone = "trainer is that of 2 ranks; this tries out in one process"
    assert [text.split(":")[:2] for text in first[len(wanted) :]] == [
        [name, f" {alone}"] for name in ("find_rate", "initial_loss", "recipe")
    ]
    for text, what in zip(first[: len(wanted)], wanted, strict=True):
        assert re.match(rf"fit: rank 1 of 2 \(process \d+ on .+\) has another {what} than rank 0: ", text)


@pytest.mark.parametrize(
    "how, says",
    [
        ("raises", r"rank 1 of 2 \(process \d+ on .+\) has failed and ends the job: ArithmeticError: no more of this"),
        ("ends", r"rank 1 of 2 \(process \d+ on .+\) has ended: all ranks have to do the same, and rank 0 waits for it in"),
        ("hangs", r"rank 1 of 2 \(process \d+ on .+\) has not come within 2 seconds, and rank 0 waits for it in"),
    ],
)
def test_a_lost_rank_ends_the_job_with_its_name(how: str, says: str, tmp_path: Path) -> None:
    begun = time.monotonic()
    done = launched(tmp_path, 2, f"lost:{how}")
    assert done.returncode and re.search(says, done.stderr), done.stderr
    assert time.monotonic() - begun < 30  # not the 60 that the lost rank sleeps


def test_a_killed_rank_ends_the_job_with_its_name(tmp_path: Path) -> None:
    """Though the launcher kills the others at once."""
    done = launched(tmp_path, 2, "lost:killed")
    assert done.returncode, done.stderr
    process = re.search(r"2 ranks, \d+ threads? each; processes: on .+ 0 is \d+, 1 is (\d+)", done.stderr)
    assert process is not None and re.search(rf"rank 1 of 2 \(process {process[1]} on .+\) (or .+ )?is lost", done.stderr), done.stderr


WATCHED = """
import os, subprocess, sys, time
from fastnn.dist import Group, lost
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
class Alone(Group):
    def gather_objects(self, value): return [value, (child.pid, *value[1:])]
    def barrier(self): pass
group = Alone()
group.rank, group.size, group.on_this_machine, group.names = 0, 2, [0, 1], ["process 1 on a", "process 2 on a"]
lost.watch(group)
child.kill()
time.sleep(30)
"""


def test_a_killed_rank_is_named_where_the_launcher_leaves_the_others_waiting() -> None:
    done = subprocess.run([sys.executable, "-c", WATCHED], capture_output=True, text=True, timeout=20)
    assert done.returncode == -signal.SIGKILL
    assert "fastnn.dist: rank 1 of 2 (process 2 on a) is lost: killed, or ended without a word" in done.stderr


def test_the_command(tmp_path: Path) -> None:
    """One rank prints and writes; resumed, in one process."""
    command = ["-m", "fastnn", "train", "digits", "--distributed", "--model", "linear", "--preprocess", "whiten", "--augment", "camera"]
    command += ["--out", str(tmp_path / "run"), "--log", "csv"]
    done = launched(tmp_path, 2, *command, "--epochs", "2", script=None)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test accuracy") == done.stdout.count("1 threads, 2 ranks") == 1 and "warning" not in done.stderr
    assert {f.name for f in (tmp_path / "run").iterdir()} >= {"checkpoint.safetensors", "history.csv", "model.safetensors"}
    assert cli.main([*command[2:], "--epochs", "3", "--resume"]) == 0
    assert len(train.History.load(tmp_path / "run" / "history.csv").rows) == 3
    failed = launched(tmp_path, 2, *command[:-4], "--data", "nowhere", script=None)
    assert failed.returncode and "--data" in failed.stderr and "Traceback" not in failed.stderr


def test_a_loss_that_is_no_number_is_told_to_all(tmp_path: Path) -> None:
    launched(tmp_path, 2, "diverged")
    first, second = (str(rank["said"]) for rank in of(tmp_path, "diverged", 2))
    assert second.startswith("Diverged: the loss is nan at step 1") and first.startswith("RankLost: rank 1 of 2")
    assert "has failed: Diverged: the loss is nan at step 1" in first


# --- one process


def test_without_mpirun_nothing_changes() -> None:
    group = dist.init()
    assert (group.rank, group.size, group.first, group.shard) == (0, 1, True, (0, 1)) and dist.init() is group
    assert "mpi4py.MPI" not in sys.modules
    assert group.gather([1.0, 2.0]).tolist() == [[1.0, 2.0]] and group.gather_objects("a") == ["a"]
    group.barrier()

    def weights(**settings: Any) -> list[bytes]:
        fastnn.seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(64, 10))
        training = data.digits()[0].take(np.arange(100))
        trainer = train.Trainer(model, optim.SGD(model.parameters(), 0.1), **settings)
        trainer.fit(training, 1, progress=False)
        return [v.tobytes() for v in model.state_dict().values()]

    assert weights() == weights(group=group)
    model = nn.Linear(3, 2)
    before = model.weight.numpy().copy()
    (model(tensor(np.ones((4, 3)))).sum()).backward()
    gradient = model.weight.grad.numpy().copy()
    dist.average_gradients(model, samples=4)
    dist.broadcast(model)
    assert np.array_equal(model.weight.numpy(), before) and np.array_equal(model.weight.grad.numpy(), gradient)


def test_importing_dist_loads_no_mpi() -> None:
    code = (
        "import sys, fastnn; assert 'fastnn.dist' not in sys.modules; import fastnn.dist, fastnn.train; assert 'mpi4py' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


NOISY = {
    "dropout": (lambda x: fastnn.ops.dropout(x, 0.4), (9, 3, 5, 5)),
    "dropout of relu": (lambda x: fastnn.ops.dropout(fastnn.ops.relu(x), 0.4), (9, 7)),
    "dropout2d": (lambda x: fastnn.ops.dropout2d(x, 0.4), (9, 7, 2, 3)),
    "stochastic depth": (lambda x: fastnn.ops.stochastic_depth(x, 0.4), (9, 5)),
    "stochastic depth of the batch": (lambda x: fastnn.ops.stochastic_depth(x, 0.4, "batch"), (9, 5)),
    "noise": (lambda x: fastnn.ops.gaussian_noise(x, 0.5), (9, 3, 3, 5)),
    "odd noise": (lambda x: fastnn.ops.gaussian_noise(x, 0.5), (9, 3)),
    "fractional pooling": (lambda x: nn.FractionalMaxPool2d(2, output_size=3)(x), (9, 2, 7, 7)),
    "patches": (lambda x: fastnn.ops.dropout(x.reshape(-1, 5), 0.4).reshape(x.shape), (9, 4, 5)),
}


@pytest.mark.parametrize("name", NOISY)
def test_rows_draw_what_the_whole_batch_draws(name: str) -> None:
    layer, shape = NOISY[name]
    x = tensor(np.random.default_rng(0).standard_normal(shape), requires_grad=True)

    def run(rows: slice, place: Shard | None) -> tuple[np.ndarray, np.ndarray]:
        fastnn.seed(7)
        part = tensor(x.numpy()[rows], requires_grad=True)
        fastnn.ops.dropout(tensor(np.ones(3)), 0.5)  # a draw before
        with shard.using(place):
            y = layer(part)
            y.backward(np.ones(y.shape))
        assert part.grad is not None
        return y.numpy(), part.grad.numpy()

    y, dx = run(slice(None), None)
    for begin, end in [(0, 2), (2, 3), (3, 9)]:
        ours = run(slice(begin, end), Shard(begin, end - begin, 9))
        assert np.array_equal(ours[0], y[begin:end]) and np.array_equal(ours[1], dx[begin:end])


def test_weights_of_dropconnect_have_one_mask_for_the_batch() -> None:
    layer, x = nn.DropConnect(nn.Linear(4, 3, bias=False), 0.5), tensor(np.eye(4))
    fastnn.seed(1)
    whole = layer(x).numpy()
    fastnn.seed(1)
    with shard.using(Shard(6, 3, 9)):  # as many rows as the weight has
        assert np.array_equal(layer(x).numpy(), whole)


def test_statistics_are_combined_as_of_all_values() -> None:
    values = np.random.default_rng(0).standard_normal((50, 3)) * 3 + 1000
    parts = [values[:7], values[7:8], values[8:8], values[8:]]
    rows = [np.concatenate([[len(p)], p.mean(0), ((p - p.mean(0)) ** 2).sum(0)]) if len(p) else np.zeros(7) for p in parts]
    total, mean, squares = combined(np.array(rows))
    assert total == 50
    np.testing.assert_allclose(mean, values.mean(0), rtol=1e-14)
    np.testing.assert_allclose(squares / 50, values.var(0), rtol=1e-9)


@pytest.mark.parametrize("mix", [(), [data.MixUp(0.3)], [data.CutMix(1.0)]])
def test_shards_of_batches_are_the_batches(mix: Any) -> None:
    images = np.random.default_rng(0).integers(0, 256, (29, 1, 6, 6), np.uint8)
    loader = data.Loader((images, np.arange(29) % 4), 8, shuffle=True, augment=data.RandomCrop(1), mix=mix)
    parts = [list(loader.batches(2, 1, shard=(rank, 3))) for rank in range(3)]
    for (x, labels), *several in zip(loader.batches(2, 1), *parts):
        assert np.array_equal(np.concatenate([x.numpy() for x, _ in several]), x.numpy())
        assert np.array_equal(np.concatenate([labels.numpy() for _, labels in several]), labels.numpy())


def test_a_batch_smaller_than_the_group_is_refused() -> None:
    loader = data.Loader((np.zeros((10, 1, 2, 2), np.uint8), np.zeros(10, np.int64)), 4)
    with pytest.raises(ValueError, match="a batch of 2 cannot be shared by 3 ranks"):
        next(loader.batches(0, shard=(0, 3)))


@pytest.mark.parametrize(
    "wrong, error", [((0, 0), ValueError), ((2, 2), ValueError), ((-1, 2), ValueError), (3, TypeError), ((True, 2), TypeError)]
)
def test_wrong_shards(wrong: Any, error: type[Exception]) -> None:
    loader = data.Loader((np.zeros((10, 1, 2, 2), np.uint8), np.zeros(10, np.int64)), 4)
    with pytest.raises(error, match="shard"):
        next(loader.batches(0, shard=wrong))


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match="sync_batchnorm"):
        dist.init(sync_batchnorm=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the group was made with sync_batchnorm=False"):
        dist.init(), dist.init(sync_batchnorm=True)
    with pytest.raises(TypeError, match="group must be what dist.init"):
        train.Trainer(model := nn.Linear(2, 2), optim.SGD(model.parameters(), 0.1), group=2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="root"):
        dist.broadcast(nn.Linear(2, 2), root=1)
    with pytest.raises(TypeError, match="parameters"):
        dist.average_gradients([1.0])
    with pytest.raises(ValueError, match=r"a vector \(n,\)"):
        dist.init().gather(np.ones((2, 2)))


def test_memory_is_the_arrays_own() -> None:
    x = tensor(np.zeros((2, 3)))
    memory(x._array)[4] = 7
    assert x.numpy()[1, 1] == 7


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = fastnn.get_num_threads()
    yield
    fastnn.set_num_threads(before)
