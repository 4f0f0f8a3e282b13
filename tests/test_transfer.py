"""Transfer learning: heads, frozen parts, features, stages, and the lectures' table, against PyTorch and networks run by hand."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch_twins

import fastnn
from fastnn import data, models, nn, optim, train
from fastnn.train.linear_probe import probe

SHAPES = {"vgg16": (3, 32, 32), "alexnet": (3, 63, 63), "airbench94": (3, 25, 25), "resnet50": (3, 32, 32)}
SMALL: dict[str, dict[str, Any]] = {"vgg16": {"hidden": 8}, "alexnet": {"hidden": 8}, "airbench94": {"width": 0.25}}
HEADS = {
    **{"linear": "1", "mlp": "7", "lenet": "10", "vgg": "25", "vgg_small": "18", "alexnet": "classifier.6", "vgg16": "classifier.6"},
    **{"airbench94": "head", **dict.fromkeys(("resnet18", "resnet20", "resnet32", "resnet34", "resnet50", "resnet56"), "fc")},
}


def made(name: str, classes: int = 10, **options: Any) -> nn.Module:
    fastnn.seed(0)
    shape = SHAPES.get(name, (1, 8, 8))
    return models.create(name, input_shape=shape, num_classes=classes, **{**SMALL.get(name, {}), **options})


def images(n: int, shape: tuple[int, ...] = (1, 8, 8), seed: int = 0) -> fastnn.Tensor:
    return fastnn.tensor(torch_twins.normal(seed, n, *shape))


@pytest.fixture(scope="module")
def known() -> train.Trainer:
    """Knows the digits from 0 to 4."""
    training, _ = data.digits()
    model = made("vgg_small", 5)
    trainer = train.Trainer(model, optim.Adam(model.parameters(), 2e-3))
    trainer.fit(training.take(training.labels < 5), 4, progress=False)
    return trainer


def others(part: int, most: int | None = None) -> data.ArrayDataset:
    """Digits from 5 to 9, for training or for the test."""
    digits = data.digits()[part]
    chosen = np.flatnonzero(digits.labels >= 5)[:most]
    names = ["five", "six", "seven", "eight", "nine"]
    return data.ArrayDataset(digits.images[chosen], digits.labels[chosen] - 5, names, resize=digits.resize)


def pretrained(known: train.Trainer, tmp_path: Path) -> nn.Module:
    known.save_model(tmp_path / "known.safetensors")
    model = made("vgg_small", 5)
    train.load_pretrained(model, tmp_path / "known.safetensors")
    return model


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
    assert model.architecture["num_classes"] == 3 and train.checkpoint.architecture_of(model)  # type: ignore[attr-defined]
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
    with pytest.raises(ValueError, match="expected 1 channels"):
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


# --- the linear classifier


def test_the_linear_classifier_is_at_the_minimum_of_its_loss() -> None:
    """Where the gradient of mean cross-entropy + |W|^2 / (2 C N), over standardised features, is 0: worked out in float64."""
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((80, 6)) * [1, 10, 0.1, 1, 1, 0] + 3, rng.integers(0, 3, 80)
    x[:, 1] += 8 * labels
    found = probe(data.ArrayDataset(x[:60].astype(np.float32), labels[:60]), data.ArrayDataset(x[60:].astype(np.float32), labels[60:]), 3)
    x = x[:60].astype(np.float32).astype(np.float64)
    std = np.sqrt(x.var(0) + 1e-4 * x.var(0).mean())
    logits = x @ found.weight.T + found.bias
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    missed = (p - np.eye(3)[labels[:60]]) / 60
    weight = found.weight * std
    gradient = missed.T @ ((x - x.mean(0)) / std) + weight / (found.strength * 60)
    assert np.abs(gradient).max() < 1e-4 and np.abs(missed.sum(0)).max() < 1e-4
    assert found.accuracy > 0.5 and found.strength in (1e-3, 1e-2, 1e-1, 1.0, 10.0)


# --- the table


CORNERS: list[tuple[bool, bool, str, tuple[str, ...]]] = [
    (True, False, "a linear classifier on top-layer features", ()),
    (True, True, "fine-tune a few layers", ("15",)),
    (False, True, "fine-tune a larger number of layers", ("7", "8", "10", "11", "15")),
    (False, False, "linear classifiers on several stages, compared", ()),
]


@pytest.mark.parametrize(("similar", "much", "method", "tuned"), CORNERS)
def test_the_four_corners_of_the_table(
    similar: bool, much: bool, method: str, tuned: tuple[str, ...], known: train.Trainer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = pretrained(known, tmp_path)
    before = model.state_dict()
    training, validation = data.split(others(0), 0.2, seed=0)
    training = training if much else training.take(np.arange(60))
    plan = train.plan_transfer(model, training, similar=similar, much=much)
    assert (plan.method, plan.tuned, plan.head) == (method, tuned, "18") and method in str(plan)
    assert all(np.array_equal(value, before[name]) for name, value in model.state_dict().items())
    arguments: dict[str, Any] = {"similar": similar, "much": much, "epochs": 3}
    if not similar and not much:
        with pytest.warns(UserWarning, match="few images, different from those of the network"):
            result = train.transfer(model, training, validation, **arguments)
        assert list(result.stages) == ["6", "13", "18"] and result.accuracy == max(result.stages.values())
    else:
        result = train.transfer(model, training, validation, **arguments)
        after = result.model.state_dict()
        changed = {name.rpartition(".")[0] for name in before if not np.array_equal(before[name], after[name])}
        assert changed == {*tuned, "18"} and not result.stages
    said = capsys.readouterr().out
    assert method in said and "because" not in said and "%" in said
    reached = result.trainer.evaluate(others(1))["accuracy"]
    assert reached > (0.9 if much else 0.7) and result.accuracy > 0.7
    assert result.trainer.epoch == (3 if tuned else 0)
    result.trainer.save_model(tmp_path / "new")
    loaded = train.load_model(tmp_path / "new")
    assert loaded.classes == ("five", "six", "seven", "eight", "nine") and loaded.evaluate(others(1))["accuracy"] == reached


def test_the_amount_decides_where_nobody_says_it() -> None:
    model = made("lenet", 3)

    def little(images: int, classes: int) -> bool:
        samples = data.ArrayDataset(np.zeros((images, 1, 8, 8), np.uint8), np.arange(images) % classes)
        return train.plan_transfer(model, samples, similar=True).little

    assert little(999, 2) and not little(1000, 2) and little(1000, 11) and not little(1100, 11)


def test_rates_fall_towards_the_input_from_a_tenth(known: train.Trainer, tmp_path: Path) -> None:
    model = pretrained(known, tmp_path)
    samples = others(0, 100)
    result = train.transfer(model, samples, similar=False, much=True, epochs=0, lr=1e-2, depth_factor=0.25, progress=False)
    rates = {id(p): group["lr"](0) for group in result.trainer.optimizer.param_groups for p in group["params"]}
    by_name = {name: rates[id(p)] for name, p in model.named_parameters() if id(p) in rates}
    assert {name: pytest.approx(rate) for name, rate in by_name.items()} == {
        name: 1e-3 * (0.25 if name.split(".")[0] in ("7", "8", "10", "11") else 1) for name in by_name
    }
    assert {name.split(".")[0] for name in by_name} == {"7", "8", "10", "11", "15", "18"}
    new = train.transfer(model, samples, similar=True, much=True, epochs=0, features_first=False, progress=False)
    head = [g["lr"](0) for g in new.trainer.optimizer.param_groups if any(p is model[18].weight for p in g["params"])]  # type: ignore[index]
    assert head == [pytest.approx(1e-3)] and np.isnan(new.accuracy)


def test_named_parts_are_frozen_instead_of_the_tables(known: train.Trainer, tmp_path: Path) -> None:
    model = pretrained(known, tmp_path)
    result = train.transfer(model, others(0, 60), similar=True, frozen=["0", "1", "3", "4"], epochs=0, progress=False)
    assert result.plan.tuned == ("7", "8", "10", "11", "15") and not result.plan.little
    assert str(result.plan).endswith("-> fine-tune all but the parts named: 7, 8, 10, 11, 15, 18; 0, 1, 3, 4 stay as they are")
    assert {name.split(".")[0] for name, p in model.named_parameters() if not p.requires_grad} == {"0", "1", "3", "4"}


def test_transfer_repeats_and_resumes_to_the_same_bits(known: train.Trainer, tmp_path: Path) -> None:
    training, validation = data.split(others(0), 0.2, seed=0)

    class Stop(train.Callback):
        def after_epoch(self, trainer: train.Trainer, row: dict[str, float]) -> None:
            trainer.stop = trainer.epoch == 2

    states = []
    for callbacks, resume in (((), None), ((Stop(), train.ModelCheckpoint(tmp_path / "c")), None), ((), tmp_path / "c")):
        model = pretrained(known, tmp_path)
        fastnn.seed(len(states))  # whatever the thread's generator is at
        result = train.transfer(
            model, training, validation, similar=True, much=True, epochs=4, callbacks=callbacks, resume=resume, progress=False
        )
        states.append(result.model.state_dict())
    assert all(np.array_equal(states[0][name], states[2][name]) for name in states[0])
    assert not all(np.array_equal(states[0][name], states[1][name]) for name in states[0])


def test_where_a_lower_stage_is_best_the_network_is_cut_there(tmp_path: Path) -> None:
    """Classes that the first layer's channel shows and the random layers behind it lose."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 120)
    images = (rng.integers(0, 100, (120, 1, 8, 8)) + 60 * labels[:, None, None, None]).astype(np.uint8)
    model = made("lenet", 4)
    for name in ("3", "7"):
        nn.init.zeros_(dict(model.named_modules())[name].weight)  # type: ignore[arg-type]
    with pytest.warns(UserWarning):
        result = train.transfer(model, (images, labels), similar=False, normalize=data.Normalize([80.0], [40.0]), progress=False)
    assert result.layer == "2" and isinstance(result.model, models.Cut) and result.stages["2"] > 0.95 > 0.8 > result.stages["10"]
    assert result.trainer.evaluate((images, labels))["accuracy"] > 0.95
    assert [name for name, p in result.model.named_parameters() if p.requires_grad] == ["fc.weight", "fc.bias"]
    x = fastnn.tensor(torch_twins.normal(0, 4, 1, 8, 8))
    result.model.eval()
    with fastnn.no_grad():
        y = model[:2](x)  # type: ignore[index]
        pooled = nn.MaxPool2d(2)(y).numpy().mean((2, 3))
        np.testing.assert_allclose(result.model.fc(fastnn.tensor(pooled)).numpy(), result.model(x).numpy(), atol=1e-5)
        np.testing.assert_allclose(nn.frozen(result.model)(x).numpy(), result.model(x).numpy(), atol=1e-5)
    result.trainer.save_model(tmp_path / "cut")
    loaded = train.load_model(tmp_path / "cut")
    assert isinstance(loaded.model, models.Cut) and np.array_equal(loaded.predict(images), result.trainer.predict(images))
    assert "cut" not in models.names() and loaded.predict(images).shape == (120, 2)
    with pytest.raises(ValueError, match="of must be a dict"):
        models.create("cut", input_shape=(1, 8, 8))
    with pytest.raises(ValueError, match="layer: there is no 'layer9'"):
        models.Cut(made("lenet"), "layer9", 2, 8)


