"""fastnn.capture: a replayed step has the bits of the eager one; what cannot be replayed is refused with the line; plans of memory."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import kernel_calls
import numpy as np
import pytest
from conftest import SEED

import fastnn
from fastnn import _C, models, nn, optim
from fastnn.optim import EMA, Lookahead, clip_grad_norm_

DEVICE = kernel_calls.DEVICES[-1]


@pytest.fixture(autouse=True)
def no_memory_checks() -> Iterator[None]:
    """With them on, captured steps run eagerly."""
    _C.set_memory_checks(False)
    yield
    _C.set_memory_checks(True)
    gc.collect()  # steps that name their own capture: their arenas go now


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(),
        nn.Linear(54, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 10),
    )  # fmt: skip


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: models.create("mlp", input_shape=(1, 8, 8), hidden=(24, 16)), (1, 8, 8)),
    "lenet": (lenet, (1, 12, 12)),
    "resnet20": (lambda: models.create("resnet20", input_shape=(3, 8, 8)), (3, 8, 8)),
}
OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "sgd": lambda p: optim.SGD(p, lambda step: 0.05 / (1 + step % 3), momentum=0.9, weight_decay=1e-3),
    "adam": lambda p: optim.Adam(p, lambda step: 1e-2 * 0.9**step),
}


class Training:
    """A model with its optimizer and data; `step` is what is captured."""

    def __init__(self, net: str = "lenet", optimizer: str = "sgd", batch: int = 5) -> None:
        make, shape = NETS[net]
        fastnn.seed(3)
        self.model = make().to(DEVICE)
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.loss = nn.CrossEntropyLoss()
        rng = np.random.default_rng(0)
        self.data = [
            (fastnn.tensor(rng.standard_normal((batch, *shape), np.float32), device=DEVICE), fastnn.tensor(rng.integers(0, 10, batch)))
            for _ in range(3)
        ]
        self.generator = fastnn.Generator(4)

    def step(self, x: fastnn.Tensor, labels: fastnn.Tensor) -> tuple[fastnn.Tensor, fastnn.Tensor]:
        self.optimizer.zero_grad()
        logits = self.model(x)
        loss = self.loss(logits, labels)
        loss.backward()
        self.optimizer.step()
        return loss, logits

    def state(self) -> list[bytes]:
        """Everything that a step changes, and the gradients."""
        arrays = [*self.model.state_dict().values(), *map(np.asarray, self.optimizer.state_dict().values())]
        arrays += [p.grad.numpy() for p in self.model.parameters() if p.grad is not None]
        return [np.ascontiguousarray(a).tobytes() for a in arrays] + [str(self.generator.draw).encode()]

    def call(self, step: Callable[..., Any], *arguments: Any) -> Any:
        with fastnn.random.using(self.generator):
            return step(*arguments)

    def run(self, step: Callable[..., Any], steps: int) -> list[Any]:
        seen = []
        for i in range(steps):
            loss, logits = self.call(step, *self.data[i % 3])
            seen.append((loss.numpy().tobytes(), logits.numpy().tobytes(), self.state()))
        return seen


def compare(steps: int, **arguments: Any) -> fastnn.captured.Captured:
    """The same steps eagerly and captured."""
    a, b = Training(**arguments), Training(**arguments)
    captured = fastnn.capture(b.step)
    expected, got = a.run(a.step, steps), b.run(captured, steps)
    for i, (e, g) in enumerate(zip(expected, got)):
        assert e == g, f"step {i}"
    assert captured.kernels, "nothing was recorded"
    assert captured._takes[0].runs == steps, "it did not replay"
    return captured


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


def test_gradients_hold_the_last_step() -> None:
    a, b = Training(), Training()
    captured = fastnn.capture(b.step)
    a.run(a.step, 4), b.run(captured, 4)
    for p in b.model.parameters():
        p.grad = None
    a.call(a.step, *a.data[0]), b.call(captured, *b.data[0])
    for p, q in zip(a.model.parameters(), b.model.parameters()):
        assert p.grad is not None and q.grad is not None and p.grad.numpy().tobytes() == q.grad.numpy().tobytes()


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


# --- refusals


def unchanged(t: Training, before: list[bytes]) -> bool:
    """But for the gradients, which zero_grad had forgotten."""
    gradients = sum(p.grad is not None for p in t.model.parameters())
    own = len(list(t.model.parameters()))
    after = t.state()
    return after[: len(after) - 1 - gradients] == before[: len(before) - 1 - own] and after[-1] == before[-1]


LOOKS: list[Callable[[Training, fastnn.Tensor], object]] = [
    lambda t, loss: loss.item(),
    lambda t, loss: loss.numpy(),
    lambda t, loss: float(loss),
    lambda t, loss: bool(loss),
    lambda t, loss: fastnn.tensor([1.0]),
    lambda t, loss: np.asarray(loss),
    lambda t, loss: repr(loss),
    lambda t, loss: loss.argmax(),
    lambda t, loss: t.model.state_dict(),
    lambda t, loss: loss.copy_from(np.asarray(1.0)),
]


@pytest.mark.parametrize("look", LOOKS)
def test_looking_at_values_is_refused_with_the_line_and_undone(look: Callable[[Training, fastnn.Tensor], object]) -> None:
    """Also behind the optimizer's step, as most people write it."""
    t = Training(optimizer="adam")
    t.run(t.step, 1)
    before = t.state()

    def step(x: fastnn.Tensor, labels: fastnn.Tensor) -> fastnn.Tensor:
        loss, _ = t.step(x, labels)
        look(t, loss)
        return loss

    with pytest.raises(_C.CaptureError, match=r"while a step is recorded, at .*test_capture\.py:\d+: lambda t, loss"):
        t.call(fastnn.capture(step), *t.data[0])
    assert unchanged(t, before)
    assert t.data[0][0].numpy().size, "a recording is still under way"


