"""Learning rates as plain functions of time: pass one as `lr=` of an optimizer.

Each maker returns a Schedule, a function t -> rate. With unit="step" (the default) t is the number of the step, counted from 0, and lengths
count steps; with unit="epoch" both count epochs, t in fractions of one (step / steps_per_epoch, which the Trainer supplies). Any
function of the step does as well. What stays after the end (`total`) is the last value.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import wraps
from inspect import signature
from math import cos, inf, isinf, log, log1p, pi, sqrt
from numbers import Real
from typing import Any, ParamSpec, overload

import numpy as np

from ..arguments import array, figure, integer, number, numbers, one_of, shown, text, unwrapped
from ..arguments import function as checked_function
from ..described import described
from ..other_names import told


class Schedule:
    """A function of time in a unit, "step" or "epoch". `total`: how long it runs, where it has an end. Called with t, gives the rate."""

    def __init__(self, function: Callable[[Any], float], unit: str = "step", total: float | None = None) -> None:
        one_of(type(self).__name__.lstrip("_"), "unit", unit, ("step", "epoch"))
        checked_function("Schedule", "function", function, "a function of time")
        if total is not None:
            number("Schedule", "total", total, "(0, inf)")
        self.function, self.unit, self.total = function, unit, total
        self.made_by: tuple[Callable[..., Schedule], tuple[Any, ...], dict[str, Any]] | None = None  # a maker and what it was given

    def __reduce__(self) -> Any:
        """Copied and pickled as the call that made it; one of a function of one's own as that function."""
        return (_made_again, self.made_by) if self.made_by else super().__reduce__()

    def __repr__(self) -> str:
        """The call that made it."""
        if self.made_by is None:
            return f"Schedule({getattr(self.function, '__name__', 'function')}, unit={self.unit!r})"
        maker, given, keywords = self.made_by
        return f"{maker.__name__}({', '.join([*map(repr, given), *(f'{name}={value!r}' for name, value in keywords.items())])})"

    def __getattr__(self, name: str) -> Any:
        there = "; nothing is to be called: an optimizer asks its lr at each step" if name in ("step", "get_last_lr") else ""
        raise AttributeError(f"a {type(self).__name__.lstrip('_')} has no attribute {name!r}{there}")

    def _no_number(self, *_: Any) -> Any:
        raise TypeError(
            "a schedule is no number but a function of time: optimizer.rates()[0] is the rate now, "
            "optim.schedules.scaled(schedule, 0.1) a tenth of it at any time"
        )

    __mul__ = __rmul__ = __truediv__ = __add__ = __radd__ = __sub__ = __float__ = __format__ = _no_number

    def __call__(self, t: float) -> float:
        try:
            rate: Any = self.function(t)
        except TypeError as error:
            _refuse_no_time(t)
            raise TypeError(f"a schedule's function of the {self.unit} refuses {t:g}: {error}") from error
        if isinstance(rate, Real):
            return float(rate)
        raise TypeError(f"a schedule must give a number, got {shown(rate)} at {self.unit} {t:g}")

    def at(self, step: int, steps_per_epoch: int | None) -> float:
        """The rate at a step."""
        integer("Schedule.at", "step", step, 0)
        length = self._epoch(steps_per_epoch) if self.unit == "epoch" or steps_per_epoch is not None else 1
        return self(step if self.unit == "step" else step / length)

    def _epoch(self, steps_per_epoch: int | None) -> int:
        if steps_per_epoch is None:
            raise ValueError(
                "a schedule counts epochs and does not know how long one is: Trainer says it; in a loop of your own set "
                "optimizer.steps_per_epoch = len(loader)"
            )
        return integer("Schedule.at", "steps_per_epoch", steps_per_epoch, 1)


def _refuse_no_time(t: Any) -> None:
    if not isinstance(t, Real):
        raise TypeError(f"a schedule is a function of a number, the step or the epoch, got {shown(t)}") from None


def rate_at(lr: Any, step: int, steps_per_epoch: int | None, what: str = "lr") -> float:
    """What a rate (a number, a Schedule, a function of the step) is at a step."""
    if type(lr) is float and 0 <= lr < inf:
        return lr
    try:
        rate = lr.at(step, steps_per_epoch) if isinstance(lr, Schedule) else _asked(lr, step, what) if callable(lr) else lr
    except OverflowError:
        rate = inf
    try:
        if isinstance(rate, (str, bytes)):  # which float() would read
            raise TypeError
        found = float(rate)
    except (TypeError, ValueError):
        raise TypeError(f"{what}: a schedule must give a number, got {shown(rate)} at step {step}") from None
    if -1e-9 < found < 0:  # a schedule of one's own that comes down to 0, rounded
        return 0.0
    if not 0 <= found < inf:  # one step with NaN, and no weight is a number any more; with a negative rate it climbs
        wanted = "not be negative" if -inf < found < 0 else "be a finite number"
        raise ValueError(f"{what} must {wanted}, got {found} at step {step}")
    return found


