"""A case drawn at random for any row of kernels.def but the convolutions' own: the fields of its struct, the options of its problem.

Sizes crowd around whole vectors, blocks and nothing at all."""

from __future__ import annotations

import functools
import math
import random as drawing
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import reference
import test_bfloat16 as narrow
from kernel_calls import Table, same_bits, using
from kernel_cases import Case
from kernel_problems.activation import FUNCTIONS
from kernel_problems.arrangement import view_parameters
from kernel_problems.loss import HUBER, L1, MSE, SMOOTH_L1
from kernel_problems.optim import PARAMETER_SHAPES, QUINTIC
from random_convolutions import drawn as drawn_convolution

from fastnn import _C

Draw = drawing.Random
Shape = tuple[int, ...]
SIZES = [0, 1, 1, 2, 3, 4, 5, 7, 8, 9, 13, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 100, 127, 128, 129, 257]
FEW = [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 15, 16, 17]
CHANNELS = [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 130]
Sketch = tuple[tuple[Any, ...], dict[str, Any]]


# --- shapes


def a_shape(draw: Draw, ranks: Sequence[int] = range(6), most: int = 20_000, empty: bool = True) -> Shape:
    while True:
        rank = draw.choice(ranks)
        shape = tuple(draw.choice(SIZES if rank < 3 else [*FEW, *FEW, 0, 33]) for _ in range(rank))
        if (empty or 0 not in shape) and math.prod(shape) <= most and (math.prod(shape) or draw.random() < 0.2):
            return shape


def maps(draw: Draw, most: int = 20_000, batch: bool = False) -> Shape:
    while True:
        shape = (draw.choice([1, 1, 2, 3, 5, *([] if batch else [0])]), draw.choice(CHANNELS), draw.randint(1, 19), draw.randint(1, 19))
        if math.prod(shape) <= most:
            return shape


def pair(draw: Draw, low: int, high: int) -> tuple[int, int]:
    return draw.randint(low, high), draw.randint(low, high)


def broadcasting(draw: Draw) -> tuple[Shape, Shape]:
    full = a_shape(draw)

    def part(shape: Shape) -> Shape:
        cut = tuple(1 if draw.random() < 0.3 else n for n in shape)
        return cut[draw.randint(0, len(cut)) :] if draw.random() < 0.5 else cut

    a, b = (full, part(full)) if draw.random() < 0.6 else (part(full), part(full))
    return (a, b) if draw.random() < 0.5 else (b, a)


def rows_and_classes(draw: Draw) -> Shape:
    return draw.choice([n for n in SIZES if n] + [700]), draw.choice([*CHANNELS, 10, 100, 1000])


# --- a drawing for each row


def elements(draw: Draw) -> Sketch:
    return (a_shape(draw),), {}


def power(draw: Draw) -> Sketch:
    return (a_shape(draw), draw.choice([2.0, 0.5, -1.0, 3.0, 0.0, 1.0, 1.7, -0.5, 4.0])), {}


def pointwise(draw: Draw) -> Sketch:
    return (a_shape(draw), *draw.choice(FUNCTIONS)), {}


def binary(draw: Draw) -> Sketch:
    return broadcasting(draw), {}


def compare(draw: Draw) -> Sketch:
    relations = ["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"]
    return (*broadcasting(draw), draw.choice(relations)), {}


def prelu(draw: Draw) -> Sketch:
    full = a_shape(draw)
    return (full, tuple(1 if draw.random() < 0.4 else n for n in full)[draw.randint(0, len(full)) :]), {}


def matmul(draw: Draw) -> Sketch:
    m, n, k = draw.choice([1, *SIZES]), draw.choice([s for s in SIZES if s]), draw.choice([*SIZES, 300, 2049])
    while m * n * k > 2e6:
        m, n, k = draw.choice([1, *SIZES]), draw.choice([s for s in SIZES if s]), draw.choice(SIZES)
    ta, tb, kind = draw.random() < 0.4, draw.random() < 0.5, draw.choice(["plain", "plain", "plain", "batch", "shared"])
    batch = {"plain": (), "batch": draw.choice([(2,), (3,), (5,), (2, 1, 2)]), "shared": draw.choice([(2,), (4,)])}[kind]
    if kind == "shared":
        ta = False
    a, b = (*batch, *((k, m) if ta else (m, k))), (*(() if kind == "shared" else batch), *((n, k) if tb else (k, n)))
    exact = draw.random() < 0.6
    activation = draw.choice(["none", "relu"] if exact else ["none", "relu", "silu", "gelu"])
    return (a, b, ta, tb, activation), {"bias": draw.random() < 0.6, "exact": exact}


