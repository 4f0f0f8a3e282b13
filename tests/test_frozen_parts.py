"""Heads, frozen parts, features and stages of networks, against PyTorch and networks run by hand."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch_twins
from halves_of_digits import SHAPES, images, made, others, trained

import fastnn
from fastnn import data, models, nn, optim, train

HEADS = {
    **{"linear": "1", "mlp": "7", "lenet": "10", "vgg": "25", "vgg_small": "18", "alexnet": "classifier.6", "vgg16": "classifier.6"},
    **{"airbench94": "head", **dict.fromkeys(("resnet18", "resnet20", "resnet32", "resnet34", "resnet50", "resnet56"), "fc")},
}


@pytest.fixture
def known() -> train.Trainer:
    return trained()


# --- heads


@pytest.mark.parametrize("name", models.names())
def test_the_last_layer_of_every_model_is_replaced(name: str) -> None:
    """All else stays, the file says how to build it again, and it gives so many logits."""
    model = made(name)
    before = {key: value.copy() for key, value in model.state_dict().items()}
    assert train.replace_head(model, 3) == HEADS[name]
    head = HEADS[name]
    after = model.state_dict()
    assert after[f"{head}.weight"].shape == (3, *before[f"{head}.weight"].shape[1:]) and (f"{head}.bias" in after) == (
        f"{head}.bias" in before
    )
    assert all(np.array_equal(after[key], before[key]) for key in before if not key.startswith(f"{head}."))
    assert model.eval()(images(2, SHAPES.get(name, (1, 8, 8)))).shape == (2, 3)
    assert model.architecture["num_classes"] == 3 and train.architectures.architecture_of(model)  # type: ignore[attr-defined]
    bound = 1 / np.sqrt(before[f"{head}.weight"][0].size)
    assert 0 < np.abs(after[f"{head}.weight"]).max() <= bound


def test_a_head_keeps_its_kind_type_and_mode() -> None:
    net = (
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 7, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double().eval()
    )
    assert train.replace_head(net, ["a", "b"]) == "2"
    head = net[2]
    assert isinstance(head, nn.Conv2d) and head.weight.shape == (2, 4, 1, 1) and head.bias is None and head.weight.dtype == "float64"
    assert not head.training and net(fastnn.tensor(np.ones((1, 1, 5, 5)), "float64")).shape == (1, 2)
    two = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3), nn.BatchNorm1d(3))
    with pytest.raises(ValueError, match=r"the last layer is 2 \(BatchNorm1d\); give name="):
        train.replace_head(two, 2)
    with pytest.raises(ValueError, match="name: there is no layer 'fc'; there are 0, 1, 2"):
        train.replace_head(two, 2, name="fc")
    assert train.replace_head(two, 3, name="1") == "1"


def test_a_new_head_repeats_by_seed() -> None:
    weights = []
    for _ in range(2):
        model = made("lenet")
        fastnn.seed(3)
        train.replace_head(model, 4)
        weights.append(model.state_dict()["10.weight"])
    assert np.array_equal(*weights)


# --- frozen parts


def test_parts_are_frozen_by_name_and_by_pattern() -> None:
    model = made("resnet20")
    frozen = train.freeze(model, "conv1", "layer1", "layer2.*.conv?", "fc.bias")
    assert all(name.startswith(("conv1.", "layer1.", "layer2.", "fc.bias")) for name in frozen)
    assert "layer2.0.conv2.weight" in frozen and "layer2.0.bn1.weight" not in frozen and "layer2.0.downsample.0.weight" not in frozen
    named = dict(model.named_modules())
    assert (
        not named["layer1.2.bn2"].training
        and named["layer2.0.bn1"].training
        and not named["layer2.0.conv1"].training
        and named["fc"].training
    )
    assert (
        "layer1.0.conv1.weight" in train.unfreeze(model, "layer1.0")
        and named["layer1.0.bn1"].training
        and not named["layer1.1.bn1"].training
    )
    assert len(train.freeze(model)) == len(list(model.parameters())) and model.training and not named["layer3"].training
    assert len(train.unfreeze(model)) == len(list(model.parameters())) and all(m.training for m in model.modules())
    with pytest.raises(ValueError, match="freeze: names: nothing is called 'layer9'; expected one of conv1, bn1, layer1"):
        train.freeze(model, "layer1", "layer9")
    assert all(p.requires_grad for p in model.parameters())


def test_a_model_from_a_file_is_frozen_in_part_all_the_same(known: train.Trainer, tmp_path: Path) -> None:
    """It comes in evaluation mode as a whole; frozen parts stay so when others are frozen after a prediction."""
    known.save_model(tmp_path / "m")
    model = train.load_model(tmp_path / "m").model
    train.freeze(model, "1")
    model.eval()
    train.freeze(model, "4")
    assert model.training and [m.training for m in model.children()][:6] == [True, False, True, True, False, True]


def test_fit_leaves_frozen_parts_as_they_are() -> None:
    model = made("resnet20", 5)
    train.freeze(model)
    train.unfreeze(model, "layer3", "fc")
    before = model.state_dict()
    trainer = train.Trainer(model, optim.Adam(optim.groups(model), 1e-3))
    trainer.fit(others(0, 128), 2, others(1), progress=False)
    after = model.state_dict()
    for name in before:
        same = np.array_equal(before[name], after[name])
        assert same != name.startswith(("layer3", "fc")), name
    assert not dict(model.named_modules())["layer2.0.bn1"].training and dict(model.named_modules())["layer3.0.bn1"].training


@pytest.mark.usefixtures("without_memory_checks")
def test_of_frozen_layers_no_gradient_is_computed_or_kept() -> None:
    """Eager and captured alike: fewer kernels, less memory."""
    kernels, memory = {}, {}
    for frozen in ((), ("conv1", "bn1", "layer1", "layer2")):
        model = made("resnet20")
        if frozen:
            train.freeze(model, *frozen)
        optimizer, loss_of = optim.SGD(optim.groups(model), 0.1), nn.CrossEntropyLoss()

        def step(x: fastnn.Tensor, labels: fastnn.Tensor, model: Any = model, optimizer: Any = optimizer, loss_of: Any = loss_of) -> Any:
            optimizer.zero_grad()
            loss = loss_of(model(x), labels)
            loss.backward()
            optimizer.step()
            return loss

        given = images(64), fastnn.tensor(np.arange(64) % 10)
        step(*given)
        assert all((p.grad is None) == (not p.requires_grad) for p in model.parameters())
        captured = fastnn.capture(step)
        captured(*given), captured(*given)
        backward = [name for name in captured.kernels if "weight" in name or "backward" in name]
        kernels[frozen], memory[frozen] = len(backward), captured.memory["arena"]
    whole, part = kernels.values()
    assert part < 0.5 * whole
    assert list(memory.values())[1] < 0.6 * list(memory.values())[0]


def test_a_fine_tuning_step_is_pytorchs() -> None:
    """ResNet-20 in float64: stem and layer1 frozen, with their statistics; rates falling towards the input; momentum; three steps."""
    theirs = torch_twins.resnet20(num_classes=6, in_channels=1).double()
    ours = made("resnet20", 6).double()
    torch_twins.spread(ours)
    torch_twins.load(theirs, ours.state_dict())
    factors = {"fc": 1.0, "layer3": 1.0, "layer2": 0.25}
    train.freeze(ours)
    train.unfreeze(ours, *factors)
    optimizer = optim.SGD(optim.groups(ours, lr=0.01, factors=factors), 0.01, momentum=0.9)
    theirs.train()
    for name in ("conv1", "bn1", "layer1"):
        getattr(theirs, name).requires_grad_(False).eval()
    groups = [{"params": list(getattr(theirs, name).parameters()), "lr": 0.01 * factor} for name, factor in factors.items()]
    twin = torch.optim.SGD(groups, lr=0.01, momentum=0.9)
    rng = np.random.default_rng(0)
    for _ in range(3):
        x, labels = rng.standard_normal((8, 1, 8, 8)), rng.integers(0, 6, 8)
        optimizer.zero_grad(), twin.zero_grad()
        loss = nn.CrossEntropyLoss()(ours(fastnn.tensor(x, "float64")), labels)
        expected = torch.nn.functional.cross_entropy(theirs(torch.from_numpy(x)), torch.from_numpy(labels))
        loss.backward(), expected.backward()
        optimizer.step(), twin.step()
        np.testing.assert_allclose(float(loss), float(expected.detach()), rtol=1e-9)
    state = ours.state_dict()
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(state[name], value.numpy(), rtol=1e-7, atol=1e-9, err_msg=name)


# --- features


@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("layer", [None, "0", "2", "5", "13", "14", "17"])
def test_features_are_those_of_the_layers_in_front(layer: str | None, average: bool, known: train.Trainer) -> None:
    digits = others(1)
    found = train.features(known.model, digits, layer, average=average, batch_size=50)
    assert known.normalize is not None
    with fastnn.no_grad():
        expected = copy.deepcopy(known.model).eval()[: 18 if layer is None else int(layer) + 1](known.normalize(digits.images)).numpy()  # type: ignore[index]
    expected = expected.mean((2, 3)) if expected.ndim == 4 and average else expected.reshape(len(digits), -1)
    assert found.images.shape == expected.shape and found.images.dtype == np.float32
    np.testing.assert_allclose(found.images, expected, atol=2e-5 * np.abs(expected).max())
    assert np.array_equal(found.labels, digits.labels) and found.classes == digits.classes


def test_features_of_blocks_and_of_what_a_file_gives(tmp_path: Path) -> None:
    model = made("resnet20", 5)
    normalize = data.Normalize([4.0], [5.0])
    train.save_model(tmp_path / "m", model, normalize=normalize)
    loaded = train.load_model(tmp_path / "m")
    digits = others(1, 40)
    x, net = normalize(digits.images), loaded.model
    with fastnn.no_grad():
        y: Any = net.layer1(nn.in_turn([net.conv1, net.bn1], x, activation="relu"))  # type: ignore[attr-defined]
        blocks = net.layer2[0](y)  # type: ignore[attr-defined]
    np.testing.assert_allclose(train.features(loaded, digits, "layer2.0").images, blocks.numpy().mean((2, 3)), atol=1e-4)
    top = train.features(loaded, digits, "avgpool").images
    assert np.array_equal(top, train.features(loaded, digits).images)
    with fastnn.no_grad():
        np.testing.assert_allclose(net.fc(fastnn.tensor(top)).numpy(), net(x).numpy(), atol=1e-4)  # type: ignore[attr-defined]
    assert not any(m._hooks for m in net.modules())


def test_features_are_refused_where_there_are_none(known: train.Trainer) -> None:
    digits = others(1, 10)
    with pytest.raises(ValueError, match="layer: there is no 'layer9'; expected one of 0, 1"):
        train.features(known.model, digits, "layer9")
    with pytest.raises(ValueError, match="expected 1 channel"):
        train.features(known.model, (np.zeros((3, 3, 8, 8), np.uint8), np.arange(3)))
    with pytest.raises(ValueError, match="shuffles"):
        train.features(known.model, data.Loader(digits, 4, shuffle=True, normalize=known.normalize))
    with pytest.raises(ValueError, match="augment"):
        train.features(known.model, data.Loader(digits, 4, augment=data.Flip(), normalize=known.normalize))

    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.spare, self.fc = nn.Linear(64, 3), nn.Linear(64, 3)

        def forward(self, x: fastnn.Tensor) -> fastnn.Tensor:
            y: fastnn.Tensor = self.fc(fastnn.ops.flatten(x))
            return y

    with pytest.raises(ValueError, match="forward did not call 'spare'"):
        train.features(Unused(), digits, "spare", normalize=known.normalize)


# --- stages


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("resnet18", [("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",)]),
        ("resnet20", [("conv1", "bn1", "layer1"), ("layer2",), ("layer3",)]),
        ("lenet", [("0",), ("3",), ("7",)]),
        ("vgg_small", [("0", "1", "3", "4"), ("7", "8", "10", "11"), ("15",)]),
        ("vgg16", [("features.0", "features.2"), ("features.5", "features.7"), ("features.10", "features.12", "features.14"),
                   ("features.17", "features.19", "features.21"), ("features.24", "features.26", "features.28"), ("classifier.0",), ("classifier.3",)]),
        ("airbench94", [("whiten",), ("layers.1",), ("layers.2",), ("layers.3",)]),
        ("mlp", [("1",), ("4",)]),
        ("linear", []),
    ],
)  # fmt: skip
def test_stages_are_runs_of_layers_with_maps_of_one_size(name: str, parts: list[tuple[str, ...]]) -> None:
    model = made(name)
    shape = (1, 64, 64) if name == "resnet18" else SHAPES.get(name, (1, 8, 8))
    found = train.stages(model, shape)
    assert [stage.parts for stage in found] == parts
    samples = data.ArrayDataset(np.zeros((2, *shape), np.float32), np.arange(2))
    for stage in found:
        features = train.features(model, samples, stage.layer)
        assert features.shape == (stage.shape[0],)
    last = found[-1:] and train.features(model, samples, found[-1].layer).images
    assert not found or name == "vgg16" or np.allclose(last, train.features(model, samples).images) or name == "vgg_small"


def test_a_norm_behind_the_last_stage_belongs_to_it() -> None:
    """As it is called, not as it is defined."""
    assert train.stages(made("resnet20", preactivation=True))[-1].parts == ("layer3", "bn1")
    with pytest.raises(ValueError, match="stages: input_shape must be the shape of one image"):
        train.stages(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
