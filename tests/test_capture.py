"""fastnn.capture: a replayed step has the bits of the eager one, and what changes between steps is seen."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from captured_steps import DEVICE, NETS, OPTIMIZERS, Training, compare

import fastnn
from fastnn import _C, nn, optim
from fastnn.optim import EMA, Lookahead, clip_grad_norm_

pytestmark = pytest.mark.usefixtures("without_memory_checks")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("net", NETS)
def test_twenty_steps_have_the_same_bits(net: str, optimizer: str) -> None:
    compare(20 if DEVICE == "cpu" else 5, net=net, optimizer=optimizer)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_for_any_number_of_threads(count: int, threads: None) -> None:
    _C.set_num_threads(1)
    a, b = Training("resnet20", batch=8), Training("resnet20", batch=8)
    expected = a.run(a.step, 6)
    _C.set_num_threads(count)
    assert b.run(fastnn.capture(b.step), 6) == expected


def test_on_each_instruction_set(isa: str) -> None:
    compare(5, net="lenet", optimizer="adam")


# --- what the host does in a step goes on


def test_clipping_averages_and_slow_weights() -> None:
    def build() -> tuple[Training, Callable[..., Any], EMA]:
        t = Training(optimizer="adam")
        t.optimizer = Lookahead(t.optimizer, k=3, alpha=lambda step: 1 / (1 + step))
        average = EMA(t.model, 0.9, every=2, start=1)

        def step(x: fastnn.Tensor, labels: fastnn.Tensor) -> tuple[fastnn.Tensor, fastnn.Tensor]:
            t.optimizer.zero_grad()
            logits = t.model(x)
            loss = t.loss(logits, labels)
            loss.backward()
            clip_grad_norm_(t.model.parameters(), 0.5)
            t.optimizer.step()
            average.update()
            return loss, logits

        return t, step, average

    (a, eager, average), (b, step, other) = build(), build()
    assert a.run(eager, 9) == b.run(fastnn.capture(step), 9)
    assert average.calls == other.calls == 9 and average.updates == other.updates == 4
    for x, y in zip(average._averages, other._averages):
        assert x.numpy().tobytes() == y.numpy().tobytes()


def test_averages_in_the_middle_of_a_step_are_refused() -> None:
    t = Training()
    average = EMA(t.model)

    def step(x: fastnn.Tensor, labels: fastnn.Tensor) -> fastnn.Tensor:
        average.update()
        return t.step(x, labels)[0]

    with pytest.raises(_C.CaptureError, match="call them last"):
        fastnn.capture(step)(*t.data[0])
    assert average.calls == 0


def test_update_ratios_are_those_of_the_last_step() -> None:
    a, b = Training(), Training()
    a.optimizer.measure_updates = b.optimizer.measure_updates = True
    captured = fastnn.capture(b.step)
    for i in range(5):
        a.call(a.step, *a.data[i % 3]), b.call(captured, *b.data[i % 3])
        assert a.optimizer.update_ratios() == b.optimizer.update_ratios()


def test_an_optimizer_stepped_twice_in_a_step() -> None:
    def twice(t: Training) -> Callable[..., Any]:
        def step(x: fastnn.Tensor, labels: fastnn.Tensor) -> tuple[fastnn.Tensor, fastnn.Tensor]:
            t.step(x, labels)
            return t.step(x, labels)

        return step

    a, b = Training(optimizer="adam"), Training(optimizer="adam")
    captured = fastnn.capture(twice(b))
    assert a.run(twice(a), 5) == b.run(captured, 5)
    assert b.optimizer.steps == 10


def test_a_state_loaded_between_steps_is_used() -> None:
    """load_state_dict gives the optimizer other arrays: the list of old ones is not run again."""
    a, b = Training(optimizer="adam"), Training(optimizer="adam")
    captured = fastnn.capture(b.step)
    a.run(a.step, 4), b.run(captured, 4)
    for t in (a, b):
        t.optimizer.load_state_dict(t.optimizer.state_dict())
        t.model.load_state_dict(t.model.state_dict())
    assert a.run(a.step, 5) == b.run(captured, 5)


def test_saved_arrays_of_older_operations_notice_a_replay() -> None:
    t = Training()
    captured = fastnn.capture(t.step)
    t.run(captured, 3)
    loss = t.loss(t.model(t.data[0][0]), t.data[0][1])
    captured(*t.data[0])
    with pytest.raises(RuntimeError, match="overwritten after the forward pass"):
        loss.backward()


@pytest.mark.parametrize("rows", [2, 5])
def test_saved_gradients_notice_a_replay_of_another_shape(rows: int) -> None:
    """All recordings of a step write to one memory."""
    layer, scale = nn.Linear(3, 3), fastnn.tensor(np.ones((3, 3), np.float32), requires_grad=True)

    @fastnn.capture
    def step(x: fastnn.Tensor) -> fastnn.Tensor:
        layer.zero_grad()
        loss = (layer(x) ** 2).sum()
        loss.backward()
        return loss

    few, many = fastnn.tensor(np.ones((2, 3))), fastnn.tensor(np.ones((5, 3)))
    step(many), step(few)
    z = (scale * layer.weight.grad).sum()
    step(few if rows == 2 else many)
    with pytest.raises(RuntimeError, match="overwritten after the forward pass"):
        z.backward()


def test_gradients_hold_the_last_step() -> None:
    a, b = Training(), Training()
    captured = fastnn.capture(b.step)
    a.run(a.step, 4), b.run(captured, 4)
    for p in b.model.parameters():
        p.grad = None
    a.call(a.step, *a.data[0]), b.call(captured, *b.data[0])
    for p, q in zip(a.model.parameters(), b.model.parameters()):
        assert p.grad is not None and q.grad is not None and p.grad.numpy().tobytes() == q.grad.numpy().tobytes()


def test_gradients_that_a_step_does_not_touch_stay() -> None:
    """A forward pass alone leaves them; those that the step forgets and does not make anew are gone."""
    t = Training()
    look = fastnn.capture(lambda x: t.model(x))
    x, labels = t.data[0]
    look(x)
    t.loss(t.model(x), labels).backward()
    look(x)
    assert all(p.grad is not None for p in t.model.parameters())

    used, unused = nn.Linear(3, 2), nn.Linear(3, 2)
    optimizer = optim.SGD([*used.parameters(), *unused.parameters()], 0.1)

    @fastnn.capture
    def step(x: fastnn.Tensor) -> fastnn.Tensor:
        optimizer.zero_grad()
        loss = used(x).sum()
        loss.backward()
        return loss

    x = fastnn.tensor(np.ones((4, 3), np.float32))
    step(x)
    unused(x).sum().backward()
    step(x)
    assert unused.weight.grad is None and used.weight.grad is not None and step._takes[0].runs == 2


def test_a_gradient_that_is_assigned() -> None:
    def run(captured: bool) -> list[bytes]:
        w = fastnn.tensor(np.ones((3, 2), np.float32), requires_grad=True)
        optimizer = optim.SGD([w], 0.1)

        def step(x: fastnn.Tensor) -> fastnn.Tensor:
            with fastnn.no_grad():
                error = x @ w
                w.grad = fastnn.ops.transpose(x, None) @ error
            optimizer.step()
            return error

        one = fastnn.capture(step) if captured else step
        rng, seen = np.random.default_rng(0), []
        for _ in range(3):
            one(fastnn.tensor(rng.standard_normal((4, 3), np.float32)))
            assert w.grad is not None
            seen += [w.numpy().tobytes(), w.grad.numpy().tobytes()]
        return seen

    assert run(True) == run(False)


# --- keys


def test_shapes_modes_and_frozen_weights_make_other_recordings() -> None:
    def changes(t: Training, step: Callable[..., Any]) -> list[Any]:
        seen = []
        x, labels = t.data[0]
        small = fastnn.tensor(x.numpy()[:3], device=DEVICE), fastnn.tensor(labels.numpy()[:3])
        first = next(iter(t.model.parameters()))
        for i in range(24):
            t.model.train(i % 4 != 1)
            first.requires_grad = i % 4 != 2
            loss, logits = t.call(step, *(small if i % 4 == 3 else (x, labels)))
            seen.append((loss.numpy().tobytes(), logits.numpy().tobytes(), t.state()))
        return seen

    a, b = Training(), Training()
    captured = fastnn.capture(b.step)
    assert changes(a, a.step) == changes(b, captured)
    assert len(captured._takes) == 4 and all(take.runs == 6 for take in captured._takes)


def test_precision_and_threads_make_other_recordings(threads: None) -> None:
    t = Training()
    captured = fastnn.capture(t.step)
    t.run(captured, 3)
    assert captured._takes[0].runs == 3
    _C.set_num_threads(_C.get_num_threads() + 1)
    t.run(captured, 1)
    assert captured._takes[0].runs == 1
    before = _C.get_precision()
    try:
        _C.set_precision("medium")
        t.run(captured, 1)
        assert captured._takes[0].runs == 1
    finally:
        _C.set_precision(before)


def test_parameters_that_change_groups_and_come_back() -> None:
    def run(captured: bool) -> bytes:
        fastnn.seed(0)
        layer, x = nn.Linear(3, 2), fastnn.tensor(np.ones((4, 3), np.float32))
        w, b = layer.parameters()
        optimizer = optim.SGD([{"params": [w], "lr": 0.1}, {"params": [b], "lr": 0.0}])

        def step(x: fastnn.Tensor) -> None:
            optimizer.zero_grad()
            (layer(x) ** 2).sum().backward()
            optimizer.step()

        one = fastnn.capture(step) if captured else step
        for first, second in (([w], [b]), ([], [w, b]), ([w], [b])):
            for group, params in zip(optimizer.param_groups, (first, second)):
                group["params"] = params
            one(x)
        return w.numpy().tobytes()

    assert run(True) == run(False)


def test_tensors_that_no_module_has_are_looked_at() -> None:
    """One that is trained from some step on."""

    def run(captured: bool) -> list[bytes]:
        rng = np.random.default_rng(0)
        w, v = (fastnn.tensor(rng.standard_normal(shape, np.float32), requires_grad=True) for shape in ((3, 2), (2, 2)))
        optimizer = optim.SGD([w, v], 0.01)

        def step(x: fastnn.Tensor) -> None:
            optimizer.zero_grad()
            (((x @ w) @ v) ** 2).sum().backward()
            optimizer.step()

        one = fastnn.capture(step) if captured else step
        for i in range(4):
            v.requires_grad = i > 1
            one(fastnn.tensor(rng.standard_normal((4, 3), np.float32)))
        return [w.numpy().tobytes(), v.numpy().tobytes()]

    assert run(True) == run(False)


@pytest.mark.parametrize(
    "operation",
    [lambda x, w: x * w, lambda x, w: x @ w, lambda x, w: fastnn.ops.where(x > 0.5, x, w)],
    ids="elementwise matmul where".split(),
)
def test_a_tensor_that_only_enters_operations_wants_a_gradient_from_now_on(operation: Callable[..., fastnn.Tensor]) -> None:
    """A step that does not clear it is refused then, where its replay would go on without it; one that does is recorded anew."""
    v, w = (fastnn.tensor(np.full((3, 3), value, np.float32)) for value in (1, 2))
    v.requires_grad = True

    def step(x: fastnn.Tensor) -> fastnn.Tensor:
        for leaf in (v, w) if clears else (v,):
            leaf.grad = None
        loss = operation(x * v, w).sum()
        loss.backward()
        return loss

    x = fastnn.tensor(np.ones((3, 3), np.float32))
    clears = False
    careless = fastnn.capture(step)
    careless(x), careless(x)
    w.requires_grad = True
    with pytest.raises(_C.CaptureError, match=r"the gradient of a tensor of shape \(3, 3\) was made outside of the step"):
        careless(x)
    w.requires_grad = False
    careless(x)
    assert w.grad is None
    clears, careful, wanted = True, fastnn.capture(step), []
    for wants in (False, True, False, True):
        w.requires_grad = wants
        careful(x)
        wanted.append(w.grad is not None)
    assert wanted == [False, True, False, True] and len(careful._takes) == 2


def test_a_layer_that_is_not_called_is_looked_at() -> None:
    """Its arrays are others once its type was changed, and changed back."""
    layer, x = nn.Linear(3, 2).requires_grad_(False), fastnn.tensor(np.ones((1, 3), np.float32))
    captured = fastnn.capture(lambda x: fastnn.ops.linear(x, layer.weight, layer.bias))
    assert np.array_equal(captured(x).numpy(), layer(x).numpy()) and np.array_equal(captured(x + 1.0).numpy(), layer(x + 1.0).numpy())
    assert captured._takes[0].runs == 2, "arguments are others each time"
    layer.double(), layer.float()
    layer.weight.copy_from(np.full((2, 3), 7, np.float32))
    assert np.array_equal(captured(x).numpy(), layer(x).numpy())


def test_a_gradient_as_an_argument(threads: None) -> None:
    """It lies in the recording's memory, where other arguments are copied to."""
    _C.set_num_threads(1)  # what lies where depends on it
    rng = np.random.default_rng(0)

    def run(captured: bool, d: int, h: int, k: int, n: int, verify: int = 0) -> list[float]:
        fastnn.seed(0)
        model = nn.Sequential(nn.Linear(d, h), nn.ReLU(), nn.Linear(h, k))
        optimizer = optim.SGD(model.parameters(), 0.01)
        values = np.random.default_rng(1)

        def step(noise: fastnn.Tensor, x: fastnn.Tensor, before: fastnn.Tensor) -> fastnn.Tensor:
            optimizer.zero_grad()
            (model(fastnn.ops.tanh(x + noise)) ** 2).mean().backward()
            optimizer.step()
            return (before * before).sum()

        one, before, seen = fastnn.capture(step, verify=verify) if captured else step, fastnn.tensor(np.zeros((h, d), np.float32)), []
        for _ in range(3):
            seen.append(one(*(fastnn.tensor(values.standard_normal((n, d), np.float32)) for _ in range(2)), before).item())
            assert model[0].weight.grad is not None
            before = model[0].weight.grad
        return seen

    for shapes in [(23, 35, 2, 3), (28, 4, 12, 29), *rng.integers(1, 40, (20, 4)).tolist()]:
        assert run(True, *shapes) == run(True, *shapes, verify=2) == run(False, *shapes), shapes