def _asked(function: Callable[[int], Any], step: int, what: str) -> Any:
    try:
        return function(step)
    except TypeError as error:
        if error.__traceback__ is None or error.__traceback__.tb_next is not None:
            raise  # its own, not the call's
        raise TypeError(f"{what}: a function of the step is called with the step, and nothing else; it refuses: {error}") from None


def checked_rate(what: str, name: str, lr: Any, within: str = "[0, inf)") -> Any:
    """A rate: a number, a schedule, or a function of the step."""
    lr = unwrapped(lr)
    if isinstance(lr, type) or hasattr(lr, "parameters") or not (callable(lr) or isinstance(lr, Real)) or isinstance(lr, bool):
        raise TypeError(f"{what}: {name} must be a number or a schedule, got {shown(lr)}")
    return lr if callable(lr) else number(what, name, lr, within)


Given = ParamSpec("Given")
_WORDS = {  # of PyTorch's and Keras' schedules
    "factor": ("gamma", "T_mult", "t_mul", "decay_rate"),
    "final": ("eta_min", "alpha"),
    "lr": ("max_lr", "base_lr", "initial_learning_rate"),
    "milestones": ("step_size", "boundaries"),
    "period": ("T_0", "first_decay_steps"),
    "total": ("T_max", "total_iters", "total_steps", "decay_steps"),
}


def _maker(make: Callable[Given, Schedule]) -> Callable[Given, Schedule]:
    there = signature(make).parameters
    make = told({word: f"it is {here}" for here, words in _WORDS.items() if here in there for word in words})(make)

    @wraps(make)
    def made(*args: Given.args, **keywords: Given.kwargs) -> Schedule:
        schedule = make(*args, **keywords)
        schedule.made_by = made, args, keywords
        return schedule

    return made


def _made_again(maker: Callable[..., Schedule], args: tuple[Any, ...], keywords: dict[str, Any]) -> Schedule:
    return maker(*args, **keywords)


@_maker
def constant(lr: float) -> Schedule:
    """lr."""
    _rate("constant", lr)
    return Schedule(lambda t: lr)


@_maker
def step(lr: float, milestones: Sequence[float], factor: float = 0.1, *, unit: str = "step") -> Schedule:
    """lr times `factor` for every milestone reached. The lectures': step(0.1, (30, 60, 90), unit="epoch")."""
    _rate("step", lr)
    times = numbers("step", "milestones", milestones, within="[0, inf]")
    number("step", "factor", factor, "[0, inf)")
    return Schedule(lambda t: lr * factor ** sum(t >= m for m in times), unit)


@_maker
def cosine(lr: float, total: float, final: float = 0.0, *, unit: str = "step") -> Schedule:
    """final + (lr - final) / 2 (1 + cos(pi t / total)), `final` from `total` on (Loshchilov, Hutter 2016)."""
    _rate("cosine", lr, total, final=final)
    return Schedule(lambda t: final + (lr - final) / 2 * (1 + cos(pi * min(t, total) / total)), unit, total)


@_maker
def linear(lr: float, total: float, final: float = 0.0, *, unit: str = "step") -> Schedule:
    """lr + (final - lr) t / total, `final` from `total` on."""
    _rate("linear", lr, total, final=final)
    return Schedule(lambda t: max(0.0, lr + (final - lr) * min(t, total) / total), unit, total)  # rounded, its end may lie below 0


@_maker
def inverse_sqrt(lr: float, *, unit: str = "step") -> Schedule:
    """lr / sqrt(max(t, 1)) (Vaswani et al. 2017)."""
    _rate("inverse_sqrt", lr)
    return Schedule(lambda t: lr / sqrt(max(t, 1)), unit)


@_maker
def exponential(lr: float, factor: float, *, unit: str = "step") -> Schedule:
    """lr factor^t."""
    _rate("exponential", lr)
    number("exponential", "factor", factor, "(0, inf)")
    return Schedule(lambda t: lr * factor**t, unit)