def test_a_hook_is_refused() -> None:
    t = Training()
    t.model.register_forward_hook(lambda module, args, output: None)
    with pytest.raises(_C.CaptureError, match="Sequential has a forward hook.*test_capture"):
        fastnn.capture(t.step)(*t.data[0])


def test_a_hook_that_comes_later_is_refused() -> None:
    t = Training()
    captured = fastnn.capture(t.step)
    t.run(captured, 4)
    t.model.register_forward_hook(lambda module, args, output: None)
    with pytest.raises(_C.CaptureError, match="forward hook"):
        captured(*t.data[0])


def test_steps_that_differ_are_refused_by_their_first_difference() -> None:
    x = fastnn.tensor(np.ones(4, np.float32))
    count = iter(range(100))
    captured = fastnn.capture(lambda x: x * 2.0 if next(count) else x + 1.0)
    with pytest.raises(_C.CaptureError, match="entry 0 of the list is add in the first step and multiply in the second"):
        captured(x)

    exponents = iter([2.5, 3.5, 4.5])
    captured = fastnn.capture(lambda x: x ** next(exponents))
    with pytest.raises(_C.CaptureError, match="power, has other parameters"):
        captured(x)

    captured = fastnn.capture(lambda x: fastnn.ops.where(x > 0, x, Tensor(made())))
    made = iter([_C.from_numpy(np.full(4, i, np.float32)) for i in range(3)]).__next__
    Tensor = fastnn.Tensor
    with pytest.raises(_C.CaptureError, match=r"where, has as b an array of shape \(4,\) made outside of the step"):
        captured(x)


def test_gradients_that_pile_up_over_steps_are_refused() -> None:
    t = Training()

    def step(x: fastnn.Tensor, labels: fastnn.Tensor) -> fastnn.Tensor:
        loss = t.loss(t.model(x), labels)
        loss.backward()
        return loss

    step(*t.data[0])
    captured = fastnn.capture(step)
    kept = [p.grad.numpy().copy() for p in t.model.parameters() if p.grad is not None]
    with pytest.raises(_C.CaptureError, match="not the same"):
        captured(*t.data[0])
    assert len(kept) == 10 and all(p.grad is not None and np.array_equal(k, p.grad.numpy()) for k, p in zip(kept, t.model.parameters()))


def test_a_draw_of_another_generator_is_refused() -> None:
    other = fastnn.Generator(5)

    def step(x: fastnn.Tensor) -> fastnn.Tensor:
        with fastnn.random.using(other):
            return fastnn.ops.dropout(x, 0.5)

    captured = fastnn.capture(step)
    x = fastnn.tensor(np.ones(8, np.float32))
    with pytest.raises(_C.CaptureError, match="dropout, has other parameters.*generator"):
        captured(x)


def test_momentum_none_is_refused() -> None:
    norm = nn.BatchNorm1d(3, momentum=None)
    with pytest.raises(_C.CaptureError, match="looks at the values"):
        fastnn.capture(norm)(fastnn.tensor(np.ones((4, 3), np.float32)))


def test_another_thread_is_refused() -> None:
    t = Training()
    captured = fastnn.capture(t.step)
    errors: list[BaseException] = []

    def call() -> None:
        try:
            captured(*t.data[0])
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert isinstance(errors[0], RuntimeError) and "belongs to the thread" in str(errors[0])