@pytest.mark.usefixtures("without_memory_checks")
def test_a_cut_network_is_trained_and_replayed_as_any_other() -> None:
    """Whole or its last layer alone; what lies behind the cut gets no gradient."""
    digits, normalize = others(0, 64), data.Normalize([4.0], [5.0])
    for frozen in ((), ("body",)):
        states = []
        for replay in (False, True):
            fastnn.seed(0)
            cut = models.Cut(made("resnet20"), "layer1.1", 5, 16)
            train.freeze(cut, "body.layer1.2", "body.layer2", "body.layer3", "body.fc", *frozen)
            trainer = train.Trainer(cut, optim.Adam(optim.groups(cut), 1e-3), normalize=normalize)
            trainer.fit(digits, 2, progress=False, replay=replay)
            assert trainer.replayed.startswith("replayed") == replay
            states.append(cut.state_dict())
        assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])
        first = models.Cut(made("resnet20"), "layer1.1", 5, 16).state_dict()
        moved = {name for name in first if not name.startswith("fc") and not np.array_equal(first[name], states[0][name])}
        assert ("body.conv1.weight" in moved) == (not frozen) and not any(name.startswith(("body.layer2", "body.fc")) for name in moved)


def test_a_factor_behind_the_last_layer_is_taken_into_account() -> None:
    """airbench94 divides its logits by 9, and has no bias; its frozen whitening and gammas stay frozen."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90)
    photos = (rng.integers(0, 120, (90, 3, 25, 25)) + 40 * labels[:, None, None, None]).astype(np.uint8)
    model = made("airbench94", 4)
    normalize = data.Normalize([100.0] * 3, [50.0] * 3)
    result = train.transfer(model, (photos, labels), similar=False, much=True, epochs=0, normalize=normalize, progress=False)
    rows = train.features(model, (photos, labels), normalize=normalize)
    found = probe(rows, None, 3, centred=False)
    logits = rows.images @ found.weight.T
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(result.trainer.predict(photos), p, atol=2e-3)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert "layers.3.norm1.bias" in trained and "layers.3.norm1.weight" not in trained and not {"whiten.weight", "whiten.bias"} & trained


def test_a_model_that_ends_otherwise_says_so() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3), nn.Tanh())
    digits, normalize = others(0, 60), data.Normalize([4.0], [5.0])
    with pytest.raises(ValueError, match="does more to the last layer's outputs than multiply them"):
        train.transfer(net, digits, similar=True, normalize=normalize, progress=False)
    train.transfer(net, digits, similar=True, much=True, features_first=False, epochs=1, normalize=normalize, progress=False)


def test_validation_has_the_classes_of_the_training_set(known: train.Trainer, tmp_path: Path) -> None:
    samples = others(0, 60)
    for validation, words in (
        ((samples.images, samples.labels + 1), "validation has the label 5; the training set has 5 classes, counted from 0"),
        (
            data.ArrayDataset(samples.images, samples.labels, list("abcde")),
            "validation has the classes a, b, c, d, e; the training set five, six",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            train.transfer(pretrained(known, tmp_path), samples, validation, similar=True, progress=False)


def test_where_nothing_says_how_images_were_prepared_there_is_a_warning() -> None:
    with pytest.warns(UserWarning, match="nothing says how the images of the pretrained network were prepared"):
        train.transfer(made("linear", 5), others(0, 50), similar=True, progress=False)


@pytest.mark.parametrize("wrong", [optim.SGD([nn.Parameter([1.0])], 0.1), nn.Linear, 3, "adam"])
def test_an_optimizer_is_a_function_of_groups_and_a_rate(wrong: Any) -> None:
    with pytest.raises(TypeError, match="transfer: optimizer must be a function of parameter groups and a rate"):
        train.transfer(made("lenet", 5), others(0, 50), similar=True, optimizer=wrong, normalize=data.Normalize([4.0], [5.0]))
