"""Other libraries' words, said to Tensors: PyTorch's names and arguments, numpy's functions."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import fastnn
from fastnn import Tensor, elsewhere, nn, ops, tensor

VALUES = np.arange(12, dtype=np.float32).reshape(3, 4) % 7


@pytest.mark.parametrize(
    ("name", "here"),
    [
        ("view", r"x.reshape\(\*shape\)"),
        ("permute", r"x.transpose\(\*axes\)"),
        ("data", r"x.detach\(\)"),
        ("float", r'fastnn.tensor\(x, "float32"\), a copy.*ops.cast.*, of bfloat16'),
        ("astype", r"fastnn.tensor\(x, dtype\), a copy.*ops.cast.*, between float32 and bfloat16"),
        ("numel", "x.size"),
        ("tolist", r"x.numpy\(\).tolist\(\)"),
        ("softmax", r"ops.softmax\(x, ...\)"),
        ("sign", r"np.sign\(x.numpy\(\)\), without a gradient"),
        ("sin", r"np.sin\(x.numpy\(\)\), without a gradient"),
        ("copy", r"fastnn.tensor\(x\), or x \+ 0.0"),
        ("swapaxes", r"x.transpose\(\*axes\)"),
        ("unbind", r"list\(x\)"),
        ("new_zeros", r"fastnn.tensor\(np.zeros\(shape\)\)"),
        ("unsqueeze", r"x\[None\], x\[:, None\]"),
        ("topk", r"np.argsort\(-x.numpy\(\)\)\[..., :k\]"),
        ("flip", r"x\[::-1\]"),
        ("index_select", r"ops.take\(x, positions, axis\)"),
    ],
)
def test_names_of_other_libraries(name: str, here: str) -> None:
    with pytest.raises(AttributeError, match=f"^a Tensor has no attribute '{name}'; here it is .*{here}"):
        getattr(tensor([1.0]), name)


def test_names_that_nothing_replaces() -> None:
    with pytest.raises(AttributeError, match="^a Tensor has no attribute 'nonsense'$"):
        _ = tensor([1.0]).nonsense  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="^a Tensor has no attribute 'zero_'; Tensors get new values by"):
        _ = tensor([1.0]).zero_  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["sum", "mean", "var", "std", "norm", "argmax"])
@pytest.mark.parametrize("words", [{"dim": 1}, {"dim": -2, "keepdim": True}, {"dim": 0, "keepdim": False}], ids=str)
def test_dim_and_keepdim(name: str, words: dict[str, Any]) -> None:
    numpys = {"axis": words["dim"], "keepdims": words.get("keepdim", False)}
    given = getattr(tensor(VALUES), name)(**words).numpy()
    assert np.array_equal(given, getattr(tensor(VALUES), name)(**numpys).numpy())
    assert np.allclose(given, getattr(torch.tensor(VALUES), name)(**words).numpy())


REFUSED: dict[str, tuple[Callable[[Tensor], Any], type[Exception], str]] = {
    "max(dim)": (
        lambda x: x.max(dim=1),
        TypeError,
        r"^max: in PyTorch .* here x.max\(axis\) gives the values, x.argmax\(axis\) the places",
    ),
    "both": (lambda x: x.sum(0, dim=1), TypeError, "^sum: axis and dim are the same; give one of them"),
    "dtype": (lambda x: x.sum(dtype="float64"), TypeError, "^sum: there is no argument 'dtype'; it takes axis and keepdims"),
    "unbiased": (lambda x: x.var(unbiased=False), TypeError, "^var: there is no argument 'unbiased'.*unbiased=False is correction=0"),
    "swap of three": (lambda x: x.reshape(3, 2, 2).transpose(1, 2), ValueError, r"^transpose: axes \(1, 2\) .*all are given in their new"),
    "axes": (lambda x: x.transpose("T"), TypeError, "^transpose: axes must be the dimensions in their new order, got 'T'"),
    "size(0)": (lambda x: x.size(0), TypeError, r"^x.size is the number of elements; here PyTorch's x.size\(0\) is x.shape\[0\]$"),  # type: ignore[operator]
    "size()": (lambda x: x.size(), TypeError, r"^x.size is the number .* x.size\(\) is x.shape$"),  # type: ignore[operator]
    "concat(dim)": (lambda x: ops.concat([x], dim=1), TypeError, "^concat: there is no argument 'dim'; here it is axis$"),  # type: ignore[call-arg]
    "stack(dim)": (lambda x: ops.stack([x], dim=1), TypeError, "^stack: there is no argument 'dim'; here it is axis$"),  # type: ignore[call-arg]
    "mean(dim)": (lambda x: ops.mean(x, dim=1), TypeError, "^mean: there is no argument 'dim'; here it is axis$"),  # type: ignore[call-arg]
    "sum(keepdim)": (lambda x: ops.sum(x, 1, keepdim=True), TypeError, "^sum: .*'keepdim'; here it is keepdims$"),  # type: ignore[call-arg]
    "softmax(axis)": (lambda x: ops.softmax(x, axis=1), TypeError, "^softmax: there is no argument 'axis'; here it is dim$"),  # type: ignore[call-arg]
    "flatten(start_dim)": (lambda x: ops.flatten(x, start_dim=1), TypeError, "^flatten: .*'start_dim'; here it is start$"),  # type: ignore[call-arg]
    "clip(a_min)": (lambda x: ops.clip(x, a_min=1), TypeError, "^clip: there is no argument 'a_min'; is min meant"),  # type: ignore[call-arg]
    "dtype of to": (
        lambda x: x.to("float64"),
        ValueError,
        r"^device 'float64' is not one of .*; fastnn.tensor\(x, dtype\) changes a dtype",
    ),
    "list beside a slice": (lambda x: x[:, [0, 1]], TypeError, r"got list; ops.take\(x, positions, axis=1\) takes several"),
    "in place": (lambda x: ops.relu(x, inplace=True), TypeError, "'inplace'; nothing is in place; leave it out$"),  # type: ignore[call-arg]
    "requires_grad by place": (
        lambda x: nn.Parameter(x, False),  # type: ignore[arg-type]
        TypeError,
        r"^Parameter: dtype must be a word such as 'float32', got False; by its name it is requires_grad=False$",
    ),
    "argmax of nothing": (lambda x: x[:, :0].argmax(1), ValueError, r"^argmax over no elements: shape \(3, 0\), axis 1$"),
    "max of nothing": (lambda x: x[:, :0].max(1), ValueError, r"^max over no elements: shape \(3, 0\), axis 1$"),
    "min of nothing": (lambda x: x[:, :0].min(1), ValueError, r"^min over no elements: shape \(3, 0\), axis 1$"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str) -> None:
    call, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        call(tensor(VALUES))


def test_a_place_along_an_empty_batch_is_no_place() -> None:
    assert tensor(np.zeros((0, 3))).argmax(1).shape == (0,)


def test_axes_in_a_tuple_and_size_as_a_number() -> None:
    x = tensor(VALUES)
    assert np.array_equal(x.transpose((1, 0)).numpy(), VALUES.T) and np.array_equal(x.transpose(1, 0).numpy(), VALUES.T)
    assert x.size == 12 and isinstance(x.size, int) and f"{x.size}" == "12" and x.reshape(x.size).shape == (12,)


def test_the_order_of_dimensions_as_an_array() -> None:
    x, order = tensor(VALUES.reshape(3, 2, 2)), np.array([2, 0, 1])
    for moved in (ops.transpose(x, order), x.transpose(order), x.transpose(*order), x.transpose(order.tolist())):
        assert np.array_equal(moved.numpy(), x.numpy().transpose(order))


@pytest.mark.parametrize("axes", [(0, 1), range(2)], ids=str)
def test_a_swap_that_leaves_a_matrix_as_it_is(axes: Any) -> None:
    with pytest.warns(UserWarning, match=r"^transpose: \(0, 1\) leaves a matrix as it is; x.T ") as told:
        assert np.array_equal(tensor(VALUES).transpose(*axes).numpy(), VALUES)
    assert told[0].filename == __file__


def test_what_is_said_of_absent_words_does_what_they_do() -> None:
    x, theirs = tensor(VALUES), torch.tensor(VALUES)
    for ours, same in (
        (np.argsort(-x.numpy(), kind="stable")[..., :2].shape, theirs.topk(2)[1].shape),
        (np.take_along_axis(VALUES, np.argsort(-x.numpy())[..., :2], 1).tolist(), theirs.topk(2)[0].tolist()),
        ([row.numpy().tolist() for row in list(x)], [row.tolist() for row in theirs.unbind()]),
        (x[::-1].numpy().tolist(), theirs.flip(0).tolist()),
        (x[:, None].shape, tuple(theirs.unsqueeze(1).shape)),
        (ops.take(x, [2, 0], 1).numpy().tolist(), theirs.index_select(1, torch.tensor([2, 0])).tolist()),
        (ops.where(x > 3, x, 0.0).numpy().tolist(), (theirs * (theirs > 3)).tolist()),
    ):
        assert ours == same


def test_the_gradient_of_what_an_operation_made() -> None:
    x = nn.Parameter(VALUES)
    y = x * 2.0
    y.sum().backward()
    with pytest.warns(
        UserWarning, match=r"^grad of a Tensor of shape \(3, 4\) that an operation made is None: .* x = x.detach\(\) and "
    ) as told:
        assert y.grad is None
    assert told[0].filename == __file__ and x.grad is not None
    y = y.detach()
    y.requires_grad = True
    (y * 3.0).sum().backward()
    assert y.grad is not None and (y.grad.numpy() == 3).all()


# --- numpy's functions

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "mean": np.mean,
    "sum": lambda x: np.sum(x, axis=0),
    "exp": np.exp,
    "add": lambda x: np.add(np.ones(4, np.float32), x),
    "std": lambda x: np.std(x, axis=1, keepdims=True),
    "concatenate": lambda x: np.concatenate([x, x]),
    "where": lambda x: np.where(VALUES > 2, x, 0.0),
    "transpose": np.transpose,
    "reduce": np.add.reduce,
    "argmax": lambda x: np.argmax(x, axis=1),
    "isfinite": np.isfinite,
    "array_equal": lambda x: np.array_equal(x, VALUES),
    "zeros_like": np.zeros_like,
    "asarray": np.asarray,
}
LOSE_NOTHING = ("reduce", "argmax", "isfinite", "array_equal", "zeros_like", "asarray")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_numpy_compute_with_the_values(name: str) -> None:
    given, expected = FUNCTIONS[name](tensor(VALUES)), FUNCTIONS[name](VALUES)
    assert type(given) is type(expected) and np.array_equal(given, expected)
    with fastnn.no_grad():
        assert np.array_equal(FUNCTIONS[name](nn.Parameter(VALUES)), expected)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_and_refuse_to_lose_a_gradient(name: str) -> None:
    for x in (nn.Parameter(VALUES), nn.Parameter(VALUES) * 1.0):
        if name in LOSE_NOTHING:
            assert np.array_equal(FUNCTIONS[name](x), FUNCTIONS[name](VALUES))
            continue
        with pytest.raises(RuntimeError, match=f"^numpy.{name} of a Tensor that requires a gradient would lose the gradient: fastnn.ops."):
            FUNCTIONS[name](x)


def test_operators_with_arrays_stay_tensors_with_a_gradient() -> None:
    w = nn.Parameter(VALUES)
    loss = (VALUES * w + np.float32(2) * w + w * np.ones(4)).sum()
    loss.backward()
    assert w.grad is not None and np.allclose(w.grad.numpy(), VALUES + 3)


# --- names of modules


@pytest.mark.parametrize(
    ("module", "name", "here"),
    [
        (fastnn, "zeros", "fastnn.tensor(np.zeros(shape))"),
        (fastnn, "relu", "is fastnn.ops.relu meant?"),
        (fastnn, "Linear", "is fastnn.nn.Linear meant?"),
        (fastnn, "manual_seed", "fastnn.seed(seed)"),
        (fastnn, "device", 'devices are words: "cpu", "cuda", "cuda:1"'),
        (nn, "Conv2D", "is nn.Conv2d meant?"),
        (nn, "ReLU6", "is nn.ReLU meant?"),
        (nn, "Dense", "nn.Linear(in_features, out_features)"),
        (nn, "functional", "fastnn.ops"),
        (fastnn.optim, "lr_scheduler", "optim.schedules; one is given to an optimizer as its lr"),
        (fastnn.data, "DataLoader", "data.Loader(dataset, batch_size, shuffle=True)"),
        (fastnn.data, "MNIST", "is data.mnist meant?"),
        (fastnn.models, "ResNet18", "is models.resnet18 meant?"),
        (fastnn, "enable_grad", "gradients are recorded wherever no `with fastnn.no_grad():` is around"),
        (fastnn, "functional", "fastnn.ops"),
        (fastnn, "argmax", "x.argmax(axis)"),
        (fastnn, "zeros_like", "fastnn.tensor(np.zeros(x.shape))"),
        (nn, "Swish", "nn.SiLU()"),
        (nn, "GlobalAvgPool2d", "nn.AdaptiveAvgPool2d(1)"),
        (nn, "ParameterList", "nn.Parameter(values), each an attribute of the module: setattr(self, f'w{i}', p)"),
        (fastnn.optim, "LambdaLR", "any function of the step, as the lr of an optimizer"),
        (fastnn.optim, "ExponentialLR", "optim.schedules.exponential(lr, factor, unit='epoch'), as the lr of an optimizer"),
        (fastnn.data, "RandomHorizontalFlip", "data.Flip(p)"),
        (fastnn.data, "FancyPCA", "data.PCAColor(std), with ImageNet's colours, or data.PCAColor.fit(training_set)"),
        (fastnn.data, "OpticalDistortion", "data.LensDistortion(k1, k2)"),
        (fastnn.data, "GaussNoise", "data.GaussianNoise(std)"),
        (fastnn.data, "TenCrop", "train.ten_crops(size), views for train.average_views"),
        (fastnn.ops, "interpolate", "ops.upsample(x, size)"),
        (fastnn.train, "CSVLogger", 'train.HistoryFile("history.csv"), which writes a row for each epoch'),
        (fastnn.ops, "cat", "ops.concat([x, y], axis)"),
        (fastnn.ops, "bmm", "ops.matmul(a, b)"),
        (fastnn.ops, "pow", "ops.power(a, b)"),
        (fastnn.ops, "embedding", "ops.take(x, positions, axis)"),
    ],
)
def test_names_of_other_libraries_modules(module: Any, name: str, here: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(module, name)
    said = here if here.endswith("?") else f"here: {here}"
    assert str(caught.value) == f"module {module.__name__!r} has no attribute {name!r}; {said}" and not hasattr(module, "__wrapped__")


def test_what_is_said_of_other_names_is_true() -> None:
    """What stands before the parentheses of each hint is there, and the name that it is for is not."""
    for module, names in elsewhere._HERE.items():
        of = fastnn if module == "fastnn" else getattr(fastnn, module)
        assert not [name for name in names if name in vars(of)]
        for hint in names.values():
            found = re.match(r"(?:fastnn\.)?(nn|ops|optim|data|train|models)\.([\w.]+)", hint)
            target: Any = getattr(fastnn, found[1]) if found else None
            for part in found[2].split(".") if found else ():
                target = getattr(target, part)
    with pytest.raises(AttributeError, match="^module 'fastnn.nn' has no attribute 'nonsense'$"):
        _ = nn.nonsense  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("import fastnn.nn.functional as F", "there is no fastnn.nn.functional; here: fastnn.ops"),
        ("from fastnn.nn import functional as F", "there is no fastnn.nn.functional; here: fastnn.ops"),
        (
            "from fastnn.data import Loader, DataLoader",
            "there is no fastnn.data.DataLoader; here: data.Loader(dataset, batch_size, shuffle=True)",
        ),
        ("from fastnn.utils.data import DataLoader", "there is no fastnn.utils; here: fastnn.data for sets and loaders, "),
        ("from fastnn.optim.lr_scheduler import StepLR", "there is no fastnn.optim.lr_scheduler; here: optim.schedules; "),
        ("from fastnn.layers import Dense", "there is no fastnn.layers; here: fastnn.nn"),
        ("from fastnn import relu", "there is no fastnn.relu; is fastnn.ops.relu meant?"),
        ("from fastnn.nn import nonsense", "cannot import name 'nonsense' from 'fastnn.nn'"),
        ("import fastnn.nonsense", "No module named 'fastnn.nonsense'"),
    ],
)
def test_imports_in_other_libraries_words(line: str, said: str) -> None:
    with pytest.raises(ImportError, match="^" + re.escape(said)):
        exec(line)
    exec("from fastnn import captured, data\nimport fastnn.optim.schedules")  # what is there, lazily or not
    assert not hasattr(nn, "functional") and importlib.util.find_spec("fastnn.nonsense") is None
    assert importlib.util.find_spec("fastnn.nn.functional") is importlib.util.find_spec("fastnn.nn.Liner") is None  # who only asks


def test_a_fresh_import_lists_all_its_names() -> None:
    """For completion, before anything was asked for."""
    code = "import fastnn; assert {*fastnn.__all__} <= {*dir(fastnn)}, {*fastnn.__all__} - {*dir(fastnn)}"
    subprocess.run([sys.executable, "-c", code], check=True)
