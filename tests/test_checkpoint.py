"""Files: what other readers see; and trainings that go on from them, bit for bit. (Crashes: test_crashes.py; damage: test_hostile_files.py.)"""

from __future__ import annotations

import gc
import json
import os
import signal
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_trainer import bits, blobs, net

import fastnn
from fastnn import _C, files, models, nn, ops, optim, random
from fastnn.data import ArrayDataset, Loader, Normalize, Resize
from fastnn.files import CorruptFile
from fastnn.train import Callback, EarlyStopping, Interrupted, ModelCheckpoint, Trainer, load_model, save_model

SHAPE = (2, 3, 4, 5)

# --- files


def sample() -> dict[str, np.ndarray]:
    return {
        "conv.weight": np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE),
        "matrix": np.arange(6, dtype=np.float64).reshape(2, 3).T,
        "count": np.asarray(7, np.int64),
        "bytes": np.arange(5, dtype=np.uint8),
        "mask": np.array([True, False]),
        "nothing": np.zeros((0, 3), np.float32),
    }


def test_every_type_and_rank_comes_back(tmp_path: Path) -> None:
    files.write(tmp_path / "a.safetensors", sample(), {"epoch": 3, "mean": [0.1, 1 / 3]})
    arrays, notes = files.read(tmp_path / "a.safetensors")
    assert notes == {"epoch": 3, "mean": [0.1, 1 / 3]} and arrays.keys() == sample().keys()
    for name, array in sample().items():
        assert arrays[name].dtype == array.dtype and arrays[name].shape == array.shape and (arrays[name] == array).all()


def test_other_readers_see_channels_last_arrays_right(tmp_path: Path) -> None:
    """An Array of rank 4 lies N, H, W, C; a file must not."""
    from safetensors.numpy import load_file

    torch_reader = pytest.importorskip("safetensors.torch")
    values = sample()["conv.weight"]
    files.write(tmp_path / "a.safetensors", {"ours": _C.from_numpy(values), "strided": values.transpose(0, 3, 1, 2)})
    assert _C.from_numpy(values).numpy().strides != values.strides
    for read in (load_file, torch_reader.load_file):
        arrays = read(tmp_path / "a.safetensors")
        assert (np.asarray(arrays["ours"]) == values).all()
        assert (np.asarray(arrays["strided"]) == values.transpose(0, 3, 1, 2)).all()


def test_bfloat16_of_other_programs_is_read_as_float32(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    values = torch.tensor(np.random.default_rng(0).standard_normal(SHAPE)).bfloat16()
    others = {
        "w": torch.arange(6, dtype=torch.float64).reshape(2, 3),
        "count": torch.tensor(7),
        "half": torch.ones(2).half(),
        "mask": torch.tensor([True]),
    }
    save_file({"conv": values, **others}, tmp_path / "bf16.safetensors")
    arrays, _ = files.read(tmp_path / "bf16.safetensors")
    assert arrays["conv"].dtype == np.float32 and np.array_equal(arrays["conv"], values.float().numpy())
    for name, array in others.items():
        assert np.array_equal(arrays[name], array.numpy()) and arrays[name].dtype == array.numpy().dtype
    save_file({"conv": values}, tmp_path / "alone.safetensors")
    assert np.array_equal(files.read(tmp_path / "alone.safetensors")[0]["conv"], values.float().numpy())
    ours = ops.cast(fastnn.tensor(values.float().numpy()), "bfloat16")
    files.write(tmp_path / "ours.safetensors", {"conv": ours})
    back = load_file(tmp_path / "ours.safetensors")["conv"]
    assert back.dtype == torch.float32 and torch.equal(back.bfloat16(), values) and torch.equal(back, values.float()), (
        "written as float32, exactly"
    )


def test_a_file_of_another_program_is_read(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"w": np.ones((2, 2), np.float32)}, tmp_path / "other.safetensors")
    arrays, notes = files.read(tmp_path / "other.safetensors")
    assert (arrays["w"] == 1).all() and notes == {}


def test_the_same_contents_make_the_same_bytes(tmp_path: Path) -> None:
    for i in range(8):
        files.write(tmp_path / str(i), sample(), {"é": "\ud800", "epoch": 1})
    assert len({(tmp_path / str(i)).read_bytes() for i in range(8)}) == 1
    assert files.read(tmp_path / "0")[1] == {"é": "\ud800", "epoch": 1}


