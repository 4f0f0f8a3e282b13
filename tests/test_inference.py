"""What evaluate and predict run: a frozen copy where the model is of the library's own parts, never one of weights that have changed since."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import kernel_calls
import numpy as np
import pytest
from test_frozen import spread
from test_trainer import blobs, net

import fastnn
from fastnn import _C, Tensor, models, nn, optim
from fastnn.data import ArrayDataset, Loader, Normalize
from fastnn.train import Callback, Trainer, load_model

DEVICE = kernel_calls.DEVICES[-1]
pytestmark = pytest.mark.usefixtures("without_memory_checks")


def trainer(model: nn.Module, **options: Any) -> Trainer:
    return Trainer(model, optim.SGD(model.parameters(), 0.05, momentum=0.9), device=DEVICE, **options)


def photos(n: int, seed: int = 0, shape: tuple[int, ...] = (3, 16, 16)) -> ArrayDataset:
    rng = np.random.default_rng(seed)
    return ArrayDataset(rng.integers(0, 256, (n, *shape), dtype=np.uint8), rng.integers(0, 10, n))


def first_batch(t: Trainer, data: ArrayDataset, size: int = 256) -> tuple[Tensor, Tensor]:
    return next(iter(Loader(data, size, normalize=t.normalize, device=t.device)))


def eagerly(t: Trainer, data: ArrayDataset) -> np.ndarray:
    """Probabilities by the model itself."""
    t.model.eval()
    with fastnn.no_grad():
        logits = t.model(first_batch(t, data)[0]).numpy().astype(np.float64)
    t.model.train()
    e = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(e / e.sum(1, keepdims=True))


NETS: dict[str, Callable[[], nn.Module]] = {
    "resnet20": lambda: models.create("resnet20", input_shape=(3, 16, 16)),
    "vgg": lambda: models.create("vgg", input_shape=(3, 16, 16), widths=(8, 16)),
    "Sequential": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_models_of_the_library_are_frozen(name: str) -> None:
    fastnn.seed(0)
    model = NETS[name]()
    spread(model)
    t, data = trainer(model), photos(10)
    t.normalize = fastnn.data.Normalize.fit(data)
    assert t.inference.form == "eager: nothing was evaluated yet"
    state = t.model.state_dict()
    probabilities = [t.predict(data) for _ in range(3)]
    assert t.inference.form.startswith("frozen") and t.inference.form.endswith("replayed")
    assert t.inference.frozen is not None and t.inference.frozen.kernels
    assert all(p.tobytes() == probabilities[0].tobytes() for p in probabilities)
    assert np.abs(probabilities[0] - eagerly(t, data)).max() < 1e-4
    assert {k: v.tobytes() for k, v in t.model.state_dict().items()} == {k: v.tobytes() for k, v in state.items()}
    assert t.predict(data.images).tobytes() == probabilities[0].tobytes()


def agrees(t: Trainer, data: ArrayDataset) -> bool:
    got = t.predict(data)
    return t.inference.form.startswith("frozen") and float(np.abs(got - eagerly(t, data)).max()) < 1e-4


def test_weights_that_changed_are_seen() -> None:
    """However they changed: training, single steps, load_state_dict, writing into one, another layer, an attribute."""
    fastnn.seed(0)
    t, data = trainer(NETS["Sequential"]()), photos(64)
    t.normalize = fastnn.data.Normalize.fit(data)
    t.predict(data)
    seen = [t.predict(data)]

    def now() -> None:
        assert agrees(t, data)
        seen.append(t.predict(data))
        assert seen[-1].tobytes() != seen[-2].tobytes()

    t.fit(data, 1, batch_size=16, progress=False)
    now()
    t.model.train()
    t.step(*first_batch(t, data, 8))
    now()
    t.model.load_state_dict({k: v * 2 if k.endswith("weight") else v for k, v in t.model.state_dict().items()})
    now()
    t.model[0].bias.copy_from(np.linspace(-1, 1, 8, dtype=np.float32))  # type: ignore[index]
    now()
    t.model[1].running_var.copy_from(np.full(8, 3, np.float32))  # type: ignore[index]
    now()
    t.model.append(nn.Linear(10, 10).to(DEVICE))  # type: ignore[operator]
    now()
    t.model[1].eps = 10.0  # type: ignore[index]
    now()


def test_validation_runs_frozen_and_gives_its_memory_back() -> None:
    class Forms(Callback):
        def __init__(self) -> None:
            self.forms: list[str] = []
            self.after: list[str] = []

        def after_evaluate(self, trainer: Trainer, result: dict[str, float]) -> None:
            self.forms.append(trainer.inference.form)

        def after_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
            self.after.append(trainer.inference.form)

    t, seen = trainer(net()), Forms()
    t.fit(blobs(40), 2, blobs(20, 1), batch_size=16, progress=False, callbacks=[seen])
    assert len(seen.forms) == 2 and all(form.startswith("frozen") for form in seen.forms)
    assert seen.after == ["given back"] * 2
    best = t.evaluate(blobs(20, 1))
    assert best["loss"] == pytest.approx(min(row["val_loss"] for row in t.history), rel=1e-5) or best["accuracy"] == max(
        row["val_accuracy"] for row in t.history
    )


def test_averaged_weights_are_what_predicts() -> None:
    t, data = trainer(NETS["Sequential"](), ema=0.9), photos(40)
    t.fit(data, 2, batch_size=8, progress=False)
    got = t.predict(data)
    with t.stepping.averaged():
        assert np.abs(got - eagerly(t, data)).max() < 1e-4
    assert np.abs(got - eagerly(t, data)).max() > 1e-4


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.body(x)  # type: ignore[no-any-return]


def test_others_run_as_they_are_and_say_why() -> None:
    data, raw = photos(8), Normalize([0.0] * 3, [1.0] * 3)
    t = trainer(Own(), normalize=raw)
    assert t.predict(data).astype(np.float32).tobytes() == eagerly(t, data).astype(np.float32).tobytes()
    assert t.model.calls == 2 and t.inference.form == "eager: Own is not fastnn's own"
    t = trainer(NETS["Sequential"](), normalize=raw)
    t.predict(data)
    seen: list[int] = []
    handle = t.model[1].register_forward_hook(lambda *_: seen.append(1))  # type: ignore[index]
    t.predict(data)
    assert seen == [1] and t.inference.form == "eager: BatchNorm2d has a forward hook"
    handle.remove()
    t.predict(data)
    assert seen == [1] and t.inference.form.startswith("frozen")


@pytest.mark.skipif(not _C.isas("bfloat16") and DEVICE == "cpu", reason="no bfloat16 arithmetic here")
@pytest.mark.parametrize("name", NETS)
def test_mixed_precision_evaluates_frozen(name: str) -> None:
    """In bfloat16, as it trains; as near to float32 as the model itself in bfloat16 is (here a rounding less, behind the convolution)."""
    before = _C.isa()
    if DEVICE == "cpu" and before not in _C.isas("bfloat16"):
        _C.set_isa(_C.isas("bfloat16")[0])
    try:
        fastnn.seed(0)
        model, data = NETS[name](), photos(40)
        t = trainer(model, precision="bf16")
        t.fit(data, 1, batch_size=8, progress=False)
        x = first_batch(t, data)[0]
        t.model.eval()
        with fastnn.no_grad():
            exact, narrow = t.model(x).numpy(), t.forward(x).numpy()
            frozen = t.forward.evaluating()
            seen = [frozen(x).numpy() for _ in range(3)]
        assert t.inference.frozen is not None and t.inference.form.startswith("frozen, ") and t.inference.form.endswith("replayed")
        assert t.inference.frozen.folded and not any(row.startswith("to_bfloat16") for row in t.inference.frozen.kernels), (
            "weights are narrow already"
        )
        assert all(again.tobytes() == seen[0].tobytes() and again.dtype == np.float32 for again in seen)
        error, allowed = (np.linalg.norm(y - exact) / np.linalg.norm(exact) for y in (seen[0], narrow))
        assert 1e-5 < error < 1.3 * allowed < 0.1
        assert np.abs(t.predict(data) - eagerly(t, data)).max() < 0.05
    finally:
        _C.set_isa(before)


def test_a_loaded_model_predicts_frozen(tmp_path: Path) -> None:
    fastnn.seed(0)
    t, data = trainer(models.create("vgg_small", input_shape=(3, 16, 16))), photos(20)
    t.fit(data, 1, batch_size=8, progress=False)
    expected = t.predict(data)
    t.save_model(tmp_path / "model.safetensors")
    trained = load_model(tmp_path / "model.safetensors")
    trained.model.to(DEVICE)
    assert trained.predict(data.images).tobytes() == expected.tobytes()
    assert trained.inference.form.startswith("frozen, 4 normalisations folded")
    assert trained.evaluate(data)["loss"] == t.evaluate(data)["loss"]
    copy = deepcopy(trained)
    assert copy.predict(data.images).tobytes() == expected.tobytes() and "inference" not in repr(trained)


def test_another_array_of_numpys_on_a_layer_is_no_error() -> None:
    t = Trainer(net(), optim.SGD(net().parameters(), 0.1))
    images = np.random.default_rng(0).standard_normal((8, 1, 6, 6), np.float32)
    before = t.predict(images)
    for note in (np.zeros(3), np.ones(3), fastnn.tensor(np.ones(3)), fastnn.tensor(np.ones(3))):
        t.model.note = note
        assert np.array_equal(t.predict(images), before)


def test_what_another_library_writes_is_predicted_with() -> None:
    """It is not counted as ours is."""
    torch = pytest.importorskip("torch")
    fastnn.seed(0)
    model, data = nn.Sequential(nn.Flatten(), nn.Linear(48, 10)), photos(20, shape=(3, 4, 4))
    t = Trainer(model, optim.SGD(model.parameters(), 0.05), normalize=Normalize.fit(data))
    before = t.predict(data)
    torch.from_dlpack(model[1].weight.detach()).normal_(generator=torch.Generator().manual_seed(1))
    after = t.predict(data)
    assert "frozen" in t.inference.form and not np.array_equal(before, after)
    np.testing.assert_allclose(after, eagerly(t, data), rtol=1e-4)


@pytest.mark.parametrize("change", ["a tied weight", "the order of layers", "a class"])
def test_what_a_model_is_made_of_is_predicted_with(change: str) -> None:
    fastnn.seed(0)
    first, second, third = (nn.Linear(48, 48) for _ in range(3))
    third.weight = first.weight
    model, data = nn.Sequential(nn.Flatten(), first, nn.Sigmoid(), nn.Tanh(), second, nn.ReLU(), third), photos(20, shape=(3, 4, 4))
    t = trainer(model.to(DEVICE), normalize=Normalize.fit(data))
    before = t.predict(data)
    if change == "a tied weight":
        third.weight = second.weight
    elif change == "a class":
        model[5].__class__ = nn.SiLU
    else:
        for name, layer in list(model._modules.items())[2:3] + list(model._modules.items())[4:]:  # Tanh comes before Sigmoid then
            delattr(model, name)
            setattr(model, name, layer)
    after = t.predict(data)
    assert not np.array_equal(before, after)
    np.testing.assert_allclose(after, eagerly(t, data), rtol=1e-4)
