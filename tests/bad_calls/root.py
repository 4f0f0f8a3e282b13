"""What stands in fastnn itself, and fastnn.models, neighbors, cuda, files: Tensors and their methods, captured steps, gradients checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fastnn
from fastnn import cuda, files, models, neighbors, nn, ops

from . import Subject, dist, interop
from .ops import ROWS, of
from .optim import Good, constants, model

AXIS = constants(axis=1, keepdims=True)
SHAPE = constants(num_classes=4, input_shape=(3, 32, 32))
DEVICE = constants(device="cpu")

# method of a Tensor (4, 3): its arguments
METHODS: dict[str, Good] = {
    "to": DEVICE,
    "copy_from": {"values": lambda: np.ones((4, 3), np.float32)},
    "backward": {"gradient": lambda: np.ones((4, 3), np.float32)},
    "clip": constants(min=-1.0, max=1.0),
    "gather": {"axis": lambda: 1, "index": lambda: np.zeros((4, 1), int)},
    "take": {"index": lambda: np.array([0, 2]), **constants(axis=0)},
    **{name: AXIS for name in ("sum", "mean", "max", "min", "norm", "any", "all")},
    **{name: {**AXIS, **constants(correction=1)} for name in ("var", "std")},
    "argmax": constants(axis=1, keepdims=False),
    "__getitem__": {"index": lambda: (slice(1, 3), 0)},
    "__pow__": constants(exponent=2.0),
    **{f"__{name}__": {"other": ROWS} for name in ("add", "sub", "mul", "truediv", "lt", "le", "gt", "ge", "radd", "rsub", "rmul", "rtruediv")},
    "__matmul__": {"other": of(3, 2)},
    "__rmatmul__": {"other": of(2, 4)},
    "__rpow__": constants(base=2.0),
}  # fmt: skip


def method(name: str) -> Callable[..., Any]:
    def call(**arguments: Any) -> Any:
        leaf = fastnn.tensor(np.ones((4, 3)), requires_grad=name != "copy_from")
        return getattr(leaf if name in ("copy_from", "to") else leaf * 1.0, name)(**arguments)

    def operate(other: Any) -> Any:  # as Python does: by place
        return getattr(fastnn.tensor(np.ones((4, 3)), requires_grad=True) * 1.0, name)(other)

    return operate if METHODS[name].keys() == {"other"} else call


class Twice(fastnn.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return fastnn.tensor(x).numpy() * 2

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        return dy * 2


def user_function(result: Any, gradient: Any) -> None:
    """A Function that gives these."""

    class Given(fastnn.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return result

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            return gradient

    Given.apply(ROWS()).backward(np.ones((4, 3), np.float32))


def captured(step_fn: Any, verify: Any, x: Any) -> Any:
    step = fastnn.capture(step_fn, verify=verify)
    return [step(x), step(x)]


def scaled(x: Any) -> Any:
    return ops.multiply(x, 2.0)


def classifier(**arguments: Any) -> neighbors.KNeighborsClassifier:
    return neighbors.KNeighborsClassifier(**{"n_neighbors": 2, **arguments}).fit(points(), np.array([0, 1, 1, 0, 1, 0]))


def points() -> np.ndarray:
    return np.arange(18.0).reshape(6, 3) % 5


def of_models() -> list[Subject]:
    inside = ("input_shape", "num_classes")
    small: dict[str, Good] = {
        "linear": SHAPE,
        "lenet": {**SHAPE, **constants(dropout=0.5)},
        "mlp": {**SHAPE, **constants(hidden=(4, 3), dropout=0.5)},
        "vgg": {**SHAPE, **constants(widths=(4, 6), hidden=5, dropout=0.5)},
        "vgg_small": SHAPE,
        "airbench94": {**SHAPE, **constants(width=0.1, muon=True)},
        "alexnet": constants(num_classes=4, input_shape=(3, 63, 63), hidden=4, dropout=0.5),
        "vgg16": {**SHAPE, **constants(hidden=4, dropout=0.5, batch_norm=True)},
        "resnet20": {**SHAPE, **constants(preactivation=True, zero_init_residual=True)},
        "resnet18": {**SHAPE, **constants(zero_init_residual=True)},
    }
    whiten: Good = {"images": lambda: np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32), **constants(eps=5e-4)}
    blocks = constants(blocks=(1, 1), widths=(4, 4), num_classes=3, in_channels=3, imagenet_stem=False, zero_init_residual=True)
    return [
        *(Subject(f"models.{name}", getattr(models, name), good, inside) for name, good in small.items()),
        Subject("models.create", created, {**SHAPE, **constants(name="lenet", options={})}, (*inside, "lenet", "no model", "Dropout", "options")),
        Subject("models.register", registered, {"name": lambda: "mine", "maker": lambda: mine}, ("no model", "a model")),
        Subject("Airbench94.whiten_with", lambda **a: models.airbench94(4, width=0.1).whiten_with(**a), whiten),
        Subject("ResNet", models.ResNet, blocks, ("Linear", "Conv2d", "BatchNorm2d")),
        Subject("ConvNet", models.ConvNet, {"features": lambda: nn.Conv2d(3, 2, 3), "classifier": lambda: nn.Linear(2, 2)}),
        Subject("Cut", models.Cut, {"body": stem, **constants(layer="1", num_classes=2, features=2)}, inside),
        Subject("Airbench94", models.Airbench94, {**SHAPE, **constants(widths=(24, 24, 24), scale=0.1)}, ("airbench94", "Linear", "Conv2d", *inside)),
    ]  # fmt: skip


def created(name: Any, options: Any = (), **arguments: Any) -> nn.Module:
    """options: the maker's, or a dropout."""
    named = type(options) is dict and all(isinstance(key, str) for key in options)
    return models.create(name, **arguments, **(options if named else {"dropout": options}))