def test_a_file_cut_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    files.write(path, {"w": np.ones(10, np.float32)})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptFile, match="cut.safetensors: not a whole safetensors file"):
            files.read(path)
    with pytest.raises(FileNotFoundError, match=r"absent\.safetensors"):
        files.read(tmp_path / "absent.safetensors")
    with pytest.raises(IsADirectoryError):
        files.read(tmp_path)


# --- resuming


QUIET = {"restore_best": False, "progress": False}


def make(kind: str, seed: int = 0) -> Trainer:
    model = net(seed)
    if kind == "adam":
        return Trainer(model, optim.Adam(model.parameters(), optim.schedules.cosine(1e-2, 28)), seed=0)
    return Trainer(model, optim.SGD(model.parameters(), optim.schedules.linear(0.1, 28), momentum=0.9, weight_decay=1e-3), seed=0)


def state(path: Path) -> tuple[dict[str, bytes], dict[str, object]]:
    """Everything in a checkpoint but the seconds."""
    arrays, notes = files.read(path)
    for row in [*notes["history"], notes["sums"]]:
        row.pop("seconds", None)
    return {name: array.tobytes() for name, array in arrays.items()}, notes


class SaveAtStep(Callback):
    def __init__(self, path: Path, step: int) -> None:
        self.path, self.step = path, step

    def after_step(self, trainer: Trainer, loss: float) -> None:
        if trainer.optimizer.steps == self.step:
            trainer.save(self.path)


@pytest.mark.parametrize("kind", ["adam", "sgd"])
@pytest.mark.parametrize("step", [1, 5, 7, 10, 27, 28])  # 7 steps an epoch
def test_resumed_is_the_same_as_uninterrupted(tmp_path: Path, kind: str, step: int) -> None:
    training, validation = blobs(100), blobs(40, 1)
    middle, end, end_again = (tmp_path / f"{name}.safetensors" for name in ("middle", "end", "again"))
    make(kind).fit(training, 4, validation, batch_size=16, callbacks=[SaveAtStep(middle, step), ModelCheckpoint(end)], **QUIET)
    random.seed(12345)
    resumed = make(kind, seed=7)  # other weights: all must come from the file
    resumed.fit(training, 4, validation, batch_size=16, resume=middle, callbacks=[ModelCheckpoint(end_again)], **QUIET)
    assert state(end_again) == state(end)