def test_the_number_of_recordings_is_bounded() -> None:
    captured = fastnn.capture(lambda x, factor: x * factor)
    x = fastnn.tensor(np.ones(3, np.float32))
    for factor in range(20):
        for _ in range(3):
            assert captured(x, float(factor)).numpy().tolist() == [factor] * 3
    assert len(captured._takes) <= 8


def test_the_same_array_twice_is_not_two_arrays() -> None:
    captured = fastnn.capture(lambda a, b: a * 2.0 + b)
    a, b = fastnn.tensor(np.ones(3, np.float32)), fastnn.tensor(np.full(3, 5, np.float32))
    for _ in range(3):
        assert captured(a, a).numpy().tolist() == [3] * 3
    for _ in range(3):
        assert captured(a, b).numpy().tolist() == [7] * 3


def test_results_keep_their_structure() -> None:
    def step(x: fastnn.Tensor, scale: float = 1.0) -> dict[str, Any]:
        return {"sum": x.sum(), "both": (x, [x * scale, None]), "scale": scale}

    captured = fastnn.capture(step)
    for i in range(4):
        got = captured(fastnn.tensor(np.full(3, i, np.float32)), scale=2.0)
        assert got["sum"].item() == 3 * i and got["both"][0].numpy().tolist() == [i] * 3 and got["scale"] == 2.0
        assert got["both"][1][0].numpy().tolist() == [2 * i] * 3 and got["both"][1][1] is None