def registered(**arguments: Any) -> None:
    """For this call alone."""
    before = dict(models._makers)
    try:
        models.register(**arguments)
    finally:
        models._makers.clear()
        models._makers.update(before)


def stem() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU())


def mine(num_classes: int, input_shape: tuple[int, ...]) -> nn.Module:
    return nn.Linear(3, num_classes)


def of_neighbors() -> list[Subject]:
    labels: Good = {"y": lambda: np.array([0, 1, 1, 0, 1, 0])}
    one = ("KNeighborsClassifier", "samples", "n_neighbors")
    return [
        Subject("distances", neighbors.distances, {"a": points, "b": points, **constants(p=2), **DEVICE}, ("device",)),
        Subject("KNeighborsClassifier", classifier, {**constants(n_neighbors=2, p=1), **DEVICE}, ("device",)),
        Subject("KNeighborsClassifier.fit", lambda **a: neighbors.KNeighborsClassifier(2).fit(**a), {"x": points, **labels}, one),
        Subject("KNeighborsClassifier.kneighbors", lambda **a: classifier().kneighbors(**a), {"x": points, **constants(n_neighbors=2)}, one),
        Subject("KNeighborsClassifier.predict", lambda **a: classifier().predict(**a), {"x": points}, one),
        Subject("KNeighborsClassifier.score", lambda **a: classifier().score(**a), {"x": points, **labels}, one),
        Subject("cross_validate", neighbors.cross_validate, {"x": points, **labels, **constants(ks=(1, 2), folds=2, p=2, seed=0), **DEVICE},
                ("KNeighborsClassifier", "k_fold", "device", "n_neighbors")),
        Subject("Choice.plot", lambda path: neighbors.cross_validate(points(), labels["y"](), (1, 2), folds=2).plot(path), constants(path="c.png")),
    ]  # fmt: skip


def written() -> str:
    files.write("arrays", {"a": np.ones(3)})
    return "arrays"


def of_files() -> list[Subject]:
    kept: Good = {"arrays": lambda: {"a": np.ones(3)}, **constants(path="kept", notes={"n": 1})}
    return [
        Subject("files.write", files.write, kept),
        Subject("files.read", lambda path: files.read(path), {"path": written}),
    ]


def of_cuda() -> list[Subject]:
    """On a machine with a GPU or without one: what is said of a wrong argument is the same, and without one there is that to say."""
    names = ("device_name", "empty_cache", "mem_get_info", "memory_stats", "reset_peak_memory_stats", "synchronize")
    without = ("CUDA", "GPU", "device")
    return [
        *(Subject(f"cuda.{name}", getattr(cuda, name), constants(device="cpu"), without) for name in names),
        *(Subject(f"cuda.{name}", getattr(cuda, name), constants(device="cuda:99"), without) for name in ("Stream", "Event")),
        Subject("cuda.pin", cuda.pin, {"tensor": ROWS, **constants(device="cuda:99")}, without),
        Subject("cuda.from_cuda_array", cuda.from_cuda_array, {"array": ROWS, **constants(device="cuda:99")}, without),
        Subject("cuda.stream", lambda s: cuda.stream(s).__enter__(), {"s": lambda: None}, without),
        Subject("Stream.wait", lambda event: cuda.Stream.wait(object.__new__(cuda.Stream), event), {"event": lambda: None}, without),
        Subject(
            "Event.elapsed_time", lambda later: cuda.Event.elapsed_time(object.__new__(cuda.Event), later), {"later": lambda: None}, without
        ),
    ]  # their good call needs a GPU: it is refused too