class Centres(nn.Module):
    """Cross-entropy, and the squared distance to a centre of each class that is learned with the net."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.centres = nn.Parameter(np.zeros((classes, classes), np.float32))

    def forward(self, logits: fastnn.Tensor, labels: fastnn.Tensor) -> fastnn.Tensor:
        return ops.cross_entropy(logits, labels) + 0.1 * ((logits - self.centres[labels]) ** 2).mean()


def with_centres(seed: int = 0) -> Trainer:
    model, loss = net(seed), Centres(3)
    return Trainer(model, optim.Adam([*model.parameters(), *loss.parameters()], 1e-2), loss)


def test_parameters_of_a_loss_go_on_too(tmp_path: Path) -> None:
    whole, half = with_centres(), with_centres()
    whole.fit(blobs(100), 4, batch_size=16, **QUIET)
    half.fit(blobs(100), 2, batch_size=16, callbacks=[ModelCheckpoint(tmp_path / "c")], **QUIET)
    resumed = with_centres(7)
    resumed.fit(blobs(100), 4, batch_size=16, resume=tmp_path / "c", **QUIET)
    assert bits(resumed.model) == bits(whole.model) and bits(resumed.loss) == bits(whole.loss)
    assert np.abs(whole.loss.centres.numpy()).max() > 0.01
    assert not [name for name in load_model(tmp_path / "c", model=net(3)).model.state_dict() if "centres" in name]
    with pytest.raises(ValueError, match="made with tensors of the loss; the loss of the trainer has none"):
        make("adam").fit(blobs(100), 4, resume=tmp_path / "c", **QUIET)
    make("adam").save(tmp_path / "plain")
    with pytest.raises(ValueError, match="made without tensors of the loss; the loss of the trainer has some"):
        with_centres().fit(blobs(100), 4, resume=tmp_path / "plain", **QUIET)


def test_a_checkpoint_that_is_refused_late_leaves_a_plateau_as_it_was(tmp_path: Path) -> None:
    def begun() -> Trainer:
        model, plateau = net(0), optim.schedules.ReduceOnPlateau(0.1, patience=0, monitor="epoch")
        return Trainer(model, optim.SGD(model.parameters(), plateau), ema=0.9)

    trained, fresh = begun(), begun()
    trained.fit(blobs(20), 4, **QUIET)
    trained.save(tmp_path / "c")
    arrays, notes = files.read(tmp_path / "c")
    average = next(name for name in arrays if name.startswith("average/"))
    files.write(tmp_path / "wrong", {**arrays, average: np.zeros((1, 2), np.float32)}, notes)
    before = fresh.optimizer.rates(), fresh.optimizer.state_dict()["schedule.0"].tolist()
    with pytest.raises(ValueError, match="wrong: .*has shape"):
        fresh.fit(blobs(20), 5, resume=tmp_path / "wrong", **QUIET)
    assert (fresh.optimizer.rates(), fresh.optimizer.state_dict()["schedule.0"].tolist()) == before
    assert trained.optimizer.rates() != fresh.optimizer.rates()


def test_a_metric_that_begins_within_an_epoch_has_no_figure_of_it(tmp_path: Path) -> None:
    """It was given for a whole epoch what it had seen of the rest."""

    def ones(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return np.ones(len(labels))

    make("adam").fit(blobs(100), 1, batch_size=16, callbacks=[SaveAtStep(tmp_path / "c", 5)], **QUIET)
    model = net(0)
    more = Trainer(model, optim.Adam(model.parameters(), 0.01), metrics=("accuracy", ones))
    history = more.fit(blobs(100), 2, batch_size=16, resume=tmp_path / "c", **QUIET)
    assert [np.isnan(row["ones"]) for row in history] == [True, False] and history["ones"][1] == 1
    assert not np.isnan(history["accuracy"]).any()


def test_what_is_trained_and_in_no_checkpoint_is_told(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    model, beside, unused = net(0), nn.Parameter(np.zeros((1, 3), np.float32)), nn.Parameter(np.zeros(9, np.float32))
    optimizer = optim.SGD([*model.parameters(), beside, unused], 0.1)
    trainer = Trainer(model, optimizer, lambda logits, labels: ops.cross_entropy(logits + beside, labels))
    words = r"Trainer.save: the optimizer trains 1 parameter of neither the model nor the loss, the first of shape \(1, 3\), which the file"
    with pytest.warns(UserWarning, match=words):
        trainer.fit(blobs(40), 1, callbacks=[ModelCheckpoint(tmp_path / "c")], **QUIET)
    with_centres().fit(blobs(40), 1, callbacks=[ModelCheckpoint(tmp_path / "c")], **QUIET)
    assert not recwarn.list


def test_names_that_checkpoints_have_themselves_are_refused() -> None:
    for name in ("best/weight", "optimizer/0", "average/x", "loss/x"):
        with pytest.raises(ValueError, match=f"Module: '{name}' cannot name a parameter: a checkpoint has other arrays under such names"):
            nn.Module().register_parameter(name, nn.Parameter(np.zeros(1, np.float32)))
    nn.ModuleDict({"conv/3x3": nn.ReLU()})  # as GoogLeNet's parts are called


def test_a_finished_training_resumes_to_nothing_more(tmp_path: Path) -> None:
    t = make("adam")
    t.fit(blobs(100), 2, batch_size=16, callbacks=[ModelCheckpoint(tmp_path / "c")], **QUIET)
    again = make("adam", seed=3)
    assert len(again.fit(blobs(100), 2, batch_size=16, resume=tmp_path / "c", **QUIET)) == 2
    assert bits(again.model) == bits(t.model)


def test_early_stopping_stays_stopped(tmp_path: Path) -> None:
    callbacks = [EarlyStopping(1, monitor="lr", mode="max"), ModelCheckpoint(tmp_path / "c")]  # a rate that falls never improves
    make("adam").fit(blobs(64), 9, callbacks=callbacks, **QUIET)
    resumed = make("adam").fit(blobs(64), 9, callbacks=callbacks, resume=tmp_path / "c", **QUIET)
    assert len(resumed) == 2


@pytest.mark.parametrize("event", ["before_step", "after_step", "after_epoch", "before_evaluate"])
def test_ctrl_c_saves_a_state_that_goes_on(tmp_path: Path, event: str) -> None:
    training, validation = blobs(100), blobs(40, 1)
    whole, path = tmp_path / "whole", tmp_path / "saved"
    make("adam").fit(training, 3, validation, batch_size=16, callbacks=[ModelCheckpoint(whole)], **QUIET)

    class CtrlC(Callback):
        def press(self, trainer: Trainer, *rest: object) -> None:
            if trainer.optimizer.steps >= (7 if event == "after_epoch" else 10) and trainer.epoch < 2:
                os.kill(os.getpid(), signal.SIGINT)

    setattr(CtrlC, event, CtrlC.press)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="interrupted in epoch .*saved to .*goes on") as caught:
        make("adam").fit(training, 3, validation, batch_size=16, callbacks=[ModelCheckpoint(path, every=100), CtrlC()], **QUIET)
    assert caught.value.saved == str(path) and isinstance(caught.value, KeyboardInterrupt)
    assert signal.getsignal(signal.SIGINT) is before
    make("adam", 7).fit(training, 3, validation, batch_size=16, resume=path, callbacks=[ModelCheckpoint(path)], **QUIET)
    assert state(path) == state(whole)


def test_ctrl_c_twice_stops_at_once() -> None:
    class CtrlC(Callback):
        def before_step(self, trainer: Trainer) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            raise AssertionError("the second Ctrl-C came too late")

    with pytest.raises(KeyboardInterrupt) as caught:
        make("adam").fit(blobs(64), 1, callbacks=[CtrlC()], **QUIET)
    assert not isinstance(caught.value, Interrupted)


def test_ctrl_c_without_a_checkpoint_says_so() -> None:
    class CtrlC(Callback):
        def after_step(self, trainer: Trainer, loss: float) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="interrupted in epoch 1, after batch 1 of 4; nothing was saved"):
        make("adam").fit(blobs(64), 1, batch_size=16, callbacks=[CtrlC()], **QUIET)


def test_checkpoints_that_do_not_fit(tmp_path: Path) -> None:
    t = make("adam")
    path = tmp_path / "c.safetensors"
    t.fit(blobs(100), 1, batch_size=16, callbacks=[SaveAtStep(path, 3)], **QUIET)
    with pytest.raises(ValueError, match="c.safetensors: made with the optimizer Adam; the trainer has SGD"):
        make("sgd").fit(blobs(100), 1, batch_size=16, resume=path, **QUIET)
    with pytest.raises(ValueError, match="within an epoch of 100 samples in batches of 16 with .*; .* with 100 samples in batches of 8"):
        make("adam").fit(blobs(100), 1, batch_size=8, resume=path, **QUIET)

    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    other = Trainer(model, optim.Adam(model.parameters()))
    before = bits(model)
    with pytest.raises(ValueError, match="c.safetensors: "):
        other.fit(blobs(100), 1, resume=path, **QUIET)
    assert bits(model) == before and other.optimizer.steps == 0 and other.epoch == 0

    t.save_model(path)
    with pytest.raises(ValueError, match="c.safetensors: holds a model, not a checkpoint"):
        make("adam").fit(blobs(100), 1, resume=path, **QUIET)


def test_the_order_within_an_epoch_is_that_in_which_it_began(tmp_path: Path) -> None:
    """In another one, samples would be trained on twice and others never. A file of an early version does not say it."""
    path, training = tmp_path / "c.safetensors", blobs(100)
    prepared = {"normalize": Normalize.fit(training)}
    begun: dict[str, Any] = {"shuffle": True, "seed": 5, **prepared}
    make("sgd").fit(Loader(training, 16, **begun), 1, callbacks=[SaveAtStep(path, 3)], **QUIET)
    orders: list[dict[str, Any]] = [{"seed": 5, **prepared}, {"shuffle": True, **prepared}, {**begun, "drop_last": True}]
    for order in orders:
        with pytest.raises(ValueError, match="batches of 16 with shuffle=True, seed=5, drop_last=False; it cannot go on with"):
            make("sgd").fit(Loader(training, 16, **order), 1, resume=path, **QUIET)
    arrays, notes = files.read(path)
    for name in ("shuffle", "seed", "drop_last"):
        del notes["data"][name]
    files.write(path, arrays, notes)
    t = make("sgd")
    t.fit(Loader(training, 16, **begun), 1, resume=path, **QUIET)
    assert t.epoch == 1 and t.data["seed"] == 5


def test_labels_mean_the_classes_that_they_meant(tmp_path: Path) -> None:
    """A class renamed or moved within the order would have had its samples learned as another one, in silence."""
    path, training = tmp_path / "c.safetensors", blobs(40)
    make("sgd").fit(training, 1, batch_size=16, callbacks=[ModelCheckpoint(path)], **QUIET)
    moved = ArrayDataset(training.images, training.labels, ["grey", "bright", "dark"])
    nameless = ArrayDataset(training.images, training.labels)
    words = "fit: the training set has the classes grey, bright, dark; the trainer dark, grey, bright: "
    for given in (moved, Loader(moved, 16, normalize=files_normalize(path))):
        with pytest.raises(ValueError, match=words):
            make("sgd").fit(given, 2, batch_size=16, resume=path, **QUIET)
    named = make("sgd")
    named.classes = ("grey", "bright", "dark")
    with pytest.raises(ValueError, match="made with the classes dark, grey, bright; the trainer has grey, bright, dark"):
        named.fit(moved, 2, batch_size=16, resume=path, **QUIET)
    assert named.epoch == 0 and named.classes == ("grey", "bright", "dark")
    t = make("sgd")
    t.fit(nameless, 2, batch_size=16, resume=path, **QUIET)
    assert t.classes == ("dark", "grey", "bright")
    with pytest.raises(ValueError, match=words):
        t.fit(moved, 1, **QUIET)


def test_a_resume_does_not_pass_over_a_preprocessing_that_was_given(tmp_path: Path) -> None:
    path, training = tmp_path / "c", blobs(40)
    make("sgd").fit(training, 1, batch_size=16, callbacks=[ModelCheckpoint(path)], **QUIET)
    other, unfitted = make("sgd"), make("sgd")
    other.normalize = unfitted.normalize = Normalize([1.0], [2.0])
    with pytest.raises(ValueError, match=r"c: made with Normalize\(mean=.*\); the trainer has Normalize\(mean=\[1.0\], std=\[2.0\]\)$"):
        other.fit(training, 2, batch_size=16, resume=path, **QUIET)
    assert other.epoch == 0
    make("sgd").save(path)  # which does not know of any yet
    unfitted.fit(training, 1, batch_size=16, resume=path, **QUIET)
    assert unfitted.normalize.state() == {"mean": [1.0], "std": [2.0]}


def files_normalize(path: Path) -> Normalize:
    return Normalize(**files.read(path)[1]["normalize"])


# --- models


def test_a_saved_model_predicts_the_same(tmp_path: Path) -> None:
    architecture = {"name": "lenet", "input_shape": (1, 6, 6), "num_classes": 3}
    model = models.create(**architecture)  # type: ignore[arg-type]
    t = Trainer(model, optim.SGD(model.parameters(), lambda step: 0.1 if step < 12 else 0.5), architecture=architecture)
    t.fit(blobs(90), 4, blobs(30, 1), batch_size=16, callbacks=[ModelCheckpoint(tmp_path / "checkpoint")], progress=False)
    assert t.best is not None and t.best.epoch < 4
    t.save_model(tmp_path / "model")
    test = blobs(40, 2)
    for name in ("model", "checkpoint"):  # of the checkpoint, the best snapshot
        trained = load_model(tmp_path / name)
        assert trained.classes == ("dark", "grey", "bright")
        assert (trained.predict(test) == t.predict(test)).all() and trained.evaluate(test) == t.evaluate(test)


def test_a_model_file_has_pytorchs_keys_and_plain_notes(tmp_path: Path) -> None:
    save_model(tmp_path / "m", net(), classes=["a", "b", "c"])
    arrays, notes = files.read(tmp_path / "m")
    assert {"0.weight", "0.bias", "1.running_mean", "1.num_batches_tracked", "6.weight"} <= arrays.keys()
    assert json.loads(json.dumps(notes))["classes"] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="m: says no architecture"):
        load_model(tmp_path / "m")


def test_numpys_numbers_are_kept_as_pythons(tmp_path: Path) -> None:
    """Arguments may be numbers of numpy (labels.max() + 1, a drawn seed); no file could be written then, after an epoch."""
    training = blobs(40)
    size, yes = np.int64(6), np.bool_(True)
    model = models.create("mlp", input_shape=(np.int64(1), size, size), num_classes=training.labels.max() + 1)
    as_it_is = Normalize([0.0], [1.0])
    loader = Loader(training, np.int32(8), shuffle=yes, seed=np.int64(5), drop_last=yes, normalize=as_it_is)  # type: ignore[arg-type]
    t = Trainer(model, optim.SGD(model.parameters(), 0.01), resize=Resize(6, channels=np.int64(1), highest=np.uint8(16)))
    t.notes = {"of": [np.float32(0.5), {"and": yes}], "nothing": np.float64("nan")}
    t.fit(loader, np.int64(1), callbacks=[ModelCheckpoint(tmp_path / "c")], **QUIET)
    t.save_model(tmp_path / "m")
    trained = load_model(tmp_path / "m")
    assert bits(trained.model) == bits(model) and trained.resize == t.resize
    assert trained.notes["of"] == [0.5, {"and": True}] and np.isnan(trained.notes["nothing"])
    t.fit(Loader(training, 8, shuffle=True, seed=5, drop_last=True, normalize=as_it_is), 2, resume=tmp_path / "c", **QUIET)
    assert len(t.history) == 2


def test_loading_a_loader_position(tmp_path: Path) -> None:
    """A Loader of one's own is resumed too."""
    training = blobs(100)
    path, end, again = tmp_path / "c", tmp_path / "end", tmp_path / "again"
    loader = Loader(training, 16, shuffle=True, seed=5, normalize=Normalize.fit(training))
    make("sgd").fit(loader, 2, callbacks=[SaveAtStep(path, 9), ModelCheckpoint(end)], **QUIET)
    make("sgd", 1).fit(loader, 2, resume=path, callbacks=[ModelCheckpoint(again)], **QUIET)
    assert state(end) == state(again)