def test_bad_arguments() -> None:
    with pytest.raises(TypeError, match="expected a function"):
        fastnn.capture(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="verify must not be negative"):
        fastnn.capture(lambda: None, verify=-1)
    with pytest.raises(TypeError, match="got ndarray; fastnn.tensor"):
        fastnn.capture(lambda x: x)(np.ones(3))
    with pytest.raises(_C.CaptureError, match="requires a gradient"):
        fastnn.capture(lambda x: x * 2.0)(fastnn.tensor(np.ones(3, np.float32), requires_grad=True))
    with pytest.raises(_C.CaptureError, match="returns a object"):
        fastnn.capture(lambda: object())()


def test_a_bad_label_is_found_before_anything_changes() -> None:
    t = Training(optimizer="adam")
    captured = fastnn.capture(t.step)
    t.run(captured, 4)
    before = t.state()
    wrong = fastnn.tensor(np.array([0, 1, 10, 2, 3]))
    with pytest.raises(ValueError, match=r"label 10 of sample 2 lies outside of \[0, 10\)"):
        captured(t.data[0][0], wrong)
    assert t.state() == before
    captured(*t.data[0])


def test_an_error_in_the_first_step_leaves_everything() -> None:
    t = Training(optimizer="adam")
    t.run(t.step, 1)
    before = t.state()

    def step(x: fastnn.Tensor, labels: fastnn.Tensor) -> None:
        t.step(x, labels)
        raise KeyError("of the user")

    with pytest.raises(KeyError, match="of the user"):
        t.call(fastnn.capture(step), *t.data[0])
    assert unchanged(t, before)


def test_with_the_profiler_on_it_runs_eagerly() -> None:
    a, b = Training(), Training()
    captured = fastnn.capture(b.step)
    expected = a.run(a.step, 6)
    got = b.run(captured, 4)
    with fastnn.profile() as kernels:
        got += b.run(lambda *_: captured(*b.data[1]), 1)
    got += b.run(lambda *_: captured(*b.data[2]), 1)
    assert got == expected and kernels["cross_entropy_forward"]["calls"] == 1
    assert captured._takes[0].runs == 5


# --- verify


def test_verify_goes_on_as_the_eager_step() -> None:
    a, b = Training("lenet", "adam"), Training("lenet", "adam")
    captured = fastnn.capture(b.step, verify=2)
    assert a.run(a.step, 9) == b.run(captured, 9)


def test_verify_finds_what_the_recording_did_not_see() -> None:
    t = Training()
    plain = [True]

    def step(x: fastnn.Tensor, labels: fastnn.Tensor) -> tuple[fastnn.Tensor, fastnn.Tensor]:
        return t.step(x if plain[0] else x * 2.0, labels)

    captured = fastnn.capture(step, verify=3)
    t.run(captured, 4)
    plain[0] = False
    t.run(captured, 1)
    with pytest.raises(RuntimeError, match="replay 6 and the eager step differ in array"):
        t.run(captured, 1)


# --- memory


