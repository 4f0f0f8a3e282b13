"""What activation_statistics says of each layer, against numpy; and that it leaves the model alone."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_calls import GPUS

import fastnn
from fastnn import models, nn, ops, optim, train

RNG = np.random.default_rng(1)
X = RNG.standard_normal((12, 3, 8, 8)).astype(np.float32)


def net() -> nn.Sequential:
    fastnn.seed(2)
    front = (nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5), nn.MaxPool2d(2))
    return nn.Sequential(*front, nn.Flatten(), nn.Linear(96, 20), nn.Tanh(), nn.Linear(20, 20), nn.Sigmoid(), nn.Linear(20, 4))


def outputs(model: nn.Sequential, x: fastnn.Tensor) -> list[np.ndarray]:
    """Of each layer, called by itself."""
    found = []
    with fastnn.no_grad():
        for layer in model:
            x = layer(x)
            found.append(np.array(x.numpy(), np.float64))
    return found


def standing(model: nn.Module) -> tuple[Any, ...]:
    state = [(name, value.tobytes()) for name, value in model.state_dict().items()]
    gradients = [None if p.grad is None else p.grad.numpy().tobytes() for p in model.parameters()]
    modes, hooks = [m.training for m in model.modules()], [list(map(id, m._hooks)) for m in model.modules()]
    return state, gradients, modes, hooks, fastnn.random.default_generator().draw, [id(b) for b in model.buffers()]


def test_figures_are_numpys() -> None:
    model = net()
    model[2].register_forward_hook(lambda module, args, output: None)
    before = standing(model)
    found = train.activation_statistics(model, fastnn.tensor(X), bins=7)
    assert standing(model) == before and model.training
    expected = outputs(model.eval(), fastnn.tensor(X))
    assert [one.name for one in found] == [str(i) for i in range(11)] and len(found) == 11
    for one, y, layer in zip(found, expected, model):
        assert one.layer == type(layer).__name__ and one.shape == y.shape and one.nans == one.infinities == one.outside == 0
        assert np.allclose([one.mean, one.std, one.least, one.greatest], [y.mean(), y.std(), y.min(), y.max()], rtol=1e-5, atol=1e-7)
        assert one.zeros == pytest.approx((y == 0).mean(), abs=2e-3)
        counts, edges = np.histogram(y, 7)
        assert np.allclose(one.edges, edges, rtol=1e-5, atol=1e-6) and one.counts.sum() == y.size and np.abs(one.counts - counts).max() <= 2
    assert 0.2 < found["2"].zeros < 0.8 and found["2"].least == 0


def test_saturation_of_tanh_and_sigmoid() -> None:
    z = np.linspace(-6, 6, 4001).astype(np.float32)[:, None]
    found = train.activation_statistics(nn.Sequential(nn.Tanh(), nn.Identity()), fastnn.tensor(z))
    assert found["0"].saturated == (np.abs(np.tanh(z.astype(np.float64))) > 0.97).mean() and found["1"].saturated is None
    found = train.activation_statistics(nn.Sigmoid(), fastnn.tensor(z), saturation=0.9)
    y = 1 / (1 + np.exp(-z.astype(np.float64)))
    assert found["Sigmoid"].saturated == ((y > 0.95) | (y < 0.05)).mean()


def test_dead_units_by_layer_and_channel() -> None:
    model = net()
    with fastnn.no_grad():
        model[1].bias.copy_from(np.array([0, -100, 0, -100, 0, 0], np.float32))
    found = train.activation_statistics(model, fastnn.tensor(X))
    assert found.dead == {"2": [1, 3], "3": [1, 3], "4": [1, 3], "5": [c * 16 + i for c in (1, 3) for i in range(16)]}
    assert "2: dead channels 1, 3" in str(found) and "2 of 6" in str(found) and "38 dead channels" in repr(found)
    rows = train.activation_statistics(nn.ReLU(), fastnn.tensor(np.array([[[1.0, 0.0, -1.0]], [[2.0, 0.0, 0.0]]], np.float32)))
    assert rows["ReLU"].dead == [1, 2] and rows["ReLU"].channels == 3  # (N, T, K): the last
    one_alive = np.zeros((4, 2, 3, 3), np.float32)
    one_alive[3, 1, 2, 2] = 1
    assert train.activation_statistics(nn.ReLU(), fastnn.tensor(one_alive))["ReLU"].dead == [0]


def test_what_is_no_number_is_counted_and_left_out() -> None:
    x = np.array([[1.0, np.nan, 2.0], [np.inf, -np.inf, 3.0]], np.float32)
    found = train.activation_statistics(nn.Identity(), fastnn.tensor(x), bins=2)["Identity"]
    assert (found.nans, found.infinities, found.mean, found.least, found.greatest) == (1, 2, 2.0, 1.0, 3.0)
    assert found.counts.tolist() == [1, 2] and found.std == pytest.approx(np.sqrt(2 / 3))
    none = train.activation_statistics(nn.Identity(), fastnn.tensor(np.full((2, 2), np.nan, np.float32)))
    assert np.isnan(none["Identity"].mean) and none["Identity"].counts.sum() == 0 and "4 NaN, 0 infinite" in str(none)


def test_limits_are_the_same_bins_for_all_and_count_what_lies_outside() -> None:
    model = net().eval()
    found = train.activation_statistics(model, fastnn.tensor(X), bins=10, limits=(-1, 1))
    for one, y in zip(found, outputs(model, fastnn.tensor(X))):
        assert np.allclose(one.edges, np.linspace(-1, 1, 11)) and one.outside == y.size - one.counts.sum()
        assert one.outside == ((y < -1) | (y > 1)).sum()


@pytest.mark.parametrize(
    "values", [[1, 1 + 2.3e-16], [1e20] * 3, [0.0, 5e-324], [-1.7e308, 1.7e308, 0.0], [1e300, 1e300], [0.0, 0.0], [3.0]]
)
def test_any_values_have_a_histogram(values: list[float]) -> None:
    found = train.activation_statistics(nn.Identity(), fastnn.tensor(np.array([values]), dtype="float64"))["Identity"]
    assert len(found.counts) == 50 and (np.diff(found.edges) > 0).all() and found.counts.sum() + found.outside == len(values)
    assert found.outside == (2 if max(values) == 1.7e308 else 0)


def test_limits_without_room_are_refused() -> None:
    for limits in ((1e20, 1e20 + 2**14), (1.0, 1.0), (-1.7e308, 1.7e308)):
        with pytest.raises(ValueError, match="limits must"):
            train.activation_statistics(nn.Identity(), fastnn.tensor(X), limits=limits)


def test_training_mode_uses_the_batch_and_drops_and_leaves_no_trace() -> None:
    model = net().eval()
    before = standing(model)
    found = train.activation_statistics(model, fastnn.tensor(X * 5 + 3), training=True)
    assert standing(model) == before
    assert found["1"].mean == pytest.approx(0, abs=1e-4) and found["1"].std == pytest.approx(1, abs=1e-3)
    assert found["3"].zeros > found["2"].zeros + 0.1
    assert train.activation_statistics(model, fastnn.tensor(X * 5 + 3), training=True)["3"].mean == found["3"].mean
    model.train()
    model[1].eval()  # a frozen part stays so, as in fit
    assert abs(train.activation_statistics(model, fastnn.tensor(X * 5 + 3), training=True)["1"].mean) > 1e-3


class Fails(nn.Module):
    def forward(self, x: Any) -> Any:
        raise ValueError("no")


@pytest.mark.parametrize("training", [True, False])
def test_after_an_error_the_model_is_as_it_was(training: bool) -> None:
    model = nn.Sequential(*net(), Fails())
    model[6].weight.grad = fastnn.tensor(np.ones((20, 96), np.float32))
    before = standing(model)
    with pytest.raises(ValueError, match="no"):
        train.activation_statistics(model, fastnn.tensor(X), training=training)
    assert standing(model) == before


def test_chosen_layers_and_layers_that_run_twice() -> None:
    model = net()
    found = train.activation_statistics(model, fastnn.tensor(X), layers=["7", "", "2"])
    assert [one.name for one in found] == ["2", "7", ""] and found[""].shape == (12, 4)

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu, self.fc, self.idle = nn.ReLU(), nn.Linear(4, 4), nn.Tanh()

        def forward(self, x: Any) -> Any:
            return self.relu(self.fc(self.relu(x)))

    names = [one.name for one in train.activation_statistics(Twice(), fastnn.tensor(np.ones((2, 4), np.float32)))]
    assert names == ["relu", "fc", "relu (2)"]
    with pytest.raises(ValueError, match="layers: forward did not call 'idle'; expected"):
        train.activation_statistics(Twice(), fastnn.tensor(np.ones((2, 4), np.float32)), layers=["fc", "idle"])
    with pytest.raises(ValueError, match="layers: there is no '77'; there are '', '0', '1'"):
        train.activation_statistics(model, fastnn.tensor(X), layers=["77"])
    with pytest.raises(KeyError, match="there is no layer '9'; there are 2, 7"):
        train.activation_statistics(model, fastnn.tensor(X), layers=["2", "7"])["9"]


def test_layers_that_give_indices_and_integers() -> None:
    class Argmax(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.argmax(1)

    class Pools(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool, self.best = nn.MaxPool2d(2, return_indices=True), Argmax()

        def forward(self, x: Any) -> Any:
            return self.best(ops.reshape(self.pool(x)[0], (12, 48)))

    found = train.activation_statistics(Pools(), fastnn.tensor(X))
    assert [one.name for one in found] == ["pool"] and found["pool"].shape == (12, 3, 4, 4)
    with pytest.raises(TypeError, match="layers: 'best' \\(Argmax\\) gave .*; expected layers that give a Tensor of floats"):
        train.activation_statistics(Pools(), fastnn.tensor(X), layers=["best"])


@pytest.mark.usefixtures("without_memory_checks")
def test_a_fit_that_looks_at_its_activations_has_the_same_bits() -> None:
    class Looks(train.Callback):
        seen = 0

        def after_step(self, trainer: train.Trainer, loss: float) -> None:
            self.seen += len(train.activation_statistics(trainer.model, fastnn.tensor(X), training=True))
            train.activation_statistics(trainer.model, fastnn.tensor(X))

    labels = np.arange(12) % 4
    trained = []
    for callbacks in ([Looks()], []):
        model = net()
        trainer = train.Trainer(model, optim.Adam(model.parameters(), 1e-3))
        trainer.fit((X, labels), 3, batch_size=4, callbacks=callbacks, progress=False, replay=True)
        trained.append({name: value.tobytes() for name, value in model.state_dict().items()})
        assert trainer.replayed.startswith("replayed")
    assert trained[0] == trained[1]


def test_another_threads_fit_is_not_disturbed() -> None:
    found: list[str] = []

    class Asks(train.Callback):
        def after_step(self, trainer: train.Trainer, loss: float) -> None:
            def look() -> None:
                with pytest.raises(RuntimeError) as caught:
                    train.activation_statistics(trainer.model, fastnn.tensor(X))
                found.append(str(caught.value))

            thread = threading.Thread(target=look)
            thread.start()
            thread.join()

    model = net()
    trainer = train.Trainer(model, optim.SGD(model.parameters(), 0.1))
    trainer.fit((X, np.arange(12) % 4), 1, callbacks=[Asks()], progress=False)
    assert found and all("activation_statistics: the model is in use by fit" in text for text in found)


def test_bfloat16_and_residual_blocks() -> None:
    model = models.create("resnet20", input_shape=(3, 8, 8), num_classes=10)
    wide = train.activation_statistics(model, fastnn.tensor(X))
    narrow = train.activation_statistics(model, ops.cast(fastnn.tensor(X), "bfloat16"))
    assert [one.name for one in wide] == [one.name for one in narrow] and len(wide) > 40
    assert all(abs(a.std - b.std) < 0.05 * a.std + 1e-3 for a, b in zip(wide, narrow))


@pytest.mark.parametrize("gpu", GPUS)
def test_on_a_gpu(gpu: str) -> None:
    model = net()
    here = train.activation_statistics(model, fastnn.tensor(X))
    there = train.activation_statistics(model.to(gpu), fastnn.tensor(X, device=gpu))
    assert all(abs(a.mean - b.mean) < 1e-4 for a, b in zip(here, there))


def test_the_lectures_initialisations() -> None:
    """CS231n, lecture 6: at 0.01 activations of tanh vanish, at 1 they saturate, Xavier keeps them; a ReLU wants Kaiming."""
    x = fastnn.tensor(RNG.standard_normal((64, 200)).astype(np.float32))

    def last(kind: type[nn.Module], std: float) -> Any:
        fastnn.seed(0)
        model = nn.Sequential(*[layer for _ in range(6) for layer in (nn.Linear(200, 200, bias=False), kind())])
        for layer in model:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0, std)
        return train.activation_statistics(model, x)["11"]

    assert last(nn.Tanh, 0.01).std < 1e-4 and last(nn.Tanh, 1.0).saturated > 0.7
    xavier = last(nn.Tanh, 200**-0.5)
    assert xavier.std > 0.2 and xavier.saturated < 0.05
    assert last(nn.ReLU, 200**-0.5).std < 0.2 < 0.4 < last(nn.ReLU, (2 / 200) ** 0.5).std


def test_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = train.activation_statistics(net(), fastnn.tensor(X))
    found.plot(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    train.ActivationStatistics([]).plot(tmp_path / "none.svg")
    assert str(train.ActivationStatistics([])).startswith("layer")
