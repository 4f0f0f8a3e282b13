"""Where a training's time goes, in words, and what would change it: each line of advice is a rule with a condition that is looked at."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from ..profiler import Cost, Peak, Profile
from .load import Load


@dataclass(frozen=True)
class Facts:
    """What was seen during some steps. Seconds are of all of them together."""

    steps: int
    samples: int
    seconds: float
    data: float  # waiting for batches
    callbacks: float  # between the end of a step and the next one's batch
    profile: Profile
    replayed: str  # Trainer.replayed
    device: str = "cpu"
    peak: Peak | None = None  # of the CPU
    load: Load | None = None
    threads: int = 1
    reason: str = ""  # why so many
    cpus: int = 1  # allowed
    cores: int = 1  # physical, of those
    quota: int = 0  # CPUs that the control group grants; 0: no limit
    isa: str = ""
    isas: tuple[str, ...] = ()
    bf16_isas: tuple[str, ...] = ()  # with kernels of their own for bfloat16
    precision: str = "float32"
    products: str = "highest"  # fastnn.get_precision()
    checks: bool = False  # of values or memory, which switch replays off
    winograd: bool = True
    workers: int = 1  # of the loader
    augment: tuple[str, ...] = ()
    mix: tuple[str, ...] = ()
    normalize: str = ""  # the kind of its preprocessing
    channels: dict[str, tuple[int, int]] = field(default_factory=dict)  # in and out, of layers by path
    validation: float = 0.0  # share of an epoch; 0 until one is done

    # --- what follows from them

    def part(self, seconds: float) -> float:
        return seconds / self.seconds if self.seconds else 0.0

    @property
    def phases(self) -> dict[str, float]:
        return self.profile.phases()

    @property
    def kernels(self) -> float:
        return sum(seconds for phase, seconds in self.phases.items() if phase != "data")

    @property
    def between(self) -> float:
        """Python, copies, and looks of the host between kernels."""
        return max(0.0, self.seconds - self.data - self.callbacks - self.kernels)

    @property
    def possible(self) -> int:
        """Threads that there are cores for."""
        return min(self.cpus, self.cores, self.quota or self.cpus)

    @property
    def products_of(self) -> list[Cost]:
        return [c for c in self.profile.costs if c.operations and c.phase in ("forward", "backward")]

    def reached(self, costs: list[Cost]) -> float | None:
        """Of what multiply-adds and copies allow, over these costs."""
        seconds = sum(c.seconds for c in costs)
        return None if self.peak is None or not seconds else sum(self.peak.seconds(c.operations, c.bytes) for c in costs) / seconds

    def worst(self) -> Cost | None:
        """The layer and direction where most time lies above what the machine could do."""
        if self.peak is None or not self.profile.costs:
            return None
        peak = self.peak
        return max(
            [c for c in self.profile.costs if c.phase != "data"],
            key=lambda c: c.seconds - peak.seconds(c.operations, c.bytes),
            default=None,
        )


@dataclass(frozen=True)
class Advice:
    rule: str
    share: float  # of a step: at most what it can win
    text: str


Rule = Callable[[Facts], "tuple[float, str] | None"]


# --- the rules: (share of the step that is at stake, what was seen and what changes it), or None


def data(f: Facts) -> tuple[float, str] | None:
    if f.part(f.data) <= 0.1:
        return None
    more = f"more workers (Loader(workers=...), now {f.workers})" if f.workers < f.possible else "smaller files"
    return f.part(f.data), (
        f"{_percent(f.part(f.data))} of the time is spent waiting for batches: a cheaper __getitem__, images kept in memory as arrays, or {more}"
    )


def augmentation(f: Facts) -> tuple[float, str] | None:
    spent = sum(c.seconds for c in f.profile.costs if c.phase == "data" and not c.operations)
    if not (f.augment or f.mix) or f.part(spent) <= 0.1:
        return None
    said = [f"Loader({name}=...), now {', '.join(steps)}" for name, steps in (("augment", f.augment), ("mix", f.mix)) if steps]
    does = "gathers, augments and mixes" if f.augment and f.mix else f"gathers and {'augments' if f.augment else 'mixes'}"
    return min(f.part(spent), f.part(f.data)), (
        f"the kernel that {does} batches runs {_percent(f.part(spent))} of the time, beside the step: fewer of {', or of '.join(said)}"
    )


def preprocessing(f: Facts) -> tuple[float, str] | None:
    spent = sum(c.seconds for c in f.profile.costs if c.phase == "data" and c.operations)
    if not f.normalize or f.part(spent) <= 0.1:
        return None
    once = "it follows what is drawn: fewer pixels, or another preprocessing (data.Normalize, --preprocess channels)"
    if not (f.augment or f.mix):
        once = "data.ArrayDataset(normalize(images), labels) has it done once"
    return min(f.part(spent), f.part(f.data)), (
        f"the product of {f.normalize} takes {_percent(f.part(spent))} of the time, beside the step, in each epoch anew: {once}"
    )


def few_threads(f: Facts) -> tuple[float, str] | None:
    if f.device != "cpu" or f.threads >= f.possible:
        return None
    return f.part(f.kernels) * (1 - f.threads / f.possible), (
        f"{_count(f.threads, 'thread computes', 'threads compute')}, there are {f.possible} cores for it: fastnn.set_num_threads({f.possible}), "
        f"--threads {f.possible}"
    )


def many_threads(f: Facts) -> tuple[float, str] | None:
    room = min(f.cpus, f.quota or f.cpus)
    if f.device != "cpu" or f.threads <= room:
        return None
    return f.part(f.kernels) * (1 - room / f.threads), (
        f"{f.threads} threads share {_count(room, 'CPU', 'CPUs')} and wait for each other: fastnn.set_num_threads({f.possible}), --threads {f.possible}"
    )


def other_programs(f: Facts) -> tuple[float, str] | None:
    others = f.load.others if f.load is not None else None
    if f.device != "cpu" or others is None or others <= 0.15 or f.threads + others <= f.cpus + 0.15:
        return None
    free = math.floor(f.cpus - others)
    leave = f", or leave them room: fastnn.set_num_threads({free}), --threads {free}" if 1 <= free < f.threads else ""
    return min(1.0, others / f.threads), f"other programs used {others:.1f} of {_count(f.cpus, 'CPU', 'CPUs')}: stop them{leave}"


def stolen(f: Facts) -> tuple[float, str] | None:
    steal = f.load.steal if f.load is not None and f.load.others is not None else None
    if f.load is None or steal is None or steal <= 0.05 * f.load.seconds:
        return None
    share = steal / f.load.seconds / f.cpus
    return share, f"the hypervisor gave {_percent(share)} of the CPUs to other machines (steal): another hour, or another machine"


def throttled(f: Facts) -> tuple[float, str] | None:
    if f.load is None or f.load.throttled is None or f.load.throttled <= 0.02 * f.load.seconds:
        return None
    share = min(1.0, f.load.throttled / f.load.seconds)
    return share, (
        f"the control group's quota stopped the threads for {f.load.throttled:.2f} of {f.load.seconds:.2f} s: a larger quota, or fewer "
        f"threads than {f.threads}"
    )


def eager(f: Facts) -> tuple[float, str] | None:
    if not f.replayed.startswith("eager") or f.checks:
        return None
    return f.part(f.between), (
        f"steps are not replayed ({f.replayed.removeprefix('eager: ')}); Python between the kernels takes {_percent(f.part(f.between))}: "
        "remove the reason, or fit(replay=True) to hear what it meets"
    )


def checks(f: Facts) -> tuple[float, str] | None:
    if not f.checks:
        return None
    return f.part(
        f.between
    ), f"values or memory are checked at every call, and steps are not replayed ({_percent(f.part(f.between))} between " + (
        "the kernels): fastnn.set_finite_checks(False)"
    )


SMALL = 2e6  # operations a thread: some 20 microseconds on one core, what handing out the work must not come near to


def small_products(f: Facts) -> tuple[float, str] | None:
    calls = sum(c.calls for c in f.products_of)
    if not calls or (mean := sum(c.operations for c in f.products_of) / calls) >= SMALL * f.threads:
        return None
    return f.part(f.between) + f.part(f.kernels) / 2, (
        f"a product has {mean / 1e6:.2g} million operations on average, too few for {_count(f.threads, 'thread', 'threads')} to pay: a larger "
        f"batch_size (now {f.samples / f.steps:.0f}), --batch-size"
    )


def overhead(f: Facts) -> tuple[float, str] | None:
    share = f.part(f.between)
    if share <= 0.2 or f.replayed.startswith("eager"):
        return None
    return share, (
        f"{_percent(share)} of the time lies between replayed kernels (metrics, looking at the loss, copies of the batch), much of it whatever the "
        f"batch: a larger batch_size (now {f.samples / f.steps:.0f}), --batch-size, or fewer Trainer(metrics=...)"
    )


def optimizer(f: Facts) -> tuple[float, str] | None:
    share = f.part(f.phases["optimizer"])
    if share <= 0.25:
        return None
    return share, (
        f"the update takes {_percent(share)} of the time, whatever the batch: a larger batch_size (now {f.samples / f.steps:.0f}), or "
        "Trainer(accumulate=...)"
    )


def odd_channels(f: Facts) -> tuple[float, str] | None:
    found: list[tuple[float, str]] = []
    for layer, costs in f.profile.layers().items():
        share, reached = f.part(sum(c.seconds for c in costs)), f.reached(costs)
        inside, outside = f.channels.get(layer, (16, 16))
        if share < 0.1 or reached is None or reached >= 0.6 or not (outside % 16 or (inside > 4 and inside % 16)):
            continue
        full = " -> ".join(str(n if n <= 4 else -(-n // 16) * 16) for n in (inside, outside))
        text = f"{layer} ({inside} -> {outside} channels) takes {_percent(share)} at {_percent(reached)} of what the machine can do"
        found.append((share * (1 - reached), f"{text}: kernels take 16 channels at a time, {full} would cost the same"))
    return max(found, default=None)


def half_the_bytes(f: Facts) -> tuple[float, str] | None:
    peak = f.peak
    if peak is None or f.precision != "float32" or f.isa not in f.bf16_isas:
        return None
    moved = [c for c in f.profile.costs if c.phase in ("forward", "backward") and c.bytes / peak.copy_gbs > c.operations / peak.gflops]
    share = f.part(sum(c.seconds for c in moved))
    if share <= 0.4:
        return None
    return share / 2, (
        f'{_percent(share)} of the time lies in kernels that memory holds back: Trainer(precision="bf16"), --precision bf16, has half the bytes'
    )


def tensor_cores(f: Facts) -> tuple[float, str] | None:
    share = f.part(sum(c.seconds for c in f.products_of))
    if f.device == "cpu" or f.products != "highest" or f.precision != "float32" or share <= 0.3:
        return None
    return share / 2, f'{_percent(share)} of the time lies in float32 products outside of the tensor cores: fastnn.set_precision("high")'


def instruction_set(f: Facts) -> tuple[float, str] | None:
    if f.device != "cpu" or not f.isas or f.isa == f.isas[-1]:
        return None
    return f.part(f.kernels) / 2, f"the instruction set is {f.isa}, this processor has {f.isas[-1]}: unset FASTNN_ISA"


def direct(f: Facts) -> tuple[float, str] | None:
    if f.winograd or not any(c.row.startswith("conv2d") for c in f.products_of):
        return None
    return f.part(sum(c.seconds for c in f.products_of)) / 2, "Winograd's algorithm is switched off: fastnn._C.set_winograd(True)"


def callbacks(f: Facts) -> tuple[float, str] | None:
    if f.part(f.callbacks) <= 0.1:
        return None
    return f.part(f.callbacks), (
        f"callbacks take {_percent(f.part(f.callbacks))} of the time between steps: let before_step and after_step work every n-th time only"
    )


def validation(f: Facts) -> tuple[float, str] | None:
    if f.validation <= 0.3:
        return None
    return f.validation, f"validation takes {_percent(f.validation)} of an epoch: fewer validation images, --val-fraction"


RULES: tuple[Rule, ...] = (
    data, augmentation, preprocessing, few_threads, many_threads, other_programs, stolen, throttled, eager, checks, small_products, overhead, optimizer,
    odd_channels, half_the_bytes, tensor_cores, instruction_set, direct, callbacks, validation,
)  # fmt: skip


def advice(f: Facts) -> list[Advice]:
    """What the rules say, most at stake first."""
    said = [(rule.__name__, rule(f)) for rule in RULES]
    return sorted([Advice(name, *found) for name, found in said if found is not None], key=lambda a: -a.share)


# --- the report


def report(f: Facts) -> str:
    """Some fifteen lines with a number each, and the advice."""
    each = f.seconds / f.steps
    lines = [
        f"why slow: {f.steps} steps of {f.samples / f.steps:.0f} samples, {1e3 * each:.2f} ms each, {f.samples / f.seconds:,.0f} samples a second"
    ]
    rows = {
        "data": (f.data, "waiting for the next batch"),
        "forward": (f.phases["forward"], "kernels"),
        "backward": (f.phases["backward"], "kernels"),
        "optimizer": (f.phases["optimizer"], "kernels: clipping, update, averages"),
        "other": (f.phases["other"], "kernels outside of layers"),
        "between": (f.between, f"Python, copies and looks between kernels; steps are {_how(f.replayed)}"),
        "callbacks": (f.callbacks, "before the next step"),
    }
    lines += [
        f"  {name:<10}{1e3 * seconds / f.steps:>9.2f} ms {_percent(f.part(seconds)):>6}  {what}"
        for name, (seconds, what) in rows.items()
        if seconds or name in ("data", "forward", "backward")
    ]
    lines += [f"  threads   {_threads(f)}"] if f.device == "cpu" else []
    lines += [f"  peak      {line}" for line in _peak(f)]
    lines += [f"  layer     {line}" for line in _slowest(f)]
    said = advice(f)
    lines += [f"  {i}. {a.text}" for i, a in enumerate(said, 1)]
    if not said:
        lines.append("  nothing stands out: what is left is a smaller model, smaller images or a faster machine")
    return "\n".join(lines)


def _threads(f: Facts) -> str:
    limits = f"{_count(f.cpus, 'CPU', 'CPUs')} allowed, {_count(f.cores, 'physical core', 'physical cores')}, " + (
        f"a quota of {f.quota}" if f.quota else "no quota"
    )
    text = f"{f.threads} ({limits}); "
    if f.load is None or f.load.busy is None:
        return text + "other programs cannot be seen here"
    if f.load.others is None:
        return text + f"{f.load.seconds:.2f} s are too short to see other programs"
    text += f"other programs used {f.load.others:.1f} CPUs"
    if f.load.waited is not None:
        text += f", ours waited {_percent(f.load.waited / f.load.seconds / f.threads)} of the time for one"
    return text


def _peak(f: Facts) -> list[str]:
    worst, products = f.worst(), f.products_of
    if f.peak is None or worst is None:
        return []
    moved = [c for c in f.profile.costs if not c.operations and c.phase != "data"]
    parts = [
        f"{what} at {_percent(reached)} of {rate}"
        for what, reached, rate in (
            ("products", f.reached(products), f"{f.peak.gflops:.0f} GFLOP/s"),
            ("the others", f.reached(moved), f"a copy's {f.peak.copy_gbs:.0f} GB/s"),
        )
        if reached is not None
    ]
    name = f"{worst.layer} ({worst.kind}), {worst.phase}" if worst.layer else worst.phase
    return [
        ", ".join(parts),
        f"most to win: {name}, {worst.row}: {_percent(f.part(worst.seconds))} of the time at {_percent(worst.share(f.peak))} of what it could reach",
    ]


def _slowest(f: Facts, most: int = 5) -> list[str]:
    """The layers that take most time, all directions and kernels of each together."""
    layers = {name: [c for c in costs if c.phase != "data"] for name, costs in f.profile.layers().items()}
    lines = []
    for name, costs in list(layers.items())[:most]:
        reached = f.reached(costs)
        share = "" if reached is None else f" at {_percent(reached)} of what it could reach"
        lines.append(f"{name} ({costs[0].kind}): {_percent(f.part(sum(c.seconds for c in costs)))} of the time{share}")
    left = [c.seconds for costs in list(layers.values())[most:] for c in costs]
    return lines + ([f"{_count(len(layers) - most, 'other layer', 'other layers')}: {_percent(f.part(sum(left)))}"] if left else [])


def _how(replayed: str) -> str:
    return replayed.split(":", 1)[0]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _count(n: int, one: str, more: str) -> str:
    return f"{n} {one if n == 1 else more}"
