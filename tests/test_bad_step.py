"""A step whose loss or gradient is no number: Diverged names op, layer, element and sample, leaves the state before the step, and writes a
file that repeats it."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kernel_calls
import numpy as np
import pytest
from test_cli import command

import fastnn
from fastnn import _C, files, models, nn, optim
from fastnn.cli import main
from fastnn.data import ArrayDataset, ImageFiles, ItemDataset, Loader, Normalize, Resize
from fastnn.tensor import Tensor
from fastnn.train import Callback, Diverged, ModelCheckpoint, Trainer, bad_step, reproduce

pytestmark = pytest.mark.usefixtures("without_memory_checks")

AS_IT_IS = Normalize([0.0], [1.0])
N = 48


@pytest.fixture(autouse=True)
def somewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))


def samples(nan_at: int | None = None) -> ArrayDataset:
    images = np.random.default_rng(0).standard_normal((N, 1, 6, 6)).astype(np.float32)
    if nan_at is not None:
        images[nan_at, 0, 2, 3] = np.nan
    return ArrayDataset(images, np.arange(N) % 3)


class Divides(nn.Module):
    """By 0 where the sum of a sample is above a bound, so that one sample is to blame; its weight is not used up to then."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.bound = bound

    def forward(self, x: Tensor) -> Tensor:
        kept = fastnn.ops.where(self.marks(x), x * 0.0, x * 0.0 + 1.0)
        return x / kept

    def marks(self, x: Tensor) -> Tensor:
        return x > self.bound


class Root(nn.Module):
    """x + sqrt(0 |x|): fine forwards; backwards 0.5 / sqrt(0)."""

    def forward(self, x: Tensor) -> Tensor:
        return x + (abs(x) * 0.0).sqrt()


def plain(*inside: nn.Module) -> nn.Sequential:
    fastnn.seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), *inside, nn.Linear(8, 3))


def conv(*inside: nn.Module) -> nn.Sequential:
    fastnn.seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), *inside, nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, 3)
    )  # fmt: skip


def diverge(model: nn.Module, dataset: Any, rate: float = 0.01, loss: Any = None, **options: Any) -> tuple[Trainer, Diverged]:
    """Ten epochs would be done."""
    fit = {key: options.pop(key) for key in ("replay", "callbacks", "batch_size") if key in options}
    t = Trainer(model, optim.SGD(model.parameters(), rate, momentum=0.9), loss, normalize=AS_IT_IS, **options)
    with pytest.raises(Diverged) as caught:
        t.fit(dataset, 10, progress=False, **{"batch_size": 8, **fit})
    return t, caught.value


NARROW = [*(["cpu"] if _C.isa() in _C.isas("bfloat16") else []), *kernel_calls.GPUS]
WAYS: dict[str, dict[str, Any]] = {
    "replayed": {"replay": True},
    "eager": {"replay": False},
    "accumulated": {"accumulate": 3, "replay": False},
    "clipped": {"clip_norm": 1.0, "replay": True},
    "clipped by value": {"clip_value": 1e30, "replay": True},
    "averaged": {"ema": 0.9, "replay": True},
    **{f"replayed on {gpu}": {"device": gpu, "replay": True} for gpu in kernel_calls.GPUS},
    **{f"eager on {gpu}": {"device": gpu, "replay": False} for gpu in kernel_calls.GPUS},
    **{f"mixed on {device}": {"device": device, "precision": "bf16"} for device in NARROW},
}
way = pytest.mark.parametrize("options", WAYS.values(), ids=list(WAYS))


@way
@pytest.mark.parametrize("make", [plain, conv])
def test_nan_in_one_image(options: dict[str, Any], make: Callable[[], nn.Module]) -> None:
    t, error = diverge(make(), samples(nan_at=29), **options)
    assert error.found is not None and error.samples is not None
    assert error.found.what.startswith("the input") and error.found.direction == "before" and np.isnan(error.found.value)
    assert error.found.index[1:] == (0, 2, 3) and error.found.sample is not None and error.samples[error.found.sample] == 29
    assert "the input holds NaN or infinity" in str(error) and "in sample 29 of the training set" in str(error)