# --- what cannot be written is refused while the old file is there


@pytest.mark.parametrize(
    ("arrays", "notes", "error", "words"),
    [
        (
            {},
            {"mean": {"of": [0.5, np.complex64(1)]}},
            TypeError,
            r"notes\['mean'\]\['of'\]\[1\] is \(1\+0j\), of numpy.complex64; .*: float\(x\), int\(x\)",
        ),
        ({}, {"shape": np.zeros(2)}, TypeError, r"notes\['shape'\] is .*x\.tolist\(\)"),
        ({"a\ud800": np.zeros(2)}, {}, ValueError, r"the name 'a\\ud800' has half a pair"),
        (
            {},
            {"list": "x" * 100_000_001},
            ValueError,
            r"file: names, shapes and notes take 100,\d+,\d+ bytes, of which the format allows 100,000,000",
        ),
    ],
    ids=["a complex number", "an array", "no letter", "too long"],
)
def test_what_a_file_cannot_hold_is_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], notes: dict[str, object], error: type[Exception], words: str
) -> None:
    path = tmp_path / "file"
    files.write(path, sample(), {"good": 1})
    with pytest.raises(error, match=words):
        files.write(path, arrays, notes)
    assert files.read(path)[1] == {"good": 1} and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_an_error_for_want_of_memory_holds_nothing_by_itself(tmp_path: Path) -> None:
    """Without the garbage collector: what the failed call had made is there for the next try."""

    class Held:
        def __init__(self) -> None:
            self.arrays = [np.zeros(3)]

    held = Held()
    seen = weakref.ref(held)

    def fails(held: Held) -> None:
        with files.memory_for(tmp_path / "a", "written"):
            raise MemoryError

    gc.disable()
    try:
        with pytest.raises(fastnn.OutOfMemoryError, match="a: out of memory while it was written") as caught:
            fails(held)
        del caught, held
        assert seen() is None
    finally:
        gc.enable()