def of_tensors() -> list[Subject]:
    return [
        *(Subject(f"Tensor.{name}", method(name), good, (name.strip("_r"), "tensor", "Tensor", "index", "device", "power", "matmul", "less", "greater",
                                                         "less_equal", "greater_equal", "add", "subtract", "multiply", "divide"))
          for name, good in METHODS.items()),
        Subject("Tensor.__contains__", lambda value: value in ROWS(), constants(value=1.0), ("equal",)),
        Subject("Tensor.reshape", lambda shape: ROWS().reshape(shape), constants(shape=(3, -1))),
        Subject("Tensor.reshape", lambda rows, columns: ROWS().reshape(rows, columns), constants(rows=3, columns=-1), ("shape",)),
        Subject("no_grad", lambda function: fastnn.no_grad(function), {"function": lambda: ROWS}, ("__enter__",)),
        Subject("Tensor.transpose", lambda axes: ROWS().transpose(*axes) if isinstance(axes, tuple) else ROWS().transpose(axes), constants(axes=(1, 0))),
    ]  # fmt: skip


def of_modules() -> list[Subject]:
    calls: dict[str, Good] = {
        "apply": {"fn": lambda: repr},
        "load_state_dict": {"state": lambda: model().state_dict(), **constants(strict=True)},
        "named_modules": constants(prefix="net"),
        **{name: constants(prefix="net", recurse=True) for name in ("named_parameters", "named_buffers")},
        **{name: constants(recurse=True) for name in ("parameters", "buffers")},
        "state_dict": constants(prefix="net."),
        "register_buffer": {"name": lambda: "shift", "value": ROWS, **constants(persistent=True)},
        "register_parameter": {"name": lambda: "shift", "value": lambda: nn.Parameter(np.ones(3))},
        "register_forward_hook": {"hook": lambda: noted},
        "requires_grad_": constants(requires_grad=False),
        "summary": constants(input_shape=(3,)),
        "to": DEVICE,
        "train": constants(mode=False),
    }
    used = ("Sequential", "Linear", "BatchNorm1d", "device", "summary")

    def called(name: str) -> Callable[..., Any]:
        def call(**arguments: Any) -> Any:
            made = model()
            found = getattr(made, name)(**arguments)
            made(of(4, 3)())
            return list(found) if isinstance(found, Iterator) else made.state_dict()

        return call

    return [Subject(f"Module.{name}", called(name), good, used) for name, good in calls.items()]


def noted(module: nn.Module, args: Any, output: Any) -> None:
    """A hook."""


def tried(function: Callable[..., Any], before: Any) -> Callable[..., Any]:
    """A setting, which is put back afterwards."""

    def call(**arguments: Any) -> None:
        try:
            function(**arguments)
        finally:
            function(before)

    return call