class Pair(NamedTuple):
    first: Any
    second: Any


def test_a_named_tuple_is_one() -> None:
    captured = fastnn.capture(lambda x: Pair(x * 2.0, second=[x * 3.0]))
    for _ in range(2):
        result = captured(fastnn.tensor([1.0]))
        assert type(result) is Pair and result.first.item() == 2 and result.second[0].item() == 3


def test_dicts_of_other_kinds_are_of_that_kind() -> None:
    captured = fastnn.capture(lambda x: [OrderedDict(a=x * 2.0), defaultdict(list, a=x * 3.0), Counted({"a": x})])
    for _ in range(2):
        ordered, defaults, counted = captured(fastnn.tensor([1.0]))
        assert type(ordered) is OrderedDict and ordered["a"].item() == 2 and type(counted) is Counted
        assert type(defaults) is defaultdict and defaults["a"].item() == 3 and defaults["b"] == []


class Counted(dict[str, Any]): ...


class Own(tuple[Any, ...]):
    def __new__(cls, first: Any, second: Any) -> Own:
        return super().__new__(cls, (first, second))


def test_a_tuple_made_in_a_way_of_its_own_is_refused() -> None:
    with pytest.raises(_C.CaptureError, match="the step returns a Own, which is made in a way of its own; expected a tuple"):
        fastnn.capture(lambda x: Own(x, x))(fastnn.tensor([1.0]))