@way
def test_a_rate_far_too_high(options: dict[str, Any]) -> None:
    if "clip_norm" in options or "clip_value" in options:
        options = {**options, "clip_norm": None, "clip_value": None}
    _, error = diverge(plain(nn.ReLU()), samples(), rate=1e30, **options)
    assert error.found is not None and "the rate 1e+30 is most likely too high" in str(error)
    assert error.found.direction == "forward" and error.found.op == "Linear" and not np.isfinite(error.found.value)
    assert re.match(r"(1|3) \(Linear\((36->8|8->3)\)\)", error.found.layer) and error.found.sample is not None


@way
def test_a_layer_that_divides_by_0(options: dict[str, Any]) -> None:
    """Only where an activation is above its bound: the sample is one in which it is, in the first batch that has any."""
    model = plain(Divides(1.5))
    t, error = diverge(model, samples(), **options)
    assert error.found is not None and error.samples is not None and error.found.sample is not None
    assert (error.found.op, error.found.layer, error.found.direction) == ("Divide", f"2 ({model[2]!r})", "forward")
    assert len(error.found.index) == 2 and error.found.value == np.inf
    x = fastnn.tensor(samples().raw(np.array([error.samples[error.found.sample]]))[0], device=t.device)
    before = nn.Sequential(model[0], model[1])(x).numpy()
    assert before[0, error.found.index[1]] > 1.4  # in bfloat16 it may be just below


@way
def test_a_backward_pass_that_divides_by_0(options: dict[str, Any]) -> None:
    """The loss is a number; the update is not done."""
    model = plain(Root())
    before = {name: a.tobytes() for name, a in model.state_dict().items()}
    if options.get("clip_value"):  # makes numbers of infinities: then it is the user's will
        options = {**options, "clip_value": None}
    t, error = diverge(model, samples(), **options)
    assert error.found is not None and error.found.direction == "backward" and "though the loss is a number" in str(error)
    assert (error.found.op, error.found.layer) == ("Sqrt", f"2 ({model[2]!r})") and error.found.sample == 0
    assert {name: a.tobytes() for name, a in model.state_dict().items()} == before
    assert t.optimizer.steps == 0 and t.generator.draw == 0
    assert not any(a.numpy().any() for a in t.optimizer.state_arrays().values())


@way
def test_a_loss_of_ones_own(options: dict[str, Any]) -> None:
    def inverse(logits: Tensor, labels: Tensor) -> Tensor:
        return (1.0 / (logits - logits)).mean()

    _, error = diverge(plain(), samples(), loss=inverse, **options)
    assert error.found is not None and (error.found.op, error.found.layer) == ("Divide", "the loss") and error.found.value == np.inf
    assert error.found.index == (0, 0) and error.found.sample == 0
    assert "before the first update" in str(error) and "loss=my_loss) repeats it" in str(error)


def test_an_operation_of_ones_own_is_named() -> None:
    class Wrong(fastnn.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Any:
            return x.numpy()

        @staticmethod
        def backward(ctx: Any, dy: Tensor) -> Any:
            gradient = dy.numpy().copy()
            gradient[3, 1] = np.nan
            return gradient

    class Layer(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return Wrong.apply(x)

    _, error = diverge(plain(Layer()), samples())
    assert error.found is not None and error.samples is not None
    assert (error.found.op, error.found.direction, error.found.index, error.found.sample) == ("Wrong", "backward", (3, 1), 3)
    assert f"in sample {error.samples[3]} of the training set" in str(error)


def steep(logits: Tensor, labels: Tensor) -> Tensor:
    """A small loss with a gradient of 1e14 wherever the logits are."""
    return ((logits - logits.detach()) * 1e14).sum()


def one_bright(at: int) -> ArrayDataset:
    images = np.full((N, 1, 6, 6), 1e-14, np.float32)
    images[at, 0, 2, 3] = 1e26
    return ArrayDataset(images, np.zeros(N, int))


OVERFLOWS = {
    "linear": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), "1.weight"),
    "conv": (lambda: nn.Sequential(nn.Conv2d(1, 32, 3), nn.Flatten()), "0.weight"),
}