def subjects() -> list[Subject]:
    made: Good = {"array": lambda: np.ones(3), **constants(dtype="float32", requires_grad=False, device="cpu")}
    checked: Good = {"fn": lambda: scaled, "inputs": lambda: [np.ones(3)], **constants(eps=1e-6, rtol=1e-5, atol=1e-7)}
    inputs = ("gradcheck", "tensor", "power", "multiply", "a Tensor", "capture", "captured step", "scaled", "check_gradients")
    judged: Good = {
        **{"fn": lambda: scaled, "inputs": lambda: [np.ones((4, 3)), np.ones((4, 3))], "loss": lambda: nn.MSELoss()},
        **constants(samples=2, eps=1e-5, seed=0),
    }
    sets = {"set_num_threads": fastnn.get_num_threads(), "set_precision": fastnn.get_precision(), "set_finite_checks": False}
    values: dict[str, Good] = {
        "set_num_threads": constants(n=1),
        "set_precision": constants(precision="high"),
        "set_finite_checks": constants(on=True),
    }
    return [
        *interop.subjects(),
        *dist.subjects(),
        *of_tensors(),
        *of_modules(),
        *of_models(),
        *of_neighbors(),
        *of_files(),
        *of_cuda(),
        *(Subject(name, tried(getattr(fastnn, name), before), values[name], ("threads", "precision")) for name, before in sets.items()),
        Subject("tensor", fastnn.tensor, made, ("dtype", "device", "tensor")),
        Subject("Tensor", fastnn.Tensor, {"array": lambda: ROWS()._array, **constants(requires_grad=True)}),
        Subject("seed", tried(fastnn.seed, 0), constants(n=3)),
        Subject("Generator", fastnn.Generator, constants(seed=3)),
        Subject("Generator.bits", lambda **a: fastnn.Generator(0).bits(**a), constants(n=3, draw=0, purpose=0)),
        Subject("Generator.uniform", lambda **a: fastnn.Generator(0).uniform(**a), constants(shape=(2, 3), low=0.0, high=1.0, dtype="float64")),
        Subject("Generator.normal", lambda **a: fastnn.Generator(0).normal(**a), constants(shape=(2, 3), mean=0.0, std=1.0, dtype="float64")),
        Subject("memory_stats", fastnn.memory_stats, DEVICE, ("device",)),
        Subject("empty_cache", fastnn.empty_cache, DEVICE, ("device",)),
        Subject("from_dlpack", fastnn.from_dlpack, {"array": lambda: np.ones((2, 3), np.float32)}, kinds=(BufferError,)),
        Subject("gradcheck", fastnn.gradcheck, checked, inputs),
        Subject("check_gradients", fastnn.check_gradients, judged, (*inputs, "mse_loss", "linear")),
        Subject("capture", captured, {"step_fn": lambda: scaled, "x": lambda: fastnn.tensor(np.ones(3)), **constants(verify=1)}, inputs),
        Subject("Function.apply", lambda args: Twice.apply(args), {"args": ROWS}, ("Twice", "tensor")),
        Subject("Function", user_function, {"result": numbers, "gradient": numbers}, ("Given", "tensor", "backward")),
        Subject("Profile.table", lambda rows: profiled().table(rows=rows), constants(rows=3)),
        Subject("frozen", lambda x: nn.frozen(model())(x), {"x": of(4, 3)}, ("Linear", "BatchNorm1d", "a Tensor")),
        Subject("adopted", adopted, {"values": lambda: np.ones((2, 6, 6, 3), np.float32).transpose(0, 3, 1, 2)}, ("from_dlpack", "Conv2d"),
                kinds=(BufferError,)),
    ]  # fmt: skip


def numbers() -> np.ndarray:
    return np.ones((4, 3), np.float32)


def adopted(values: Any) -> fastnn.Tensor:
    """A layer on memory of another library."""
    return nn.Conv2d(3, 2, 3)(fastnn.from_dlpack(values))


def profiled() -> fastnn.profiler.Profile:
    with fastnn.profile() as found:
        scaled(ROWS())
    return found


ABSENT = {
    "cuda.Stream",
    "cuda.Event",
    "cuda.pin",
    "cuda.from_cuda_array",
    "cuda.stream",
    "Stream.wait",
    "Event.elapsed_time",
}  # no GPU of that number
# Names, and methods of such classes, that take nothing a caller could get wrong, or that others stand for.
PLAIN = {
    **interop.PLAIN,
    **dist.PLAIN,
    "Tensor.__array__": "called by numpy",
    "Tensor.__setitem__": "refuses everything",
    "Tensor.__delitem__": "refuses everything",
    "Tensor.norm.order": "refuses everything",
    "Function.backward": "called by the tape: see Function",
    "Generator.state_on": "called by the operations",
    "Generator.counting_from_here": "called by the operations",
    "Module.absorbs": "called by in_turn",
    "ResNet.block": "one of three classes, for resnet50 and so on",
    "reading": "called by the loaders",
    "replace": "called by write",
    "memory_for": "called around reading and writing",
    "reads": "a decorator of the loaders",
    "fault": "called by the loaders",
    "room": "called by the loaders",
    "opened": "called by the readers, which are here",
    "whole": "called by the readers, which are here",
    "requested": "takes a MemoryError that was caught",
    "CaptureError": "an exception",
    "DeviceError": "an exception",
    "OutOfMemoryError": "an exception",
    "CorruptFile": "an exception",
    "resnet32": "resnet20",
    "resnet56": "resnet20",
    "resnet34": "resnet18",
    "resnet50": "resnet18",
    "Choice": "made by cross_validate",
}
