"""The Module: names, modes, hooks, state, initialisation, summary."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch_twins import assert_close, load, normal

import fastnn
from fastnn import Tensor, models, nn

TN = torch.nn


# --- the Module


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.bn = nn.BatchNorm2d(width)
        self.scale = nn.Parameter(np.full(1, 0.5))
        self.register_buffer("mask", fastnn.tensor(np.ones(width)))
        self.extra = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
        self.nothing = None

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)) * self.scale + x


class TheirBlock(TN.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = TN.Conv2d(width, width, 3, padding=1)
        self.bn = TN.BatchNorm2d(width)
        self.scale = TN.Parameter(torch.full((1,), 0.5))
        self.register_buffer("mask", torch.ones(width))
        self.extra = TN.ModuleList([TN.Linear(2, 2), TN.Linear(2, 2)])
        self.nothing = None


def test_names_are_pytorchs_in_order() -> None:
    ours, theirs = nn.Sequential(Block(2), nn.Sequential(Block(3))), TN.Sequential(TheirBlock(2), TN.Sequential(TheirBlock(3)))
    for walk in ("named_parameters", "named_buffers", "named_modules", "named_children"):
        assert [n for n, _ in getattr(ours, walk)()] == [n for n, _ in getattr(theirs, walk)()], walk
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert len(list(ours.modules())) == len(list(theirs.modules())) and len(list(ours.children())) == 2
    assert len(list(ours.parameters())) == len(list(theirs.parameters())) and len(list(ours.buffers())) == len(list(theirs.buffers()))
    assert isinstance(ours[0].scale, nn.Parameter) and ours[0].scale.dtype == "float32"


def test_prefix_and_recurse_are_pytorchs() -> None:
    ours, theirs = Block(2), TheirBlock(2)
    for walk in ("named_parameters", "named_buffers"):
        for keywords in ({"prefix": "net"}, {"recurse": False}, {"prefix": "a.b", "recurse": False}):
            assert [n for n, _ in getattr(ours, walk)(**keywords)] == [n for n, _ in getattr(theirs, walk)(**keywords)], (walk, keywords)
    for walk in ("parameters", "buffers"):
        assert len(list(getattr(ours, walk)(recurse=False))) == len(list(getattr(theirs, walk)(recurse=False))) == 1
    assert list(ours.state_dict(prefix="net.")) == list(theirs.state_dict(prefix="net."))
    with pytest.raises(TypeError, match="^state_dict: prefix must be a str, got 3"):
        ours.state_dict(3)
    with pytest.raises(TypeError, match="recurse must be True or False, got 1"):
        list(ours.parameters(recurse=1))


def test_a_shared_buffer_is_listed_once_and_stored_under_both_names() -> None:
    ours, theirs = nn.Sequential(nn.Sequential(), nn.Sequential()), TN.Sequential(TN.Sequential(), TN.Sequential())
    for net, value in ((ours, fastnn.tensor(np.ones(2))), (theirs, torch.ones(2))):
        for part in net:
            part.register_buffer("mask", value)
    assert [n for n, _ in ours.named_buffers()] == [n for n, _ in theirs.named_buffers()] == ["0.mask"]
    assert list(ours.state_dict()) == list(theirs.state_dict()) == ["0.mask", "1.mask"]


def test_a_buffer_is_part_of_the_state() -> None:
    net = nn.Sequential()
    net.register_buffer("a", fastnn.tensor([1.0]), persistent=True)
    with pytest.raises(ValueError, match="^register_buffer: persistent=False is not there.*; expected a plain attribute instead"):
        net.register_buffer("b", fastnn.tensor([1.0]), persistent=False)
    assert list(net.state_dict()) == ["a"]


def test_a_shared_module_counts_once() -> None:
    shared = nn.Linear(3, 3)
    net = nn.Sequential(shared, nn.ReLU(), shared)
    assert len(list(net.parameters())) == 2 and len(list(net.modules())) == 3
    x = fastnn.tensor(normal(0, 2, 3))
    net(x).sum().backward()
    theirs = TN.Linear(3, 3).double()
    load(theirs, shared.state_dict())
    theirs(torch.relu(theirs(torch.tensor(x.numpy(), dtype=torch.float64)))).sum().backward()
    assert_close(shared.weight.grad, theirs.weight.grad, 10)


def test_attributes() -> None:
    net = Block(2)
    weight = nn.Parameter(np.zeros((2, 2, 3, 3)))
    net.conv.weight = weight
    assert net.conv.weight is weight and dict(net.named_parameters())["conv.weight"] is weight
    net.conv.bias = None
    assert "conv.bias" not in net.state_dict() and net(fastnn.tensor(normal(0, 2, 2, 4, 4))).shape == (2, 2, 4, 4)
    net.nothing = nn.Linear(2, 2)
    assert "nothing.weight" in net.state_dict()
    del net.nothing
    assert "nothing.weight" not in net.state_dict()
    with pytest.raises(AttributeError, match="Block has no attribute 'nothing'"):
        _ = net.nothing
    with pytest.raises(TypeError, match="Conv2d.weight is registered as a Parameter; cannot assign list"):
        net.conv.weight = [1, 2]

    class Forgetful(nn.Module):
        def __init__(self) -> None:
            self.fc = nn.Linear(2, 2)

    with pytest.raises(AttributeError, match=r"Forgetful: call super\(\).__init__\(\) before assigning fc"):
        Forgetful()
    with pytest.raises(NotImplementedError, match="ModuleList has no forward"):
        nn.ModuleList([])(1)
    with pytest.raises(TypeError, match="Sequential holds modules, got the class ReLU"):
        nn.Sequential(nn.ReLU)


@pytest.mark.parametrize("kind", ["Sequential", "ModuleList"])
def test_modules_are_replaced_and_removed_by_number(kind: str) -> None:
    first, middle, last = nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)
    net = nn.Sequential(first, middle, last) if kind == "Sequential" else nn.ModuleList([first, middle, last])
    other = nn.Linear(4, 5)
    net[2] = other
    assert list(net) == [first, middle, other] and net[-1] is other and list(net[1:]) == [middle, other]
    assert [name for name, _ in net.named_children()] == ["0", "1", "2"] and net.state_dict()["2.weight"].shape == (5, 4)
    net[-2] = nn.Tanh()
    assert [type(module).__name__ for module in net] == ["Linear", "Tanh", "Linear"]
    del net[1]
    assert list(net) == [first, other] and list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    if kind == "Sequential":
        x = fastnn.tensor(np.ones((2, 3)))
        assert np.array_equal(net(x).numpy(), other(first(x)).numpy())
    for number in (2, -3):
        with pytest.raises(IndexError, match=f"{kind}: there is no module {number}; it holds 2, counted from 0"):
            net[number] = other
        with pytest.raises(IndexError, match=f"{kind}: there is no module {number}"):
            del net[number]
    with pytest.raises(TypeError, match=f"{kind} holds modules, got 3"):
        net[0] = 3
    with pytest.raises(TypeError, match=f"{kind}: index must be an integer, got slice"):
        net[0:1] = other
    assert list(net) == [first, other]


def test_a_child_with_a_name_has_a_number_too() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    net.head = nn.Linear(8, 2)
    assert net[-1] is net[2] is net.head and list(net[1:]) == [net[1], net.head]
    net[-1] = other = nn.Linear(8, 3)
    assert net.head is other and list(dict(net.named_children())) == ["0", "1", "head"]
    net.append(nn.ReLU())
    assert isinstance(net[3], nn.ReLU) and len(net) == 4 and net[2] is other


def test_train_and_eval_reach_everything() -> None:
    net = nn.Sequential(Block(2), nn.Sequential(nn.Dropout(0.5)))
    x = fastnn.tensor(normal(0, 2, 2, 4, 4))
    assert net.eval() is net and not any(m.training for m in net.modules())
    before = net.state_dict()
    assert np.array_equal(net(x).numpy(), net(x).numpy())
    assert all(np.array_equal(v, before[k]) for k, v in net.state_dict().items()), "evaluation moved a buffer"
    assert net.train() is net and all(m.training for m in net.modules())
    assert not np.array_equal(net(x).numpy(), net(x).numpy())
    assert net.state_dict()["0.bn.num_batches_tracked"] == 2


def test_zero_grad_and_apply() -> None:
    net = Block(2)
    net(fastnn.tensor(normal(0, 2, 2, 4, 4))).sum().backward()
    assert net.conv.weight.grad is not None
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    visited: list[str] = []
    assert net.apply(lambda m: visited.append(type(m).__name__)) is net
    assert sorted(visited) == ["BatchNorm2d", "Block", "Conv2d", "Linear", "Linear", "ModuleList"]


def test_module_dict() -> None:
    heads = nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.ReLU()})
    heads["c"] = nn.Linear(3, 1)
    theirs = TN.ModuleDict({"a": TN.Linear(2, 3), "b": TN.ReLU(), "c": TN.Linear(3, 1)})
    assert list(heads.state_dict()) == list(theirs.state_dict()) and list(heads) == list(heads.keys()) == ["a", "b", "c"]
    assert len(heads) == 3 and "a" in heads and heads["b"] is list(heads.values())[1] and dict(heads.items())["c"] is heads["c"]
    del heads["b"]
    assert list(heads.state_dict()) == list(theirs.state_dict()) and "b" not in heads
    with pytest.raises(TypeError, match="ModuleDict holds modules, got the class Linear"):
        heads["d"] = nn.Linear
    for name in ("forward", "a.b"):
        with pytest.raises(KeyError, match="cannot name a module"):
            heads[name] = nn.ReLU()


def test_requires_grad_reaches_everything() -> None:
    net = nn.Sequential(nn.Linear(3, 3), Block(2))
    assert net.requires_grad_(False) is net and not any(p.requires_grad for p in net.parameters())
    net[0].requires_grad_()
    assert [n for n, p in net.named_parameters() if p.requires_grad] == ["0.weight", "0.bias"]


def test_parameters_that_do_not_require_a_gradient() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    for p in net[0].parameters():
        p.requires_grad = False
    with fastnn.profile() as kernels:
        net(fastnn.tensor(normal(0, 4, 3))).sum().backward()
    assert net[0].weight.grad is None and net[1].weight.grad is not None
    assert kernels["matmul"]["calls"] == 3, "forward twice and one weight gradient: nothing for the frozen layer"


# --- state


def test_load_state_dict_is_all_or_nothing() -> None:
    net = Block(2)
    net(fastnn.tensor(normal(0, 2, 2, 4, 4)))
    before = net.state_dict()
    other = {k: v + 1 for k, v in before.items()}

    def refused(state: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            net.load_state_dict(state)
        assert all(np.array_equal(v, before[k]) for k, v in net.state_dict().items()), "a refused state was loaded in part"

    refused({**other, "extra.1.bias": np.zeros(3)}, r"load_state_dict of Block: extra.1.bias has shape \(3,\), expected \(2,\)")
    refused({k: v for k, v in other.items() if k not in ("bn.weight", "mask")}, "missing mask, bn.weight")
    refused({**other, "fc.weight": np.zeros(2)}, "unexpected fc.weight")
    refused({**other, "extra.1.bias": np.array(["a", "b"])}, "extra.1.bias")
    refused({**other, "extra.1.bias": np.zeros(3), "bn.bias": np.zeros(1)}, r"bn.bias .*extra.1.bias|extra.1.bias .*bn.bias")

    net.load_state_dict({**{k: v for k, v in other.items() if k != "mask"}, "fc.weight": np.zeros(2)}, strict=False)
    assert np.array_equal(net.scale.numpy(), other["scale"]) and np.array_equal(net.mask.numpy(), before["mask"])
    net.load_state_dict({k: v for k, v in before.items() if not k.endswith("num_batches_tracked")})  # as of old PyTorch
    assert np.array_equal(net.scale.numpy(), before["scale"])


def test_what_a_state_lacks_or_has_too_much_is_returned() -> None:
    net, theirs = Block(2), TheirBlock(2)
    state = net.state_dict()
    assert net.load_state_dict(state) == ([], [])
    partly = {**{name: value for name, value in state.items() if not name.startswith("conv.")}, "head.bias": np.zeros(2)}
    left_out = net.load_state_dict(partly, strict=False)
    assert left_out == theirs.load_state_dict({name: torch.tensor(value) for name, value in partly.items()}, strict=False)
    assert left_out.missing_keys == ["conv.weight", "conv.bias"] and left_out.unexpected_keys == ["head.bias"]
    assert "bn.weight" in net.load_state_dict({}, strict=False).missing_keys


def test_a_state_of_which_nothing_fits_is_told_of() -> None:
    net = Block(2)
    renamed = {f"module.{name}": value for name, value in net.state_dict().items()}
    with pytest.warns(
        UserWarning, match=r"^load_state_dict of Block: nothing was loaded: .* as module\.scale, .*; its own .* scale$"
    ) as seen:
        missing, unexpected = net.load_state_dict(renamed, strict=False)
    assert [one.filename for one in seen] == [__file__]
    assert len(missing) == len(renamed) - 1 and unexpected == sorted(renamed)  # less num_batches_tracked


def test_load_state_dict_takes_tensors_of_all_kinds() -> None:
    net = nn.Linear(3, 2)
    theirs = TN.Linear(3, 2)
    for state in (
        theirs.state_dict(),
        {k: v.double().numpy() for k, v in theirs.state_dict().items()},
        {k: fastnn.tensor(v.numpy()) for k, v in theirs.state_dict().items()},
    ):
        net.load_state_dict({k: np.zeros(v.shape) for k, v in net.state_dict().items()})
        net.load_state_dict(state)
        assert np.array_equal(net.weight.numpy(), theirs.weight.detach().numpy()) and net.weight.dtype == "float32"


@pytest.mark.parametrize(
    "dtype, values, words",
    [
        ("uint8", [300, -1], r"u: 300 at \(0,\) is no uint8; expected 0 to 255"),
        ("uint8", [2.5, 1.0], "u has fractions, expected uint8"),
        ("int64", [np.nan, 1.0], "u has fractions, expected int64"),
        ("int64", [1e30, 1.0], r"u: 1e\+30 at \(0,\) is no int64"),
        ("int64", np.array([2**64 - 1, 0], np.uint64), "is no int64"),
    ],
)
def test_no_integer_becomes_another_one_when_it_is_loaded(dtype: str, values: Any, words: str) -> None:
    model = nn.Module()
    model.register_buffer("u", fastnn.tensor([3, 4], dtype))
    with pytest.raises(ValueError, match=f"load_state_dict of Module: .*{words}"):
        model.load_state_dict({"u": np.asarray(values)})
    model.load_state_dict({"u": np.array([7.0, 9.0])})  # as other programs write counters
    assert model.u.numpy().tolist() == [7, 9]


def test_a_buffer_in_bfloat16_is_loaded_and_converted() -> None:
    model = nn.Module()
    model.register_buffer("b", fastnn.tensor([1.5, 2.5], "bfloat16"))
    model.load_state_dict({"b": model.state_dict()["b"] + 1})
    assert model.b.dtype == "bfloat16" and model.b.numpy().tolist() == [2.5, 3.5]
    assert model.double().b.dtype == "float64" and model.float().b.dtype == "float32" and model.b.numpy().tolist() == [2.5, 3.5]


@pytest.mark.parametrize("values", [[0.5, 1.0], [np.nan, 0.0], [7, 0]])
def test_a_mask_takes_what_is_true_or_false(values: Any) -> None:
    model = nn.Module()
    model.register_buffer("mask", fastnn.tensor([True, False]))
    with pytest.raises(ValueError, match="^load_state_dict of Module: mask has other values than 0 and 1, expected bool$"):
        model.load_state_dict({"mask": np.asarray(values)})
    model.load_state_dict({"mask": np.array([0.0, 1.0])})
    assert model.mask.numpy().tolist() == [False, True]


def test_two_tensors_may_change_places() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    before = model.state_dict()
    for view in (lambda p: p, lambda p: p.numpy(), lambda p: p.numpy()[:]):
        model.load_state_dict({f"{1 - i}.{name}": view(p) for i in (0, 1) for name, p in model[i].named_parameters()})
        after = model.state_dict()
        assert all((after[f"{1 - i}.{name}"] == before[f"{i}.{name}"]).all() for i in (0, 1) for name in ("weight", "bias"))
        before = after


def test_state_dict_is_a_copy() -> None:
    net = nn.Linear(3, 2)
    state = net.state_dict()
    kept = state["weight"].copy()
    net.weight.copy_from(np.zeros((2, 3)))
    assert np.array_equal(state["weight"], kept)
    state["weight"][...] = 7
    assert not net.weight.numpy().any()


@pytest.mark.parametrize("clone_of", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_modules_deepcopy_and_pickle(clone_of: Callable[[nn.Module], nn.Module]) -> None:
    net = nn.Sequential(Block(2), nn.Flatten(), nn.Linear(32, 3)).eval()
    net[2].bias.requires_grad = False
    clone = clone_of(net)
    x = fastnn.tensor(normal(0, 2, 2, 4, 4))
    assert np.array_equal(clone(x).numpy(), net(x).numpy()) and list(clone.state_dict()) == list(net.state_dict())
    assert all(type(p) is nn.Parameter for p in clone.parameters())
    assert not clone[2].bias.requires_grad and clone[2].weight.requires_grad and not clone[0].training
    for p in clone.parameters():
        p.copy_from(np.zeros(p.shape))
    assert net[2].weight.numpy().any() and not clone(x).numpy().any()
    clone.train()(x).sum().backward()
    assert clone[0].conv.weight.grad is not None and net[0].conv.weight.grad is None


# --- initialisation


@pytest.mark.parametrize(("make", "fan_in"), [(lambda: nn.Linear(64, 50), 64), (lambda: nn.Conv2d(8, 30, 3, groups=2), 36)])
def test_default_initialisation_is_pytorchs(make: Callable[[], nn.Module], fan_in: int) -> None:
    fastnn.seed(0)
    layer = make()
    bound = 1 / np.sqrt(fan_in)
    for p in layer.parameters():
        v = p.numpy()
        assert 0.9 * bound < np.abs(v).max() <= bound
        assert abs(v.std() - bound / np.sqrt(3)) < 4 * bound / np.sqrt(v.size) and abs(v.mean()) < 4 * bound / np.sqrt(3 * v.size)


def test_the_seed_gives_the_same_weights() -> None:
    def weights(seed: int) -> list[bytes]:
        fastnn.seed(seed)
        return [v.tobytes() for v in models.lenet().state_dict().values()]

    assert weights(1) == weights(1) != weights(2)
    fastnn.seed(1)
    assert not np.array_equal(nn.Linear(4, 4).weight.numpy(), nn.Linear(4, 4).weight.numpy())
    for wrong in (-1, 2**63):
        with pytest.raises(ValueError, match="seed: n must (not be negative|be less than)"):
            fastnn.seed(wrong)


@pytest.mark.parametrize(
    ("fill", "mean", "std"),
    [
        (lambda w: nn.init.zeros_(w), 0, 0),
        (lambda w: nn.init.constant_(w, 0.3), 0.3, 0),
        (lambda w: nn.init.normal_(w, 1, 0.5), 1, 0.5),
        (lambda w: nn.init.uniform_(w, -1, 3), 1, 4 / np.sqrt(12)),
        (lambda w: nn.init.kaiming_normal_(w), 0, np.sqrt(2 / 180)),
        (lambda w: nn.init.kaiming_normal_(w, 0, "fan_out", "linear"), 0, np.sqrt(1 / 360)),
        (lambda w: nn.init.kaiming_uniform_(w, np.sqrt(5)), 0, np.sqrt(1 / 180 / 3)),
        (lambda w: nn.init.kaiming_normal_(w, a=0.2, mode="fan_out"), 0, np.sqrt(2 / 1.04 / 360)),
        (lambda w: nn.init.ones_(w), 1, 0),
        (lambda w: nn.init.orthogonal_(w, 2), 0, 2 / np.sqrt(180)),
        (lambda w: nn.init.kaiming_uniform_(w), 0, np.sqrt(2 / 180)),
        (lambda w: nn.init.xavier_normal_(w), 0, np.sqrt(2 / 540)),
        (lambda w: nn.init.xavier_uniform_(w, 2.0), 0, 2 * np.sqrt(2 / 540)),
    ],
)
def test_initialisers(fill: Callable[[Tensor], Tensor], mean: float, std: float) -> None:
    fastnn.seed(4)
    w = nn.Parameter(np.full((40, 20, 3, 3), 9.0))
    version = w._array.version
    assert fill(w) is w and w._array.version == version + 1
    v = w.numpy().astype(np.float64)
    assert abs(v.mean() - mean) <= 5 * std / np.sqrt(v.size) + 1e-6 and abs(v.std() - std) <= 0.03 * std + 1e-6
    with pytest.raises(ValueError, match="fan_in and fan_out need a weight of rank 2"):
        nn.init.kaiming_normal_(nn.Parameter(np.zeros(3)))


# --- summary


def test_summary_counts_what_the_paper_counts() -> None:
    lenet = models.lenet().summary((1, 28, 28))
    assert lenet.parameters == 320 + 18_496 + 401_536 + 1_290
    assert lenet.macs == 28 * 28 * 32 * 9 + 14 * 14 * 64 * 32 * 9 + 3136 * 128 + 1280
    assert [row.output_shape for row in lenet.layers][:3] == [(32, 28, 28), (32, 28, 28), (32, 14, 14)]
    text = str(lenet)
    assert "421,642" in text and "4,241,152" in text and "32 x 14 x 14" in text and "Conv2d(1->32, 3x3, padding 1)" in text


def test_summary_of_resnet18() -> None:
    model = models.resnet18(num_classes=10)
    before = model.state_dict()
    summary = model.summary((3, 224, 224))
    assert summary.parameters == 11_689_512 - 990 * 513  # torchvision's, with 10 classes instead of 1000
    assert summary.macs == 1_814_073_344 - 990 * 512
    assert {r.name: r.output_shape for r in summary.layers}["layer4.1.conv2"] == (512, 7, 7)
    assert all(m.training and not m._hooks for m in model.modules()), "summary left its hooks or the mode behind"
    assert all(np.array_equal(v, before[k]) for k, v in model.state_dict().items())


def test_summary_of_special_cases() -> None:
    shared = nn.Linear(3, 3)
    twice = nn.Sequential(shared, nn.ReLU(), shared).summary((3,))
    assert len(twice.layers) == 3 and twice.parameters == 12 and twice.macs == 18
    pool = nn.Sequential(nn.MaxPool2d(2)).summary((1, 5, 6))
    assert "drops 1 rows, 0 columns" in str(pool) and pool.layers[0].output_shape == (1, 2, 3)
    pool = nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=3)).summary((1, 5, 7))
    assert "drops 1 rows, 1 columns" in str(pool) and [row.output_shape for row in pool.layers] == [(1, 2, 3), (1, 6, 9)]
    transposed = nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2).summary((4, 5, 5))
    assert transposed.layers[0].output_shape == (6, 11, 11) and transposed.parameters == 4 * 3 * 9 + 6 and transposed.macs == 100 * 27
    norms = nn.Sequential(nn.GroupNorm(2, 4), nn.LayerNorm((4, 5, 5))).summary((4, 5, 5))
    assert norms.parameters == 8 + 200 and norms.macs == 0
    assert nn.Sequential(nn.Maxout(6, 4, 3)).summary((6,)).macs == 72
    assert nn.Linear(3, 2).double().summary((3,)).macs == 6
    with pytest.raises(ValueError, match="0 .Linear"):
        nn.Sequential(nn.Linear(3, 2)).summary((4,))


class Scaled(nn.Module):
    """A layer inside, and a parameter of its own."""

    def __init__(self, bare: bool = False) -> None:
        super().__init__()
        self.inside, self.scale, self.bare = nn.Linear(8, 4), nn.Parameter(np.ones(4)), bare

    def forward(self, x: fastnn.Tensor) -> object:
        y = self.inside(x) * self.scale
        return {"y": y} if self.bare else y


def test_summary_counts_what_a_module_of_several_owns_itself() -> None:
    net = nn.Sequential(nn.Linear(5, 8), Scaled(), nn.Linear(4, 4))
    summary = net.summary((5,))
    assert summary.parameters == sum(p.size for p in net.parameters()) == 48 + 36 + 4 + 20
    assert [(row.name, row.parameters) for row in summary.layers] == [("0", 48), ("1.inside", 36), ("1", 4), ("2", 20)]
    assert summary.layers[2].layer == "Scaled" and summary.layers[2].output_shape == (4,)
    assert Scaled(bare=True).summary((8,)).parameters == 40  # of whose output there is no shape


def test_summary_marks_frozen_parameters() -> None:
    net = nn.Sequential(nn.Linear(5, 8), Scaled())
    assert net.summary((5,)).frozen == 0 and "frozen" not in str(net.summary((5,)))
    net[0].requires_grad_(False)
    net[1].inside.bias.requires_grad = False
    summary = net.summary((5,))
    assert (summary.parameters, summary.frozen) == (88, 52) and [row.frozen for row in summary.layers] == [48, 4, 0]
    assert str(summary).splitlines()[-1].split() == ["total", "88", "72", "52", "frozen"]


class Idle(nn.Module):
    """A layer that is used in training only, and one that is never called but read."""

    def __init__(self) -> None:
        super().__init__()
        self.main, self.extra, self.table = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(2, 2, bias=False)

    def forward(self, x: fastnn.Tensor) -> fastnn.Tensor:
        return self.extra(self.main(x)) if self.training else self.main(x)


def test_summary_counts_layers_that_were_not_called() -> None:
    net = Idle()
    net.extra.bias.requires_grad = False
    summary = net.summary((3,))
    assert (summary.parameters, summary.frozen, summary.macs) == (12 + 12 + 4, 3, 9)
    assert [(row.name, row.called, row.note) for row in summary.layers] == [
        ("main", True, ""), ("extra", False, "not called, 3 frozen"), ("table", False, "not called"),
    ]  # fmt: skip
    assert str(summary).splitlines()[3].split() == "extra Linear(3->3) - 12 0 not called, 3 frozen".split()


def test_summary_counts_dropped_weights_once() -> None:
    summary = nn.Sequential(nn.DropConnect(nn.Linear(3, 4), inverted=False)).summary((3,))
    assert [(row.parameters, row.note, row.called) for row in summary.layers] == [(16, "", True)]


# --- assigning attributes


def test_a_parameter_can_only_be_replaced_by_a_parameter() -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(TypeError, match="weight is registered as a Parameter"):
        layer.weight = fastnn.tensor(np.zeros((2, 2)))
    layer.weight = nn.Parameter(np.ones((2, 2)))
    assert list(dict(layer.named_parameters())) == ["weight", "bias"]
    assert nn.Parameter([1, 2]).dtype == "float32"


def test_a_replaced_module_keeps_its_place() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    setattr(net, "0", nn.Linear(2, 3))
    assert [name for name, _ in net.named_children()] == ["0", "1", "2"]
    part = net[1:]
    assert isinstance(part, nn.Sequential) and list(part) == list(net)[1:]
