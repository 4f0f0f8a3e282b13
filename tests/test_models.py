"""The networks with torchvision's names: the same keys, shapes and outputs as the published definitions, written in PyTorch here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torch_twins import assert_close, load, normal

import fastnn
from fastnn import models, nn

torch = pytest.importorskip("torch")
TN = torch.nn


class Bottleneck(TN.Module):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = TN.Conv2d(channels, width, 1, bias=False), TN.BatchNorm2d(width)
        self.conv2, self.bn2 = TN.Conv2d(width, width, 3, stride, 1, bias=False), TN.BatchNorm2d(width)
        self.conv3, self.bn3 = TN.Conv2d(width, 4 * width, 1, bias=False), TN.BatchNorm2d(4 * width)
        shortcut = TN.Sequential(TN.Conv2d(channels, 4 * width, 1, stride, bias=False), TN.BatchNorm2d(4 * width))
        self.downsample = shortcut if stride != 1 or channels != 4 * width else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(torch.relu(self.bn2(self.conv2(y)))))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet50(TN.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = TN.Conv2d(3, 64, 7, 2, 3, bias=False), TN.BatchNorm2d(64)
        channels = 64
        for i, (count, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
            blocks = []
            for j in range(count):
                blocks.append(Bottleneck(channels, width, 2 if i and not j else 1))
                channels = 4 * width
            self.add_module(f"layer{i + 1}", TN.Sequential(*blocks))
        self.fc = TN.Linear(2048, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = TN.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        return self.fc(self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3)))


class Plain(TN.Module):
    def __init__(self, features: list[TN.Module], classifier: list[TN.Module]) -> None:
        super().__init__()
        self.features, self.classifier = TN.Sequential(*features), TN.Sequential(*classifier)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


def their_alexnet(maps: int, hidden: int, num_classes: int) -> Plain:
    features = [
        TN.Conv2d(3, 64, 11, 4, 2), TN.ReLU(), TN.MaxPool2d(3, 2), TN.Conv2d(64, 192, 5, padding=2), TN.ReLU(), TN.MaxPool2d(3, 2),
        TN.Conv2d(192, 384, 3, padding=1), TN.ReLU(), TN.Conv2d(384, 256, 3, padding=1), TN.ReLU(),
        TN.Conv2d(256, 256, 3, padding=1), TN.ReLU(), TN.MaxPool2d(3, 2),
    ]  # fmt: skip
    head = [TN.Dropout(), TN.Linear(256 * maps, hidden), TN.ReLU(), TN.Dropout(), TN.Linear(hidden, hidden), TN.ReLU()]
    return Plain(features, [*head, TN.Linear(hidden, num_classes)])


def their_vgg16(maps: int, hidden: int, num_classes: int, batch_norm: bool = False) -> Plain:
    features: list[TN.Module] = []
    channels = 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        if not width:
            features.append(TN.MaxPool2d(2, 2))
            continue
        features += [TN.Conv2d(channels, width, 3, padding=1), *([TN.BatchNorm2d(width)] if batch_norm else []), TN.ReLU()]
        channels = width
    head = [TN.Linear(512 * maps, hidden), TN.ReLU(), TN.Dropout(), TN.Linear(hidden, hidden), TN.ReLU(), TN.Dropout()]
    return Plain(features, [*head, TN.Linear(hidden, num_classes)])


Make = Callable[[], nn.Module]


@pytest.mark.parametrize("make, make_theirs, size", [
    (lambda: models.resnet50(7), lambda: ResNet50(7), (64, 48)),
    (lambda: models.alexnet(7, (3, 63, 95), hidden=24), lambda: their_alexnet(2, 24, 7), (63, 95)),
    (lambda: models.vgg16(7, (3, 32, 64), hidden=24), lambda: their_vgg16(2, 24, 7), (32, 64)),
    (lambda: models.vgg16(7, (3, 32, 32), hidden=24, batch_norm=True), lambda: their_vgg16(1, 24, 7, True), (32, 32)),
], ids=["resnet50", "alexnet", "vgg16", "vgg16_bn"])  # fmt: skip
def test_keys_shapes_and_outputs_are_the_published_ones(make: Make, make_theirs: Callable[[], TN.Module], size: tuple[int, int]) -> None:
    fastnn.seed(0)
    torch.manual_seed(0)
    ours, theirs = make(), make_theirs()
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [(k, tuple(v.shape)) for k, v in theirs.state_dict().items()]
    images = normal(1, 2, 3, *size)
    with torch.no_grad(), fastnn.no_grad():
        expected = load(theirs.double(), ours.state_dict()).eval()(torch.tensor(images, dtype=torch.float64))
        assert_close(ours.eval()(fastnn.tensor(images)), expected, 200)
        assert len({f"{v:.6f}" for v in expected.flatten().tolist()}) > 1


@pytest.mark.parametrize("name, parameters", [
    ("resnet20", 272_474), ("resnet32", 466_906), ("resnet56", 855_770), ("resnet18", 11_689_512), ("resnet34", 21_797_672),
    ("resnet50", 25_557_032),
])  # fmt: skip
def test_numbers_of_parameters_are_the_published_ones(name: str, parameters: int) -> None:
    """torchvision's for ImageNet; those of the CIFAR forms with 1x1 shortcuts."""
    cifar = name in ("resnet20", "resnet32", "resnet56")
    model = models.create(name, input_shape=(3, 32, 32), num_classes=10 if cifar else 1000)
    assert sum(p.size for p in model.parameters()) == parameters


def test_the_classifiers_fit_images_of_224() -> None:
    """Nearly all of AlexNet's 61,100,840 and VGG-16's 138,357,544 parameters lie in the classifier: counted with hidden layers of 8."""
    for make, channels, maps, total in ((models.alexnet, 256, 36, 61_100_840), (models.vgg16, 512, 49, 138_357_544)):
        model = make(1000, (3, 224, 224), hidden=8)
        small = sum(p.size for p in model.parameters())

        def head(hidden: int, inputs: int = channels * maps) -> int:
            return (inputs + 1) * hidden + (hidden + 1) * hidden + (hidden + 1) * 1000

        assert small - head(8) + head(4096) == total


def test_networks_that_flatten_take_features(tmp_path: Path) -> None:
    """By their name as well, from a file too."""
    for name in ("linear", "mlp"):
        model = models.create(name, input_shape=(20,), num_classes=3)
        assert model(fastnn.tensor(np.zeros((2, 20)))).shape == (2, 3)
        trainer = fastnn.train.Trainer(model, fastnn.optim.SGD(model.parameters(), 0.1))
        trainer.fit((np.zeros((8, 20)), np.arange(8) % 3), 1, batch_size=4, progress=False)
        trainer.save_model(tmp_path / "model.safetensors")
        again = fastnn.train.load_model(tmp_path / "model.safetensors")
        assert again.predict(np.ones((2, 20))).tolist() == trainer.predict(np.ones((2, 20))).tolist()
    with pytest.raises(ValueError, match=r"models.create: input_shape must be \(C, H, W\), three integers of at least 1, got \(20,\)"):
        models.create("lenet", input_shape=(20,))


def test_vgg16_starts_as_torchvisions() -> None:
    fastnn.seed(0)
    state = models.vgg16(10, (3, 32, 32), hidden=256).state_dict()
    assert np.isclose(state["features.28.weight"].std(), (2 / (512 * 9)) ** 0.5, rtol=0.02) and not state["features.28.bias"].any()
    assert np.isclose(state["classifier.0.weight"].std(), 0.01, rtol=0.02) and not state["classifier.0.bias"].any()