@way
@pytest.mark.parametrize("net", OVERFLOWS)
def test_a_weights_gradient_that_overflows_in_its_own_product_alone(options: dict[str, Any], net: str) -> None:
    """The bias's is a number; the processor's flags tell."""
    if options.get("clip_value"):
        options = {**options, "clip_value": None}
    make, weight = OVERFLOWS[net]
    fastnn.seed(0)
    model = make()
    before = {name: a.tobytes() for name, a in model.state_dict().items()}
    t, error = diverge(model, one_bright(29), loss=steep, rate=0.0, **options)
    assert error.found is not None and error.samples is not None and 29 in error.samples
    assert error.found.direction == "backward" and error.found.what == f"the gradient of {weight}" and error.found.value == np.inf
    assert {name: a.tobytes() for name, a in model.state_dict().items()} == before
    assert all(np.isfinite(a.numpy()).all() for a in t.optimizer.state_arrays().values())


@way
def test_nan_in_a_sample_whose_label_is_ignored(options: dict[str, Any]) -> None:
    """The loss is a number, and so are the gradients but those of the weights that meet the sample: 0 times NaN."""
    if options.get("clip_value"):
        options = {**options, "clip_value": None}
    images, labels = samples(nan_at=29).raw(np.arange(N))
    labels[29] = 3
    fastnn.seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 4))
    _, error = diverge(model, ArrayDataset(images, labels), loss=ignoring, **options)
    assert error.found is not None and error.samples is not None and error.samples[error.found.sample] == 29
    assert error.found.what.startswith("the input") and "though the loss is a number" in str(error)
    assert all(np.isfinite(p.numpy()).all() for p in model.parameters())


def ignoring(logits: Tensor, labels: Tensor) -> Tensor:
    return fastnn.ops.cross_entropy(logits, labels, ignore_index=3)


class Scaled(fastnn.Function):
    """Its gradient is computed outside of the kernels, where no flag is counted."""

    calls = 0

    @staticmethod
    def forward(ctx: Any, w: Tensor) -> Any:
        return w.numpy().copy()

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        Scaled.calls += 1
        return dy.numpy() * (np.nan if Scaled.calls > 3 else 1)


class OfItsOwn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(np.random.default_rng(0).standard_normal((3, 36)).astype(np.float32))
        self.bias = nn.Parameter(np.zeros(3, np.float32))

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), -1) @ Scaled.apply(self.weight).T + self.bias


def test_a_weights_gradient_from_outside_of_the_kernels() -> None:
    Scaled.calls = 0
    images = np.random.default_rng(0).integers(0, 256, (N, 1, 6, 6)).astype(np.uint8)
    model = OfItsOwn()
    t, error = diverge(model, ArrayDataset(images, np.arange(N) % 3), rate=1e-6)
    assert t.optimizer.steps == 3 and error.found is not None and error.found.op == "Scaled"
    assert all(np.isfinite(p.numpy()).all() for p in model.parameters())


def test_steps_of_ones_own_look_at_the_model_as_it_is() -> None:
    """Also at a layer that has taken another one's place since the last step."""
    model = plain()
    trainer = Trainer(model, optim.SGD(model.parameters(), 0.0), normalize=AS_IT_IS)
    images, labels = samples().raw(np.arange(N))
    x = fastnn.tensor(np.abs(images) + 1)
    trainer.step(x, fastnn.tensor(labels))
    model[2] = nn.Linear(8, 3)
    model[1].requires_grad_(False)
    trainer.optimizer, trainer.loss = optim.SGD(model[2].parameters(), 0.1), huge
    with pytest.raises(Diverged):
        trainer.step(x * 1e3, fastnn.tensor(labels))
    assert np.isfinite(model[2].weight.numpy()).all()