def test_numbers_that_are_equal_and_not_the_same() -> None:
    captured = fastnn.capture(lambda x, s: x / s)
    for number, expected in ((0.0, np.inf), (-0.0, -np.inf), (0, np.inf), (2, 0.5), (2.0, 0.5), (True, 1.0)):
        assert captured(fastnn.tensor([1.0]), number).item() == expected
    for _ in range(3):
        assert np.isnan(captured(fastnn.tensor([1.0]), float("nan")).item())
    assert captured._takes[0].runs == 3


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int64, np.uint8, np.bool_])
def test_numbers_of_numpy(kind: Any) -> None:
    captured = fastnn.capture(lambda x, s: (x * float(s), s))
    for number in (kind(2), kind(1), kind(2), kind(0)):
        y, returned = captured(fastnn.tensor([3.0]), number)
        assert y.item() == 3.0 * float(number) and returned == number and type(returned) is kind
    assert len(captured._takes) == (2 if kind is np.bool_ else 3) and captured(fastnn.tensor([3.0]), float(kind(1)))[0].item() == 3


@pytest.mark.parametrize("verify", [0, 1])
@pytest.mark.parametrize("number", [float("nan"), np.float32("nan"), -0.0, 3])
def test_a_number_made_anew_in_each_step(number: Any, verify: int) -> None:
    made = [type(number)(str(number)) for _ in range(8)]
    captured = fastnn.capture(lambda x: {"y": x * 2.0, "number": made.pop()}, verify=verify)
    for _ in range(3):
        result = captured(fastnn.tensor([3.0]))
        assert repr(result["number"]) == repr(number) and type(result["number"]) is type(number)


def test_a_result_with_another_sign_of_zero_is_another() -> None:
    zeros = [0.0, -0.0]
    with pytest.raises(_C.CaptureError, match="they return something else"):
        fastnn.capture(lambda x: (x, zeros.pop()))(fastnn.tensor([1.0]))