@_maker
def cosine_restarts(lr: float, period: float, factor: float = 1, final: float = 0.0, *, unit: str = "step") -> Schedule:
    """Cosines from lr to `final`, one after the other: the first lasts `period`, each later one `factor` times as long (SGDR: Loshchilov,
    Hutter 2016). ValueError for factor below 1."""
    _rate("cosine_restarts", lr, final=final)
    number("cosine_restarts", "period", period, "(0, inf)"), number("cosine_restarts", "factor", factor, "[1, inf)")

    def rate(t: float) -> float:
        if factor == 1:
            begin, length = t // period * period, period
        else:
            passed = max(0, int(log1p(t * (factor - 1) / period) / log(factor)) - 1)  # perhaps one or two less, by rounding
            begin, length = period * (factor**passed - 1) / (factor - 1), period * factor**passed
        while t >= begin + length > begin:
            begin, length = begin + length, length * factor
        return final + (lr - final) / 2 * (1 + cos(pi * (t - begin) / length))

    return Schedule(rate, unit)


@_maker
def one_cycle(
    lr: float,
    total: float,
    *,
    pct_start: float = 0.3,
    anneal_strategy: str = "cos",
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    unit: str = "step",
) -> Schedule:
    """From lr / div_factor up to lr during the first `pct_start` of the run, then down to lr / div_factor / final_div_factor at its last step
    (Smith, Topin 2017). Arguments, defaults and values as torch.optim.lr_scheduler.OneCycleLR, whose momentum cycle is left out.

    anneal_strategy: "cos" or "linear", the form of both parts.
    """
    _rate("one_cycle", lr, total, unit=unit)
    one_of("one_cycle", "anneal_strategy", anneal_strategy, ("cos", "linear"))
    number("one_cycle", "pct_start", pct_start, "[0, 1]")
    number("one_cycle", "div_factor", div_factor, "(0, inf)"), number("one_cycle", "final_div_factor", final_div_factor, "(0, inf)")
    low, least = lr / div_factor, lr / div_factor / final_div_factor
    last = 1 if unit == "step" else 0  # the first and the last step are among `total`
    top, end = pct_start * total - last, total - last  # a top before the first step is one that the way down comes from

    def between(a: float, b: float, part: float) -> float:
        return a + (b - a) * ((1 - cos(pi * part)) / 2 if anneal_strategy == "cos" else part)

    def rate(t: float) -> float:
        t = min(t, end)
        if t <= top:
            return between(low, lr, t / top if top else 1.0)
        return between(lr, least, (t - top) / (end - top))

    return Schedule(rate, unit, total)


@_maker
def triangle(lr: float, total: float, *, start: float = 0.2, peak: float = 0.23, end: float = 0.07, unit: str = "step") -> Schedule:
    """Straight lines from `start` lr up to lr at the part `peak` of the run, and down to `end` lr at `total`. The defaults are airbench94's."""
    _rate("triangle", lr, total, unit=unit)
    peak, total = number("triangle", "peak", peak, "[0, 1]"), float(total)
    start, end = number("triangle", "start", start, "[0, inf)"), number("triangle", "end", end, "[0, inf)")
    top = int(peak * total) if unit == "step" else peak * total
    return Schedule(lambda t: lr * float(np.interp(t, [0, top, total], [start, 1.0, end])), unit, total)


class _Warmup(Schedule):
    def __init__(self, after: Schedule, length: float | None, total: float | None) -> None:
        super().__init__(after.function, after.unit, total)
        self.after, self.length = after, length

    def steps(self, steps_per_epoch: int | None) -> float:
        """How many steps it takes."""
        each = 1 if self.unit == "step" else self._epoch(steps_per_epoch)
        return self.length * each if self.length is not None else min(5000.0, 0.05 * (self.total or 0) * each)

    def __call__(self, t: float) -> float:
        _refuse_no_time(t)
        if self.unit == "step":
            return self.at(int(t), None)
        length = self.length if self.length is not None else 0.05 * (self.total or 0)
        return self.after(t) * (min(1.0, t / length) if length > 0 else 1.0)

    def at(self, step: int, steps_per_epoch: int | None) -> float:
        steps = self.steps(steps_per_epoch)
        return self.after.at(step, steps_per_epoch) * (min(1.0, (step + 1) / steps) if steps > 0 else 1.0)


