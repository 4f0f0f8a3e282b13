"""The callback that says where a training's time goes."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

from .. import _C
from ..arguments import integer
from ..data import Loader
from ..data.loader import Batches
from ..profiler import Cost, Profile, peak, profile
from .advice import Facts, advice, report
from .callbacks import Callback
from .load import Load, look

if TYPE_CHECKING:
    from .trainer import Trainer


class WhySlow(Callback):
    """Times `steps` steps of a `fit`, behind `warm_up` ones that are not counted, and prints where their time went and what changes it:

        trainer.fit(train, epochs=20, callbacks=[train.WhySlow()])      # or fastnn train ... --why-slow

    Waiting for data, kernels of forward, backward and optimizer, what lies between them, callbacks; threads against the cores and the quota,
    other programs on the machine; the share of what the processor can do (see fastnn.peak) and the layer that loses most; then advice, each
    line of which has a condition that was met. The steps are those of the training, the results the same bits.
    `facts`: what was seen (see train.advice.Facts), None until the steps are done; `profile`: their fastnn.profile; `report()`: the text.
    """

    first_rank_only = True

    _clock = staticmethod(time.perf_counter)
    _passed: int
    _counted: int
    _samples: int
    _seconds: float
    _data: float
    _callbacks: float
    _last: float
    _evaluation: float
    _evaluated: float

    def __init__(self, steps: int = 20, *, warm_up: int = 3) -> None:
        self.steps, self.warm_up = integer("WhySlow", "steps", steps, 1), integer("WhySlow", "warm_up", warm_up, 0)
        self.facts: Facts | None = None
        self._reset()

    @property
    def profile(self) -> Profile | None:
        return None if self.facts is None else self.facts.profile

    def report(self) -> str:
        """The text; RuntimeError before the steps are done."""
        if self.facts is None:
            raise RuntimeError(f"WhySlow: there is nothing to report before {self.warm_up + 1} steps of a fit are done")
        return report(self.facts)

    # --- what the trainer tells

    def before_fit(self, trainer: Trainer) -> None:
        """First of all callbacks, so that the others' time can be told from the step's."""
        trainer._callbacks.remove(self)
        trainer._callbacks.insert(0, self)
        self._reset()

    def around_batches(self, trainer: Trainer, loader: Loader, batches: Batches) -> Batches:
        self._loader = loader
        return batches if self._done else self._timed(trainer, batches)

    def after_step(self, trainer: Trainer, loss: float) -> None:
        self._passed += 1
        if not self._running:
            return
        self._last, before = self._clock(), self._last
        self._seconds += self._last - before
        self._counted += 1
        self._first = True
        if self._counted == self.steps:
            self._stop()
            self._finish(trainer)

    def before_evaluate(self, trainer: Trainer) -> None:
        self._evaluation = self._clock()

    def after_evaluate(self, trainer: Trainer, result: dict[str, float]) -> None:
        self._evaluated += self._clock() - self._evaluation

    def after_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
        evaluated, self._evaluated = self._evaluated, 0.0
        if self.facts is not None and not self.facts.validation and row["seconds"] > 0:
            self.facts = Facts(**{**vars(self.facts), "validation": min(1.0, evaluated / row["seconds"])})
            self._say("\n".join(f"why slow: {a.text}" for a in advice(self.facts) if a.rule == "validation"))

    def after_fit(self, trainer: Trainer) -> None:
        if not self._done:
            self._finish(trainer)

    # --- inside

    def _reset(self) -> None:
        self._done = self._running = False
        self._first = True  # whether the next batch is its step's first one
        self._passed = self._counted = self._samples = 0
        self._seconds = self._data = self._callbacks = self._last = self._evaluation = self._evaluated = 0.0
        self._costs: list[Cost] = []
        self._load: Load | None = None
        self._profiling = ExitStack()

    def _timed(self, trainer: Trainer, batches: Batches) -> Batches:
        """The same batches. However the epoch ends, the profiler is off afterwards."""
        with closing(batches):
            try:
                while True:
                    if not self._running and not self._done and self._passed >= self.warm_up:
                        self._start()
                    start = self._clock()
                    if self._running and self._first:
                        self._callbacks += start - self._last
                    batch = next(batches, None)
                    if batch is None:
                        return
                    if self._running:
                        self._data += self._clock() - start
                        self._samples += len(batch[1])
                        self._first = False
                    yield batch
            finally:
                self._stop()

    def _start(self) -> None:
        self._running, self._first = True, True
        self._profile = self._profiling.enter_context(profile())
        self._before = look()
        self._last = self._clock()

    def _stop(self) -> None:
        if not self._running:
            return
        self._running = False
        load = look() - self._before
        self._load = load if self._load is None else self._load + load
        self._profiling.close()
        self._costs += self._profile.costs

    def _finish(self, trainer: Trainer) -> None:
        self._done = True
        if self._counted:
            self.facts = self._facts(trainer)
            self._say(self.report())
        else:
            self._say(
                f"why slow: the fit had {self._passed} steps; the first {self.warm_up} are not counted (WhySlow(warm_up=0) counts them)"
            )

    def _facts(self, trainer: Trainer) -> Facts:
        seen = Profile()
        seen.take(self._costs, self._seconds)
        cpus, cores, quota = _C.thread_limits()
        on_cpu = trainer.device == "cpu"
        return Facts(
            steps=self._counted, samples=self._samples, seconds=self._seconds, data=self._data, callbacks=self._callbacks, profile=seen,
            replayed=trainer.replayed, device=trainer.device, peak=peak() if on_cpu else None, load=self._load,
            threads=_C.get_num_threads(), reason=_C.threads_reason(), cpus=cpus, cores=cores, quota=quota,
            isa=_C.isa(), isas=tuple(_C.isas()), bf16_isas=tuple(_C.isas("bfloat16")), precision=trainer.precision,
            products=_C.get_precision(), checks=_C.instrumented(), winograd=_C.get_winograd(),
            workers=self._loader.workers, augment=tuple(type(step).__name__ for step in self._loader.augment),
            mix=tuple(type(step).__name__ for step in self._loader.mix),
            normalize="" if self._loader.normalize is None else type(self._loader.normalize).__name__,
            channels={name: pair for name, m in trainer.model.named_modules() if (pair := _channels(m)) is not None},
        )  # fmt: skip

    def _say(self, text: str) -> None:
        if text and sys.stdout:
            from tqdm.auto import tqdm

            tqdm.write(text)


def _channels(module: Any) -> tuple[int, int] | None:
    for inside, outside in (("in_channels", "out_channels"), ("in_features", "out_features")):
        if hasattr(module, inside):
            return getattr(module, inside), getattr(module, outside)
    return None