def huge(logits: Tensor, labels: Tensor) -> Tensor:
    """A gradient of 1e36 at each logit."""
    return ((logits - logits.detach()) * 1e36).sum()


def test_the_samples_of_a_part_are_those_of_the_whole_too() -> None:
    part = samples(nan_at=29).take(np.arange(20, 40))
    _, error = diverge(plain(), part)
    assert "in sample 9 of the training set (number 29 of the set that it is a part of)" in str(error)


def test_a_photo_is_named_by_its_file(tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(12)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (6, 6), dtype=np.uint8)).save(path)
    photos = ItemDataset(ImageFiles(paths, [0, 1, 2] * 4, None, Resize((6, 6), channels=1)))
    values = plain()[:2](fastnn.tensor(np.stack([photos.raw(np.array([i]))[0][0] for i in range(12)]) / 255.0)).numpy().max(1)
    last, brightest = np.sort(values)[-2:]
    model = plain(Divides(float(last + brightest) / 2))  # a rate of 0: it stays the one
    t = Trainer(model, optim.SGD(model.parameters(), 0.0), normalize=Normalize([0.0], [255.0]))
    with pytest.raises(Diverged, match=f"in sample {values.argmax()} of the training set, {paths[values.argmax()]}\\. ") as caught:
        t.fit(photos, 1, batch_size=4, progress=False)
    assert caught.value.found is not None and (caught.value.found.bad, caught.value.found.samples) == (1, 4)


def test_shuffled_resumed_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    """The positions are those of the batch, wherever the fit began."""
    dataset = samples()
    loader = Loader(dataset, 8, shuffle=True, seed=3, normalize=AS_IT_IS)
    last = int(loader.order(0)[-1])

    class Save(Callback):
        def after_step(self, trainer: Trainer, loss: float) -> None:
            if trainer.batch == 4:
                trainer.save(tmp_path / "c")

    bad = Loader(samples(nan_at=last), 8, shuffle=True, seed=3, normalize=AS_IT_IS)
    for resume in (None, tmp_path / "c"):
        model = plain()
        t = Trainer(model, optim.SGD(model.parameters(), 0.01), normalize=AS_IT_IS)
        with pytest.raises(Diverged, match=f"epoch 1, batch 6: .*in sample {last} of the training set") as caught:
            t.fit(bad, 1, progress=False, callbacks=[Save()], resume=resume)
        assert caught.value.samples is not None and list(caught.value.samples) == list(loader.order(0)[40:])


# --- the state


@pytest.mark.parametrize("replay", [True, False])
def test_the_state_is_that_before_the_step(replay: bool, tmp_path: Path) -> None:
    """Weights, optimizer, generator, statistics of batch normalisation: as after the last whole step."""
    kept: list[tuple[dict[str, bytes], int, int]] = []

    class Keep(Callback):
        def after_step(self, trainer: Trainer, loss: float) -> None:
            kept.append((_bytes(trainer), trainer.optimizer.steps, trainer.generator.draw))

    t, error = diverge(conv(), samples(nan_at=44), replay=replay, callbacks=[Keep()])
    assert kept and (_bytes(t), t.optimizer.steps, t.generator.draw) == kept[-1]
    state = t.model.state_dict()
    assert state["1.num_batches_tracked"] == len(kept) and all(np.isfinite(values).all() for values in state.values())
    assert all(p.grad is None for p in t.model.parameters())