def test_places_do_not_overlap_while_both_are_in_use() -> None:
    rng = np.random.default_rng(SEED)
    for _ in range(50):
        tenants = []
        for _ in range(int(rng.integers(1, 60))):
            first = int(rng.integers(0, 30))
            tenants.append((int(rng.integers(0, 5000)), first, first + int(rng.integers(0, 12))))
        for alignment in (64, 256):
            total, offsets = _C.place_all(tenants, alignment)
            ends = [offset + max(size, 1) for offset, (size, _, _) in zip(offsets, tenants)]
            for i, (_, first, last) in enumerate(tenants):
                assert offsets[i] % alignment == 0 and ends[i] <= total
                for j, (_, begin, end) in enumerate(tenants[:i]):
                    assert ends[i] <= offsets[j] or ends[j] <= offsets[i] or last < begin or end < first
            alive = max(sum(-(-max(s, 1) // alignment) * alignment for s, a, b in tenants if a <= t <= b) for t in range(45))
            assert alive <= total <= 1.5 * alive


def test_the_arena_is_known_before_the_first_replay_and_smaller_than_eager_memory() -> None:
    t, eager = Training("resnet20", batch=8), Training("resnet20", batch=8)
    captured = fastnn.capture(t.step)
    assert captured.memory == {} and "not recorded yet" in repr(captured)
    known: list[tuple[dict[str, int], bool]] = []
    before = [a.tobytes() for a in t.model.state_dict().values()]
    captured.announce = lambda: known.append((captured.memory, [a.tobytes() for a in t.model.state_dict().values()] == before))
    device = t.data[0][0].device
    eager.run(eager.step, 1)
    eager.optimizer.zero_grad()
    base = _C.memory_stats(device)["allocated"]
    _C.reset_peak_memory(device)
    eager.run(eager.step, 1)
    peak = _C.memory_stats(device)["peak"] - base
    t.run(captured, 2)
    memory = captured.memory
    assert known == [(memory, True)]
    assert memory["alive"] <= memory["arena"] <= 1.1 * memory["alive"] and memory["arena"] < peak
    assert f"{memory['arena'] / 2**20:.1f} MiB" in repr(captured)


def test_replays_allocate_nothing_but_results() -> None:
    t = Training("resnet20")
    captured = fastnn.capture(t.step)
    t.run(captured, 4)
    device = t.data[0][0].device
    before = _C.memory_stats(device)
    results = [captured(*t.data[0]) for _ in range(5)]
    after = _C.memory_stats(device)
    assert after["allocations"] - before["allocations"] == 2 * len(results)
    assert after["allocated"] - before["allocated"] < 2**14


def test_a_look_between_forward_and_backward() -> None:
    t, again, seen = Training(), Training(), list[float]()

    def step(x: fastnn.Tensor, labels: fastnn.Tensor) -> tuple[fastnn.Tensor, fastnn.Tensor]:
        t.optimizer.zero_grad()
        logits = t.model(x)
        loss = t.loss(logits, labels)
        fastnn.recording.look(loss, at)
        loss.backward()
        t.optimizer.step()
        return loss, logits

    def at(loss: fastnn.Tensor) -> None:
        seen.append(loss.item())
        if len(seen) == 6:
            raise ZeroDivisionError("of the look")

    captured = fastnn.capture(step)
    assert t.run(captured, 5) == again.run(again.step, 5)
    weights, steps = t.model.state_dict(), t.optimizer.state_dict()
    with pytest.raises(ZeroDivisionError):
        t.call(captured, *t.data[0])
    assert t.optimizer.steps == 5 and all(np.array_equal(p, weights[name]) for name, p in t.model.state_dict().items() if "weight" in name)
    assert all(np.array_equal(a, steps[name]) for name, a in t.optimizer.state_dict().items())


def test_recording_computes_nothing_and_takes_no_memory() -> None:
    """The first call's peak is the arena and what outlives it: the optimizer's state."""
    t = Training("resnet20", "adam", batch=8)
    captured = fastnn.capture(t.step)
    device = t.data[0][0].device
    base = _C.memory_stats(device)["allocated"]
    _C.reset_peak_memory(device)
    loss, logits = t.call(captured, *t.data[0])
    parameters = sum(p.size for p in t.model.parameters()) * 4
    assert _C.memory_stats(device)["peak"] - base < captured.memory["arena"] * 1.125 + 2.3 * parameters


def test_what_a_step_left_lying_about_has_no_values() -> None:
    kept: list[fastnn.Tensor] = []

    def step(x: fastnn.Tensor) -> fastnn.Tensor:
        kept.append(x * 2.0)
        return kept[-1] + 1.0

    captured = fastnn.capture(step)
    assert captured(fastnn.tensor([1.0])).item() == 3.0
    uses: list[Callable[[], object]] = [
        kept[0].numpy, kept[0].item, lambda: kept[0] + 1.0, lambda: kept[0].__dlpack__(), lambda: kept[0]._array.to("cpu"),
        lambda: kept[0].copy_from(np.zeros(1)), lambda: kept[0]._array.write(np.zeros(1, np.float32)),
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(_C.CaptureError, match="was made while a captured step was recorded.*let the step return it"):
            use()


def test_replaced_parameters_and_groups_are_seen() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2))
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    @fastnn.capture
    def step(x: fastnn.Tensor) -> fastnn.Tensor:
        model.zero_grad()
        y = model(x)
        y.sum().backward()
        optimizer.step()
        return y

    x = fastnn.tensor(np.ones((4, 3), np.float32))
    step(x), step(x)
    model[2].weight, model[2].bias = nn.Parameter(np.zeros((2, 2), np.float32)), nn.Parameter(np.zeros(2, np.float32))
    assert not step(x).numpy().any()
    optimizer.param_groups[0]["params"] = optimizer.param_groups[0]["params"][:1]
    before = model[0].bias.numpy().copy()
    step(x)
    assert np.array_equal(model[0].bias.numpy(), before)


def test_a_result_written_to_before_it_is_read_is_not_made_again() -> None:
    conv, norm = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
    y = norm(fastnn.tensor(np.random.default_rng(0).standard_normal((2, 4, 6, 6)).astype(np.float32), requires_grad=True))
    y.copy_from(np.zeros(y.shape, np.float32))
    conv(y).sum().backward()
    assert conv.weight.grad is not None and not conv.weight.grad.numpy().any()
