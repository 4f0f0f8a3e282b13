"""What cannot be replayed is refused with the line, and verify finds what a recording did not see."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
from captured_steps import Training

import fastnn
from fastnn import _C, nn, optim

pytestmark = pytest.mark.usefixtures("without_memory_checks")


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

    with pytest.raises(_C.CaptureError, match=r"while a step is recorded, at .*test_capture_refusals\.py:\d+: lambda t, loss"):
        t.call(fastnn.capture(step), *t.data[0])
    assert unchanged(t, before)
    assert t.data[0][0].numpy().size, "a recording is still under way"


def test_a_hook_is_refused() -> None:
    t = Training()
    t.model.register_forward_hook(lambda module, args, output: None)
    with pytest.raises(_C.CaptureError, match="Sequential has a forward hook.*captured_steps"):
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
    with pytest.raises(_C.CaptureError, match=r"gradients would pile up begins with zero_grad\(\), at .*loss.backward\(\)"):
        captured(*t.data[0])
    assert len(kept) == 10 and all(p.grad is not None and np.array_equal(k, p.grad.numpy()) for k, p in zip(kept, t.model.parameters()))


def test_gradients_made_outside_of_the_step_are_refused() -> None:
    """Each step's are other arrays: a replay would go on reading those that were there when it was recorded."""
    t = Training()
    x, labels = t.data[0]

    def backward() -> None:
        t.loss(t.model(x), labels).backward()

    backward()
    clip = fastnn.capture(lambda: fastnn.optim.clip_grad_norm_(t.model.parameters(), 0.1))
    for captured in (fastnn.capture(lambda: t.optimizer.step()), clip):
        before = t.state()
        with pytest.raises(
            _C.CaptureError, match=r"the gradient of a tensor of shape \(4, 1, 3, 3\) was made outside of the step: backward"
        ):
            captured()
        assert t.state() == before


def test_gradients_that_come_before_a_step_that_had_none_are_refused() -> None:
    t = Training()

    def step(x: fastnn.Tensor, labels: fastnn.Tensor) -> fastnn.Tensor:
        loss = t.loss(t.model(x), labels)
        loss.backward()
        t.optimizer.step()
        t.optimizer.zero_grad()
        return loss

    captured = fastnn.capture(step)
    for batch in t.data:
        captured(*batch)
    assert captured._takes[0].runs == 3
    t.loss(t.model(t.data[0][0]), t.data[0][1]).backward()
    with pytest.raises(_C.CaptureError, match="made outside of the step"):
        captured(*t.data[0])


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
    with pytest.raises(TypeError, match="capture: step_fn must be a function that does a training step, got 3"):
        fastnn.capture(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="verify must not be negative"):
        fastnn.capture(lambda: None, verify=-1)
    with pytest.raises(TypeError, match="got ndarray; fastnn.tensor"):
        fastnn.capture(lambda x: x)(np.ones(3))
    with pytest.raises(_C.CaptureError, match="requires a gradient"):
        fastnn.capture(lambda x: x * 2.0)(fastnn.tensor(np.ones(3, np.float32), requires_grad=True))
    with pytest.raises(_C.CaptureError, match="returns a object"):
        fastnn.capture(lambda: object())()


def test_an_argument_that_requires_a_gradient_is_refused_whenever_it_comes() -> None:
    t = Training()
    captured, (x, labels) = fastnn.capture(t.step), t.data[0]
    t.run(captured, 2)
    x.requires_grad = True
    with pytest.raises(_C.CaptureError, match="an argument of the step requires a gradient"):
        t.call(captured, x, labels)
    assert x.grad is None
    x.requires_grad = False
    t.call(captured, x, labels)
    assert captured._takes[0].runs == 3


@pytest.mark.parametrize("verify", [0, 1])
def test_what_a_module_keeps_as_an_argument_that_is_written_in_place(verify: int) -> None:
    """Eagerly `+=` overwrites it; a replay only reads its arguments. One that is read alone may be given."""
    norm = nn.BatchNorm1d(3)
    norm.running_mean.copy_from(np.ones(3, np.float32))

    def step(kept: fastnn.Tensor, factor: float) -> fastnn.Tensor:
        if factor:
            kept *= factor
        return kept.sum()

    captured = fastnn.capture(step, verify=verify)
    for kept in (norm.running_mean, norm.requires_grad_(False).weight):
        assert captured(kept, 0.0).item() == step(kept, 0.0).item() == 3
        with pytest.raises(_C.CaptureError, match=r"while a step is recorded, at .*: kept \*= factor"):
            captured(kept, 2.0)
        assert kept.numpy().tolist() == [1, 1, 1]
    assert captured(fastnn.tensor([1.0, 2.0]), 2.0).item() == 6, "a Tensor of nobody's: the name gets another one"


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


def test_a_bad_label_in_the_first_call_is_named() -> None:
    t = Training()
    with pytest.raises(ValueError, match=r"label 10 of sample 2 lies outside of \[0, 10\)"):
        fastnn.capture(t.step)(t.data[0][0], fastnn.tensor(np.array([0, 1, 10, 2, 3])))


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