def channel_sum(draw: Draw) -> Sketch:
    shape = maps(draw) if draw.random() < 0.6 else rows_and_classes(draw)
    return (shape,), {"exact": draw.random() < 0.6}


def fits(struct: str, parameters: tuple[Any, ...]) -> bool:
    try:
        getattr(_C, struct)(*parameters)
    except ValueError:
        return False
    return True


def window(draw: Draw, struct: str, dilations: bool) -> tuple[Any, ...]:
    while True:
        shape, kernel = maps(draw), pair(draw, 1, draw.choice([2, 3, 3, 7]))
        stride = draw.choice([kernel, (2, 2), pair(draw, 1, 4)])
        pad = draw.choice([(0, 0), (draw.randint(0, kernel[0] // 2), draw.randint(0, kernel[1] // 2))])
        parameters = (shape, kernel, stride, pad, draw.random() < 0.4)
        if dilations:
            parameters = (*parameters, draw.choice([(1, 1), (1, 1), pair(draw, 1, 3)]))
        if fits(struct, parameters):
            return parameters


def maxpool(draw: Draw) -> Sketch:
    return window(draw, "Pool2d", True), {}


def avgpool(draw: Draw) -> Sketch:
    if draw.random() < 0.3:
        return (maps(draw), pair(draw, 1, 9)), {}
    return (*window(draw, "AvgPool2d", False), draw.random() < 0.5, draw.choice([0, 0, 3])), {}


def global_pool(draw: Draw) -> Sketch:
    return (maps(draw),), {}


def fractional(draw: Draw) -> tuple[Shape, Shape, Shape]:
    shape, reach = maps(draw), pair(draw, 1, 4)
    reach = (min(reach[0], shape[2]), min(reach[1], shape[3]))
    return shape, (draw.randint(1, shape[2] - reach[0] + 1), draw.randint(1, shape[3] - reach[1] + 1)), reach


def fractional_regions(draw: Draw) -> Sketch:
    return (*fractional(draw), draw.random() < 0.5, draw.choice([0, 3, 2**33]), draw.choice([0, 5, 2**40])), {}


def region_pool(draw: Draw) -> Sketch:
    shape, output, reach = fractional(draw)
    if draw.random() < 0.6:
        return (shape, output, reach, True), {}
    output = pair(draw, 1, 9)
    shares = [[reference.share(i, size, n) for i in range(n)] for size, n in zip(shape[2:], output, strict=True)]
    return (shape, output, tuple(max(end - begin for begin, end in axis) for axis in shares), False), {}


def pool_places(draw: Draw) -> Sketch:
    return (maps(draw), draw.randint(1, 64), draw.randint(1, 5), pair(draw, 1, 4), draw.random() < 0.5), {}


def upsample(draw: Draw) -> Sketch:
    shape = maps(draw, 6000)
    output = draw.choice([(2 * shape[2], 2 * shape[3]), pair(draw, 1, 25)])
    bilinear = draw.random() < 0.6
    return (shape, output, bilinear, bilinear and draw.random() < 0.5), {}


def batchnorm(draw: Draw, row: str) -> Sketch:
    while True:
        shape = maps(draw, batch=True) if draw.random() < 0.6 else rows_and_classes(draw)
        if math.prod(shape) // shape[1] > 2:
            break
    training = {"batchnorm_forward": True, "batchnorm_inference": False}.get(row, draw.random() < 0.6)
    norm = draw.choice([1e-5, 1e-3]), draw.choice([0.1, 0.3, 1.0]), draw.choice(["none", "relu", "silu", "gelu"]), training
    options = {"affine": draw.random() < 0.8} | ({"running": draw.random() < 0.8} if row == "batchnorm_forward" else {})
    return (shape, *norm, draw.random() < 0.4), options


def conv2d_batchnorm(draw: Draw) -> Sketch:
    while True:
        geometry = drawn_convolution(draw.randrange(2**32), 1).geometry
        outputs = _C.Conv2d(*geometry).y_shape
        if outputs[0] * outputs[2] * outputs[3] > 3:
            norm = draw.choice([1e-5, 1e-3]), 0.1, draw.choice(["none", "relu", "silu"]), draw.random() < 0.4
            return (*geometry, *norm), {name: draw.random() < 0.7 for name in ("bias", "affine", "running")}


def added_gradient(draw: Draw) -> Sketch:
    return drawn_convolution(draw.randrange(2**32), 1).geometry, {"slack": 4}


def normalized(draw: Draw) -> Sketch:
    activation = draw.choice(["none", "relu", "relu", "silu", "gelu"])
    geometry = drawn_convolution(draw.randrange(2**32), 1).geometry
    return (*geometry, activation), {"affine": draw.random() < 0.7, "slack": 4}


def layernorm(draw: Draw) -> Sketch:
    while True:
        shape = a_shape(draw, range(1, 6))
        dims = draw.randint(1, len(shape))
        if len(shape) == 4:
            dims = draw.choice([3, 4])
        if math.prod(shape[len(shape) - dims :]) > 2:
            return (shape, dims, draw.choice([1e-5, 1e-2]), draw.random() < 0.7), {"given": draw.random() < 0.7}


def groupnorm(draw: Draw) -> Sketch:
    while True:
        shape = maps(draw) if draw.random() < 0.7 else rows_and_classes(draw)
        groups = draw.choice([g for g in range(1, shape[1] + 1) if shape[1] % g == 0])
        if math.prod(shape[1:]) // groups > 2:
            return (shape, groups, draw.choice([1e-5, 1e-2]), draw.random() < 0.7), {"given": draw.random() < 0.7}


def dropout(draw: Draw) -> Sketch:
    p = draw.choice([0.0, 0.1, 0.5, 0.9, 1.0])
    return (a_shape(draw), p, draw.choice([0, 5, 2**33]), draw.choice([0, 1, 6, 2**34 + 3]), draw.random() < 0.6 or p == 1), {}


def group_dropout(draw: Draw) -> Sketch:
    shape, unit = draw.choice([maps(draw), rows_and_classes(draw), (3, 5, 7)]), draw.choice(["channel", "sample", "batch"])
    return (shape, unit, draw.choice([0.0, 0.3, 0.5, 0.9]), draw.choice([0, 2**33]), draw.choice([0, 2**34 + 3]), draw.random() < 0.6), {}


def noise(draw: Draw) -> Sketch:
    return (a_shape(draw), draw.choice([0.1, 0.5, 2.0]), draw.choice([0, 5, 2**33]), draw.choice([0, 1, 3, 2**34 + 2])), {}


def reduction(draw: Draw) -> Sketch:
    shape = a_shape(draw, range(1, 6), empty=False)
    axes = tuple(d for d in range(len(shape)) if draw.random() < 0.5)
    return (shape, axes or (draw.randrange(len(shape)),), draw.random() < 0.5), {}


def sums(draw: Draw) -> Sketch:
    parameters, _ = reduction(draw)
    return parameters, {"exact": draw.random() < 0.6}


def view(draw: Draw) -> Sketch:
    """A numpy view: slices with steps and backwards, transposed."""
    shape = a_shape(draw, range(1, 6))
    slices = []
    for n in shape:
        first, last = sorted(pair(draw, 0, n))
        step = draw.choice([1, 1, 2, 3, -1, -2])
        slices.append(slice(first, last, step) if step > 0 else slice(last - 1 if last else None, first - 1 if first else None, step))
    order = draw.sample(range(len(shape)), len(shape)) if draw.random() < 0.5 else list(range(len(shape)))
    return view_parameters(shape, lambda x: x[tuple(slices)].transpose(order)), {}


def gather_along(draw: Draw) -> Sketch:
    shape = a_shape(draw, range(1, 5), empty=False)
    axis = draw.randrange(len(shape))
    if draw.random() < 0.5:
        return (shape, (draw.randint(0, 40),), axis, True), {}
    index = tuple(draw.randint(0, 20) if d == axis else draw.randint(1, n) for d, n in enumerate(shape))
    return (shape, index, axis, False), {}


def softmax(draw: Draw) -> Sketch:
    shape = a_shape(draw, range(1, 6), empty=False)
    return (shape, draw.randrange(-len(shape), len(shape))), {}


def scaled_softmax(draw: Draw) -> Sketch:
    return softmax(draw)[0], {"scale": draw.choice([1.0, 3.0, 30.0])}


def mean_or_sum(draw: Draw) -> str:
    return draw.choice(["none", "mean", "sum"])


def weighted(draw: Draw) -> dict[str, Any]:
    return {"weighted": draw.random() < 0.5}


def cross_entropy(draw: Draw) -> Sketch:
    return (rows_and_classes(draw), draw.choice([0.0, 0.1]), draw.choice([-100, 0]), mean_or_sum(draw)), weighted(draw)


def nll(draw: Draw) -> Sketch:
    return (rows_and_classes(draw), 0.0, draw.choice([-100, 0]), mean_or_sum(draw)), weighted(draw)


def soft_cross_entropy(draw: Draw) -> Sketch:
    return (rows_and_classes(draw), draw.choice([0.0, 0.1]), mean_or_sum(draw)), weighted(draw)


def multi_margin(draw: Draw) -> Sketch:
    return (rows_and_classes(draw), draw.choice([1, 2]), draw.choice([1.0, 0.5]), draw.choice([1.0, 0.1]), mean_or_sum(draw)), weighted(
        draw
    )


def element_loss(draw: Draw) -> Sketch:
    return (a_shape(draw), *draw.choice([MSE, L1, SMOOTH_L1, HUBER]), mean_or_sum(draw)), {}


def binary_cross_entropy(draw: Draw) -> Sketch:
    return (a_shape(draw), mean_or_sum(draw)), weighted(draw)


def penalty(draw: Draw) -> Sketch:
    return (draw.choice([0, 1, 2, 3, 4, 4, 5]), *draw.choice([(0.0, 0.5), (0.25, 0.0), (0.1, 0.3)])), {}


def distance(draw: Draw) -> Sketch:
    while True:
        m, n, d = (draw.choice(SIZES) for _ in range(3))
        if m * n * d <= 1e6:
            return ((m, d), (n, d), draw.choice([1, 2])), {"exact": draw.random() < 0.5}


def update(draw: Draw) -> Sketch:
    count = draw.choice([0, 1, 2, 3, 4, 5, 5, 7])
    pieces = sum(-(-math.prod(PARAMETER_SHAPES[i % len(PARAMETER_SHAPES)]) // 4096) for i in range(count))
    return (count, draw.randint(1, 3), draw.choice([0, pieces])), {}


def muon(draw: Draw) -> Sketch:
    rows, inner, taps = draw.choice([n for n in FEW]), draw.randint(1, 9), draw.choice([(), (1, 1), (3, 3)])
    shape = (rows, inner, *taps)
    count, columns = draw.randint(0, 3), math.prod(shape[1:])
    pieces = count * -(-rows * columns // 4096)
    return (count, draw.randint(1, 3), draw.choice([0, pieces]), rows, columns, draw.randint(1, 3), *QUINTIC), {"shape": shape}


def counted(draw: Draw) -> Sketch:
    return (draw.choice([0, 1, 2, 3, 4, 5, 5, 6, 7]),), {}


def gather_normalize(draw: Draw) -> Sketch:
    shape = maps(draw, batch=True) if draw.random() < 0.6 else rows_and_classes(draw)
    return (shape, draw.randint(0, 9)), {}


def gather_augment(draw: Draw) -> Sketch:
    shape = maps(draw, 4000, batch=True)
    size = draw.choice([shape[2:], pair(draw, 1, 21)])
    warped, coloured = draw.choice([False, True]), shape[1] in (1, 3) and draw.choice([False, True])
    options = {"reach": draw.choice([0, 2, 3, 23]), **{name: draw.choice([False, True]) for name in ("erased", "bent", "noisy")}}
    return (shape, draw.randint(0, 5), size, draw.choice(["reflect", "constant", "edge"]), warped, coloured), options


def random_bits(draw: Draw) -> Sketch:
    return (draw.choice([*SIZES, 10_001]), draw.choice([0, 7, 2**33]), draw.randint(0, 3)), {}


Drawing = Callable[[Draw], Sketch]
BOTH = {
    "maxpool2d": maxpool, "global_avgpool": global_pool, "avgpool2d": avgpool, "regionpool2d": region_pool, "upsample2d": upsample,
    "layernorm": layernorm, "groupnorm": groupnorm, "relu": elements, "silu": elements, "pointwise": pointwise, "prelu": prelu,
    "gather": gather_along, "cross_entropy": cross_entropy, "soft_cross_entropy": soft_cross_entropy, "nll": nll,
    "multi_margin": multi_margin, "element_loss": element_loss, "binary_cross_entropy": binary_cross_entropy, "penalty": penalty,
    "softmax": softmax, "log_softmax": softmax, "logsumexp": softmax, "max": reduction,
}  # fmt: skip
DRAWINGS: dict[str, Drawing] = {f"{name}_{direction}": how for name, how in BOTH.items() for direction in ("forward", "backward")} | {
    "matmul": matmul, "channel_sum": channel_sum, "fractional_regions": fractional_regions, "pool_places": pool_places,
    "conv2d_batchnorm_forward": conv2d_batchnorm, "conv2d_add_backward_input": added_gradient,
    "conv2d_normalized_backward_weight": normalized, "maxpool2d_inference": maxpool, "prelu_slope": prelu, "to_bfloat16": elements, "to_float32": elements,
    "dropout": dropout, "group_dropout": group_dropout, "gaussian_noise": noise, "exp": elements, "log": elements, "sqrt": elements,
    "power": power, "compare": compare, "sum": sums, "copy": view, "copy_backward": view, "paste": view, "distance": distance,
    "muon_step": muon, "gather_normalize": gather_normalize, "gather_augment": gather_augment, "random_bits": random_bits,
    "softmax_forward": scaled_softmax, "log_softmax_forward": scaled_softmax, "logsumexp_forward": scaled_softmax,
    **{row: functools.partial(batchnorm, row=row) for row in ("batchnorm_forward", "batchnorm_inference", "batchnorm_backward")},
    **dict.fromkeys(("add", "subtract", "multiply", "divide", "maximum", "minimum", "where"), binary),
    **dict.fromkeys(("sgd_step", "adam_step", "adagrad_step", "rmsprop_step"), update),
    **dict.fromkeys(("global_norm", "clip_norm", "clip_value", "average", "lookahead", "exchange"), counted),
}  # fmt: skip
NAMES = sorted(DRAWINGS)


def drawn(seed: int, number: int) -> Case:
    """The rows take turns."""
    row = NAMES[number % len(NAMES)]
    parameters, options = DRAWINGS[row](drawing.Random(f"{seed}-row-{number}"))
    return Case(row, parameters, options)


def check(case: Case, table: Table, number: int) -> bool:
    """False where bfloat16 has no row of its own, or test_epilogues.py says what it has to be."""
    if table.dtype == "bfloat16":
        if not narrow.typed(case.row) or case.row in narrow.IN_BETWEEN:
            return False
        narrow.test_bfloat16_is_float32_rounded_once(case, table)
        return True
    alone = case.check(table)
    if number % 4 == 0:
        _C.set_num_threads((1, 2, 3, 7)[number // 4 % 4])
        assert same_bits(case.run(table, shifted=True), alone), "other threads, other bits"
    return True


def run(seed: int, numbers: Sequence[int], tables: Sequence[Table]) -> tuple[Counter[tuple[str, str]], list[str]]:
    """How often each row ran, by (table, row); and a line for each fault, which repeats it."""
    ran: Counter[tuple[str, str]] = Counter()
    faults = []
    usual = _C.get_past_caches_from()
    for number in numbers:
        case = drawn(seed, number)
        _C.set_num_threads((1, 3)[number // len(NAMES) % 2])
        _C.set_past_caches_from((usual, 0)[number // len(NAMES) // 2 % 2])
        for table in tables:
            try:
                with using(table):
                    ran[str(table), case.row] += check(case, table, number)
            except AssertionError as error:
                line = f"python tests/random_numbers.py rows --seed {seed} --first {number} --count 1 --tables {table}"
                faults.append(f"{line}  # {case}: {error}")
    _C.set_past_caches_from(usual)
    return ran, faults