@pytest.mark.parametrize("replay", [True, False])
@pytest.mark.parametrize("nan_at", [26, 34, 46])
def test_sums_are_those_before_the_step_too(nan_at: int, replay: bool) -> None:
    """Of three batches added up, one holds the NaN: all have been taken by a replay, and those up to it otherwise."""
    t, error = diverge(plain(), Loader(samples(nan_at=nan_at), 8, normalize=AS_IT_IS), accumulate=3, replay=replay)
    assert error.samples is not None and list(error.samples) == list(range(24, 48 if replay else nan_at // 8 * 8 + 8))
    assert (t.batch, t.sums["samples"], t.sums["counted"]) == (3, 24, 24) and error.found is not None and error.found.sample == nan_at - 24
    assert "the input holds NaN or infinity; look at the data" in str(error)


def _bytes(t: Trainer) -> dict[str, bytes]:
    arrays = {**t.model.state_dict(), **{k: np.array(a.numpy()) for k, a in t.optimizer.state_arrays().items()}}
    return {k: v.tobytes() for k, v in arrays.items()}


# --- the file


@way
@pytest.mark.parametrize("inside", [Root, lambda: Divides(1.5)])
def test_the_file_repeats_the_step(options: dict[str, Any], inside: Callable[[], nn.Module], tmp_path: Path) -> None:
    options = {**options, "clip_value": None, "callbacks": [ModelCheckpoint(tmp_path / "c")], "l2": 1e-3}
    t, error = diverge(plain(nn.Dropout(0.3), inside(), nn.Dropout(0.3)), samples(), **options)
    assert error.file == str(tmp_path / "bad-step.safetensors") and error.found is not None
    assert f"fastnn.train.reproduce({error.file!r}, model=MyNet()) repeats it" in str(error)
    again = reproduce(error.file, model=plain(nn.Dropout(0.3), inside(), nn.Dropout(0.3)))
    assert again is not None and again.state() == error.found.state()
    assert os.path.getsize(error.file) < 100_000
    arrays, notes = files.read(error.file)
    assert notes["seed"] == 0 and notes["steps"] == t.optimizer.steps and list(arrays["samples"]) == list(error.samples)  # type: ignore[arg-type]


def test_a_model_and_a_loss_of_the_library_need_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fastnn.seed(0)
    model = models.create("mlp", input_shape=(1, 6, 6), num_classes=3)
    t = Trainer(model, optim.Adam(model.parameters(), 1e28), nn.CrossEntropyLoss([1.0, 2.0, 3.0], label_smoothing=0.1), normalize=AS_IT_IS)
    with pytest.raises(Diverged, match=r"\. fastnn reproduce \S+bad-step.safetensors repeats it") as caught:
        t.fit(samples(), 9, batch_size=8, progress=False, callbacks=[ModelCheckpoint(tmp_path / "c")])
    assert caught.value.found is not None and caught.value.file is not None
    again = reproduce(caught.value.file)
    assert again is not None and again.state() == caught.value.found.state()
    assert main(["reproduce", caught.value.file]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("then: the loss is ") and out[1] == f"again, op by op: {caught.value.found}"


def test_a_repeat_that_is_finite_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A loss with a memory is no function."""
    calls = []

    def third(logits: Tensor, labels: Tensor) -> Tensor:
        calls.append(0)
        return nn.CrossEntropyLoss()(logits, labels) * (np.inf if len(calls) == 3 else 1.0)

    _, error = diverge(plain(), samples(), loss=third, callbacks=[ModelCheckpoint(tmp_path / "c")])
    assert "every value is finite: the step does not repeat itself" in str(error) and error.found is None and error.file is not None
    assert reproduce(error.file, model=plain(), loss=nn.CrossEntropyLoss()) is None


def test_a_large_state_stays_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bad_step, "MOST_STATE", 1000)
    _, error = diverge(plain(Root()), samples(), callbacks=[ModelCheckpoint(tmp_path / "c")])
    assert error.file is not None and "holds the batch and what the operation took in, not the state, which is large" in str(error)
    arrays, _ = files.read(error.file)
    assert not any(name.startswith("model/") for name in arrays) and arrays["op/dy"].shape == (8, 8)
    with pytest.raises(ValueError, match=r"bad-step.safetensors: the state was too large for it; it holds .*\(op/"):
        reproduce(error.file, model=plain(Root()))


def test_where_the_file_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    _, error = diverge(plain(Root()), samples())
    assert error.file is None and error.found is not None and "The file that repeats it could not be written: " in str(error)


def test_without_a_checkpoint_the_file_lies_where_nobody_else_can_have_put_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the name that could be foreseen was followed, and what it led to was lost."""
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / f"fastnn-bad-step-{threading.get_native_id()}.safetensors").symlink_to(tmp_path / "precious")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    file = diverge(plain(Root()), samples())[1].file
    assert (tmp_path / "precious").read_bytes() == b"precious" and file is not None
    folder = Path(file).parent
    assert folder.parent == tmp_path and folder.stat().st_mode & 0o777 == 0o700
    assert diverge(plain(Root()), samples())[1].file == file and len(list(folder.iterdir())) == 1  # the newer one takes its place
    shutil.rmtree(folder)
    file = diverge(plain(Root()), samples())[1].file  # the system tidies up
    assert file is not None and os.path.exists(file)


def test_files_that_are_something_else(tmp_path: Path) -> None:
    t, error = diverge(plain(Root()), samples(), callbacks=[ModelCheckpoint(tmp_path / "c")])
    t.save(tmp_path / "checkpoint")
    with pytest.raises(ValueError, match="checkpoint: is no file of a bad step"):
        reproduce(tmp_path / "checkpoint")
    assert error.file is not None
    with pytest.raises(ValueError, match="bad-step.safetensors: says no architecture; build the model yourself"):
        reproduce(error.file)
    with pytest.raises(ValueError, match="bad-step.safetensors: load_state_dict of Sequential: "):
        reproduce(error.file, model=conv())


def test_the_command_line_leaves_the_file_beside_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with command("train", "digits", "--model", "mlp", "--lr", "1e30", "--epochs", "1") as process:
        _, err = process.communicate()
    assert process.returncode == 2 and err.count("\n") == 1 and "fastnn reproduce runs/digits/bad-step.safetensors repeats it" in err
    assert main(["reproduce", "runs/digits/bad-step.safetensors"]) == 0


def test_a_step_of_ones_own_loop_is_explained_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the place of its samples, which only the loop knows."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model = plain(Root())
    t = Trainer(model, optim.SGD(model.parameters(), 0.1))
    x, labels = Loader(samples(), 8).batch(np.arange(8))
    with pytest.raises(Diverged, match=r"though the loss is a number: .* overflows\. Repeated op by op: ") as caught:
        t.step(x, labels)
    error = caught.value
    assert error.found is not None and error.samples is None and error.file is not None and Path(error.file).parent.parent == tmp_path
    found = reproduce(error.file, model=plain(Root()))
    assert found is not None and found.state() == error.found.state() and t.optimizer.steps == 0


def test_a_step_of_ones_own_loop_is_repeated_with_its_own_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout draws from the trainer's generator in it, which stands afterwards where it stood."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def model() -> nn.Sequential:
        fastnn.seed(1)
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Dropout(0.5), Divides(1.5), nn.Linear(8, 3))

    t = Trainer(made := model(), optim.SGD(made.parameters(), 1e-3), seed=5)
    x, labels = Loader(samples(), 8).batch(np.arange(8))
    drawn = []
    with pytest.raises(Diverged, match=r"at step [2-9]\d*[:,].* Repeated op by op: ") as caught:
        while True:  # until a sum that is not dropped is above the bound
            drawn.append((t.generator.draw, fastnn.random.default_generator().draw))
            t.step(x * (0.2 * len(drawn)), labels)
    found = caught.value.found
    assert found is not None and "does not repeat itself" not in str(caught.value)
    assert (t.generator.draw, fastnn.random.default_generator().draw) == drawn[-1] and drawn[-1][0] > drawn[0][0]
    assert drawn[-1][1] == drawn[0][1], "the thread's generator was drawn from"
    assert caught.value.file is not None
    again = reproduce(caught.value.file, model=model())
    assert again is not None and again.state() == found.state()