@_maker
def warmup(schedule: Schedule | Callable[[int], float] | float, steps: float | None = None, *, total: float | None = None) -> Schedule:
    """In front of any schedule: its rate times (t + 1) / steps during the first `steps` steps, from 0 before the first (Goyal et al. 2017).

    `steps` counts in the schedule's unit; left out, it is min(5,000 steps, 5 % of the run), whose length is that of the schedule or `total`
    (ValueError without either). Warns when it covers more than half of the run. The schedule's own time goes on meanwhile. Called with a time
    in epochs it is t / steps, what the above comes to with many steps in an epoch.
    """
    checked_rate("warmup", "schedule", schedule)
    for name, length in (("steps", steps), ("total", total)):
        if length is not None:
            number("warmup", name, length, "[0, inf)" if name == "steps" else "(0, inf)")
    after = schedule if isinstance(schedule, Schedule) else Schedule(schedule) if callable(schedule) else constant(schedule)
    total = after.total if total is None else total
    if steps is None and total is None:
        raise ValueError("warmup: give `steps`, or the length of the run as `total`: the schedule has no end of its own")
    if steps is not None and total is not None and steps > total / 2:
        warnings.warn(f"warmup: {steps:g} of {total:g} {after.unit}s are more than half of the run", stacklevel=2)
    return _Warmup(after, steps, total)


@_maker
def lookahead(total: float, *, k: int = 5, decay: float = 0.95, power: float = 3.0, unit: str = "step") -> Schedule:
    """airbench's alpha of Lookahead: 1 - decay^k (t / total)^power, from 1 (no slow weights) down to 1 - decay^k (Jordan 2024)."""
    number("lookahead", "total", total, "(0, inf)")
    integer("lookahead", "k", k, 1), number("lookahead", "decay", decay, "[0, 1]"), number("lookahead", "power", power, "[0, inf)")
    return Schedule(lambda t: 1 - decay**k * (min(t, total) / total) ** power, unit, total)


@overload
def scaled(lr: float, factor: float) -> float: ...
@overload
def scaled(lr: Schedule | Callable[[int], float], factor: float) -> Schedule: ...
def scaled(lr: float | Schedule | Callable[[int], float], factor: float) -> float | Schedule:
    """The same rate, schedule or function of the step, `factor` times as large."""
    checked_rate("scaled", "lr", lr), number("scaled", "factor", factor, "[0, inf)")
    return _Scaled(lr if isinstance(lr, Schedule) else Schedule(lr), factor) if callable(lr) else lr * factor


class _Scaled(Schedule):
    def __init__(self, after: Schedule, factor: float) -> None:
        super().__init__(after.function, after.unit, after.total)
        self.after, self.factor = after, factor

    def __reduce__(self) -> Any:
        return _Scaled, (self.after, self.factor)

    def __repr__(self) -> str:
        return f"scaled({self.after!r}, {self.factor!r})"

    def __call__(self, t: float) -> float:
        return self.factor * self.after(t)

    def at(self, step: int, steps_per_epoch: int | None) -> float:
        return self.factor * self.after.at(step, steps_per_epoch)


@overload
def linear_rule(lr: float, workers: int) -> float: ...
@overload
def linear_rule(lr: Schedule | Callable[[int], float], workers: int) -> Schedule: ...
def linear_rule(lr: float | Schedule | Callable[[int], float], workers: int) -> float | Schedule:
    """workers lr, for a number or a schedule: K workers with N samples each take batches of K N and K times the rate, after a warm-up
    (Goyal et al. 2017). ValueError for less than one worker."""
    checked_rate("linear_rule", "lr", lr)
    return scaled(lr, integer("linear_rule", "workers", workers, 1))