@pytest.mark.parametrize("within", [False, True])
def test_a_generator_that_a_refused_step_seeds_is_put_back(within: bool) -> None:
    mine, dropout = fastnn.Generator(3), nn.Dropout(0.5)

    def step(x: fastnn.Tensor) -> float:
        if within:
            x = dropout(x)
        fastnn.seed(7)
        return x.sum().item()

    x = fastnn.tensor(np.ones(8, np.float32))
    with fastnn.random.using(mine):
        dropout(x)
        with pytest.raises(_C.CaptureError, match="looks at the values"):
            fastnn.capture(step)(x)
        assert fastnn.random.default_generator() is mine and (mine.seed, mine.draw) == (3, 1)
        expected = fastnn.Generator(3)
        expected.draw = 1
        with fastnn.random.using(expected):
            again = dropout(x).numpy().tobytes()
        assert dropout(x).numpy().tobytes() == again


def test_a_buffer_that_forward_assigns_is_put_back() -> None:
    class Running(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", fastnn.tensor(np.zeros(3, np.float32)))

        def forward(self, x: fastnn.Tensor) -> fastnn.Tensor:
            with fastnn.no_grad():
                self.mean = self.mean * 0.9 + x.mean(0) * 0.1
            return x - self.mean

    model, x = nn.Sequential(Running(), nn.Linear(3, 2)), fastnn.tensor(np.ones((4, 3), np.float32))
    model(x)
    before = model[0].mean
    with pytest.raises(_C.CaptureError):
        fastnn.capture(lambda x: model(x))(x)
    assert model[0].mean is before and np.allclose(model.state_dict()["0.mean"], 0.1)
    model(x)


def test_what_the_optimizer_was_given_for_a_refused_step_goes() -> None:
    t = Training(optimizer="adam")
    t.optimizer.measure_updates = True
    names = sorted(t.optimizer.state_dict())

    def step(x: fastnn.Tensor, labels: fastnn.Tensor) -> object:
        t.step(x, labels)
        return object()

    for _ in range(2):
        before = sorted(t.optimizer.state_dict()), t.optimizer.update_ratios()
        with pytest.raises(_C.CaptureError, match="returns a object"):
            t.call(fastnn.capture(step), *t.data[0])
        assert np.array_equal(t.optimizer.update_ratios(), before[1], equal_nan=True) and sorted(t.optimizer.state_dict()) == before[0]
        t.run(t.step, 1)
    assert len(names) == 2 and np.isfinite(t.optimizer.update_ratios()).any()


def test_what_the_step_refuses_a_replay_refuses_before_it() -> None:
    t = Training()
    optimizer, average = optim.Lookahead(t.optimizer, k=2), optim.EMA(t.model, 0.5)
    t.optimizer = optimizer

    def step(x: fastnn.Tensor, labels: fastnn.Tensor) -> None:
        t.step(x, labels)
        average.update()

    def refused(match: str) -> None:
        before = t.state(), average.calls
        with pytest.raises((RuntimeError, ValueError), match=match):
            captured(*t.data[0])
        assert (t.state(), average.calls) == before

    captured = fastnn.capture(step)
    captured(*t.data[0])
    optimizer.alpha = lambda step: -1.0
    refused("Lookahead: alpha must not be negative")
    optimizer.alpha = 0.5
    captured(*t.data[0])
    average.swap()
    refused(r"EMA.update\(\): the averages are in the model's place")
    average.swap()
    optimizer.param_groups = [dict(group) for group in optimizer.param_groups]
    with pytest.raises(ValueError, match="param_groups are no longer those"):
        captured(*t.data[0])
    assert captured._takes[0].runs == 2


def test_with_finite_checks_on_it_runs_eagerly() -> None:
    a, b = Training(), Training()
    captured = fastnn.capture(b.step)
    expected = a.run(a.step, 6)
    got = b.run(captured, 4)
    fastnn.set_finite_checks(True)
    try:
        got += b.run(lambda *_: captured(*b.data[1]), 1)
    finally:
        fastnn.set_finite_checks(False)
    got += b.run(lambda *_: captured(*b.data[2]), 1)
    assert got == expected
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


def test_verified_results_are_copies() -> None:
    """Of what others hold, and of what comes last in the step: averages and slow weights."""
    results = []
    for verify in (0, 1, 2):
        w = nn.Parameter(np.ones(3, np.float32))
        optimizer = optim.Lookahead(optim.SGD([w], 0.1), k=1, alpha=0.5)

        def step(x: fastnn.Tensor) -> tuple[fastnn.Tensor | None, ...]:
            optimizer.zero_grad()  # noqa: B023 (called at once)
            (w * x).sum().backward()  # noqa: B023
            optimizer.step()  # noqa: B023
            return w, w.grad, x  # noqa: B023

        captured, x, given = fastnn.capture(step, verify=verify), fastnn.tensor([1.0, 2.0, 3.0]), []
        for _ in range(4):
            given += captured(x)
            x.copy_from(x.numpy() + 1)
        results.append([t.numpy().tolist() for t in given])
    assert results[0] == results[1] == results[2]