class ReduceOnPlateau(Schedule):
    """lr, times `factor` whenever `monitor` has not improved for more than `patience` epochs. The one schedule with a memory: the Trainer
    tells it each epoch's row (`step(value)` in a loop of one's own), and optimizers save its few numbers with their state.

    monitor: a column of the history; left out, val_loss where there is validation data, else loss. The rest as PyTorch's
    ReduceLROnPlateau: mode "min" or "max"; better is below best (1 - threshold) ("rel") or best - threshold ("abs"), for "max" above with
    plus; `cooldown` epochs after a reduction do not count; never below min_lr; changes below eps are left out.
    """

    @told({"min_delta": "it is threshold", "verbose": "nothing is printed; the history has the rates"})
    def __init__(
        self,
        lr: float,
        *,
        monitor: str | None = None,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(self._now)
        what = "ReduceOnPlateau"
        one_of(what, "mode", mode, ("min", "max")), one_of(what, "threshold_mode", threshold_mode, ("rel", "abs"))
        _rate(what, lr)
        number(what, "factor", factor, "(0, 1)")
        integer(what, "patience", patience, 0), integer(what, "cooldown", cooldown, 0)
        for name, value in (("threshold", threshold), ("min_lr", min_lr), ("eps", eps)):
            number(what, name, value, "[0, inf)")
        if monitor is not None:
            text(what, "monitor", monitor, "such as 'val_loss'")
        self.monitor, self.sign, self.factor, self.patience = monitor, 1.0 if mode == "min" else -1.0, factor, patience
        self.threshold, self.relative, self.cooldown = threshold, threshold_mode == "rel", cooldown
        self.min_lr, self.eps = min_lr, eps
        self.rate, self.best, self.bad, self.cooling = lr, self.sign * float("inf"), 0, 0

    def _now(self, t: float) -> float:
        return self.rate

    def __repr__(self) -> str:
        return described(self, rate=self.rate, monitor=self.monitor, factor=self.factor, patience=self.patience, bad_epochs=self.bad)

    def step(self, value: float) -> None:
        """An epoch's figure."""
        figure("ReduceOnPlateau.step", "value", value)
        margin = 0.0 if isinf(self.best) else self.threshold * (self.best if self.relative else 1.0)
        if self.sign * value < self.sign * self.best - margin:  # never for NaN
            self.best, self.bad = value, 0
        else:
            self.bad += 1
        if self.cooling > 0:
            self.cooling, self.bad = self.cooling - 1, 0
        if self.bad > self.patience:
            lower = max(self.rate * self.factor, self.min_lr)
            self.rate = lower if self.rate - lower > self.eps else self.rate
            self.cooling, self.bad = self.cooldown, 0

    def state(self) -> np.ndarray:
        """What it remembers: rate, best, bad epochs, epochs left of the cooldown."""
        return np.array([self.rate, self.best, self.bad, self.cooling], np.float64)

    def check_state(self, what: str, name: str, state: np.ndarray) -> None:
        """ValueError for what state() never gives."""
        if not (np.isfinite(state[[0, 2, 3]]).all() and (state[[0, 2, 3]] >= 0).all()):
            raise ValueError(f"{what}: {name} is {shown(state.tolist())}; expected a rate, the best figure, and two counts of epochs")

    def load_state(self, state: np.ndarray) -> None:
        """Takes what state() gave."""
        values = array("ReduceOnPlateau.load_state", "state", state, "the four numbers of state()")
        if values.shape != (4,) or values.dtype.kind not in "fiu":
            raise ValueError(f"ReduceOnPlateau.load_state: state must be the four numbers of state(), got {shown(state)}")
        self.check_state("ReduceOnPlateau.load_state", "state", values)
        rate, best, bad, cooling = (float(v) for v in values)
        self.rate, self.best, self.bad, self.cooling = rate, best, int(bad), int(cooling)


def memory_of(lr: Any) -> ReduceOnPlateau | None:
    """The schedule with a memory in a rate, if there is one."""
    while isinstance(lr, (_Warmup, _Scaled)):
        lr = lr.after
    return lr if isinstance(lr, ReduceOnPlateau) else None


def notice(rates: Sequence[Any], row: dict[str, float]) -> None:
    """Tells each schedule with a memory among `rates` the row of an epoch, once. ValueError names a column that is not there."""
    for plateau in {id(m): m for m in map(memory_of, rates) if m is not None}.values():
        column = plateau.monitor or ("val_loss" if "val_loss" in row else "loss")
        if column not in row:
            raise ValueError(f"ReduceOnPlateau: there is no {column!r} to watch, only {', '.join(row)}")
        plateau.step(row[column])


def _rate(what: str, lr: float, total: float = 1, final: float = 0.0, unit: str = "step") -> None:
    one_of(what, "unit", unit, ("step", "epoch"))
    if callable(lr) or hasattr(lr, "param_groups"):
        hint = "; a schedule is given to an optimizer as its lr: SGD(parameters, lr=schedule)" if hasattr(lr, "param_groups") else ""
        raise TypeError(f"{what}: lr must be a number, got {shown(lr)}{hint}")
    number(what, "lr", lr, "[0, inf)"), number(what, "final", final, "[0, inf)")
    if number(what, "total", total) <= 0:
        raise ValueError(f"{what}: total must be at least 1 step, got {total}")
