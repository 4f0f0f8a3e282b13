"""Weights from files of others: torch.save's, read without PyTorch, safetensors, and fastnn's own; what fits, and what is refused."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torch_twins

import fastnn
from fastnn import data, files, models, nn, optim, train
from fastnn.files import CorruptFile
from fastnn.train import torch_file

SHAPE = (3, 32, 32)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """A ResNet-18 with torchvision's names and shapes, as trained: statistics are no initial ones."""
    torch.manual_seed(0)
    net = torch_twins.resnet18(num_classes=1000)
    return {name: torch.rand_like(t) + 0.5 if t.is_floating_point() else t + 7 for name, t in net.state_dict().items()}


def resnet(classes: int = 5, seed: int = 1) -> nn.Module:
    fastnn.seed(seed)
    return models.create("resnet18", input_shape=SHAPE, num_classes=classes)


def is_loaded(model: nn.Module, state: dict[str, Any], but: str = "fc.") -> bool:
    own = model.state_dict()
    return all(np.array_equal(own[name], np.asarray(t)) for name, t in state.items() if not name.startswith(but))


FORMS = {
    "zip": lambda state, path: torch.save(state, path),
    "before 1.6": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    "checkpoint": lambda state, path: torch.save({"epoch": 3, "state_dict": state, "optimizer": {"state": {0: {"step": 1.5}}, "best": None}}, path),
    "DataParallel": lambda state, path: torch.save({"model": OrderedDict((f"module.{k}", v) for k, v in state.items())}, path),
    "safetensors": safetensors.torch.save_file,
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_torchvisions_names_and_shapes_come_from_every_kind_of_file(form: str, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """The last layer has other classes, and stays as initialised."""
    path = tmp_path / "weights"
    FORMS[form](dict(state), str(path))
    model, other = resnet(), resnet()
    found = train.load_pretrained(model, path)
    assert is_loaded(model, state) and found.mismatched == ["fc.weight", "fc.bias"] and not found.missing and not found.unexpected
    assert len(found.loaded) == len(state) - 2 and "fc.weight, fc.bias of another shape" in str(found)
    assert np.array_equal(model.state_dict()["fc.weight"], other.state_dict()["fc.weight"])
    whole = resnet(1000)
    assert not train.load_pretrained(whole, str(path)).mismatched and is_loaded(whole, state, but="\0")


def test_logits_are_those_of_pytorch(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    net = torch_twins.resnet18(num_classes=1000)
    torch.save(net.state_dict(), tmp_path / "w.pth")
    model = resnet(1000).eval()
    train.load_pretrained(model, tmp_path / "w.pth")
    x = torch_twins.normal(3, 2, *SHAPE)
    with torch.no_grad():
        expected = net.eval()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(model(fastnn.tensor(x)).numpy(), expected, atol=1e-4 * np.abs(expected).max())


def test_steps_views_and_types_are_those_of_the_tensors(tmp_path: Path) -> None:
    """Slices of one storage, transposed, channels last, scalars, empty ones, and every type of number."""
    base = torch.arange(48.0).reshape(2, 3, 8)
    given = {
        "slice": base[1:, :, 2:5],
        "transposed": base[0].T,
        "last": torch.arange(120.0).reshape(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
        "parameter": torch.nn.Parameter(base[0, 0]),
        **{str(kind): torch.tensor([0, 1, 3]).to(kind) for kind in (torch.float64, torch.float16, torch.int64, torch.int32, torch.int16)},
        **{str(kind): torch.tensor([0, 1, 3]).to(kind) for kind in (torch.int8, torch.uint8, torch.bool)},
    }
    for legacy in (False, True):
        torch.save({**given, "half": torch.tensor([1.5, -2.25]).bfloat16()}, tmp_path / "t", _use_new_zipfile_serialization=not legacy)
        read = torch_file.read(tmp_path / "t")
        assert read["half"].dtype == np.float32 and read.pop("half").tolist() == [1.5, -2.25]
        assert read.keys() == given.keys()
        for name, t in given.items():
            expected = t.detach().numpy()
            assert read[name].dtype == expected.dtype and read[name].shape == expected.shape and np.array_equal(read[name], expected), name


class Harm:
    """Would make a file where it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


def zipped(path: Path, pickled: bytes, **others: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        for name, contents in others.items():
            archive.writestr(f"a/data/{name}", contents)
    return path


def a_tensor(shape: tuple[Any, ...], strides: tuple[Any, ...], offset: Any = 0, count: Any = 4) -> bytes:
    """The pickle of {"w": tensor}, written by hand."""
    lines = [
        b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((",
        b"X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu" + number(count) + b"tQ",
        number(offset),
        b"(" + b"".join(map(number, shape)) + b"t",
        b"(" + b"".join(map(number, strides)) + b"t",
        b"\x89}tRs.",
    ]
    return b"".join(lines)


def number(n: Any) -> bytes:
    return b"X" + len(n).to_bytes(4, "little") + n.encode() if isinstance(n, str) else b"I" + str(n).encode() + b"\n"


def test_a_tensor_written_by_hand_is_read(tmp_path: Path) -> None:
    """So that the refusals below are of what is wrong in them."""
    numbers = np.arange(4, dtype=np.float32)
    read = torch_file.read(zipped(tmp_path / "w", a_tensor((2, 2), (1, 2)), **{"0": numbers.tobytes()}))
    assert np.array_equal(read["w"], numbers.reshape(2, 2).T)


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "count"),
    [((5,), (1,), 0, 4), ((2,), (3,), 2, 4), ((4,), (1,), -1, 4), ((4,), (-1,), 3, 4), ((2,), (1,), 0, 5), ((2**40,), (0,), 0, 4), ((2, 2), (1,), 0, 4),
     ((2**20, 2**20, 2**20, 2**20), (0, 0, 0, 0), 0, 4), (("a",), (1,), 0, 4), ((2,), (1,), 0, 2**70), ((2,), (1,), 2**70, 4), ((1,) * 9, (1,) * 9, 0, 4)],
)  # fmt: skip
def test_a_tensor_that_reaches_beyond_its_numbers_is_refused(
    shape: tuple[Any, ...], strides: tuple[Any, ...], offset: int, count: int, tmp_path: Path
) -> None:
    path = zipped(tmp_path / "w", a_tensor(shape, strides, offset, count), **{"0": bytes(16)})
    with pytest.raises(CorruptFile, match=f"^{path}: no file of torch.save"):
        torch_file.read(path)


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    harm, model = Harm(tmp_path / "made"), nn.Linear(2, 2)
    torch.save({"w": torch.zeros(2), "x": harm}, tmp_path / "zip")
    torch.save({"w": torch.zeros(2), "x": harm}, tmp_path / "old", _use_new_zipfile_serialization=False)
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module")
    for name in ("zip", "old", "module"):
        with pytest.raises(CorruptFile, match="asks for .*: refused; in PyTorch, torch.save"):
            train.load_pretrained(model, tmp_path / name)
    assert not (tmp_path / "made").exists()


def test_damaged_files_are_named(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """Cut anywhere, or with other bytes: one exception with the file's name, or, in the numbers of an old file, other numbers."""
    rng = np.random.default_rng(0)
    for legacy in (False, True):
        path = tmp_path / "w"
        torch.save({"a": torch.arange(50.0), "b": torch.ones(3, 4)}, path, _use_new_zipfile_serialization=not legacy)
        whole = path.read_bytes()
        for trial in range(150):
            broken = bytearray(whole[: rng.integers(len(whole))] if trial % 3 == 0 else whole)
            for _ in range(trial % 3):
                broken[rng.integers(len(broken))] = rng.integers(256)
            path.write_bytes(broken)
            try:
                torch_file.read(path)
            except CorruptFile as error:
                assert str(error).startswith(str(path))


def test_packed_archives_and_others_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "packed", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", a_tensor((4,), (1,)))
        archive.writestr("a/data/0", bytes(16))
    with pytest.raises(CorruptFile, match="missing, or packed"):
        torch_file.read(tmp_path / "packed")
    with zipfile.ZipFile(tmp_path / "other", "w") as archive:
        archive.writestr("readme", "no weights")
    with pytest.raises(CorruptFile, match="without data.pkl"):
        torch_file.read(tmp_path / "other")
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "none")
    with pytest.raises(CorruptFile, match="holds no tensors by name; its keys are epoch, lr"):
        torch_file.read(tmp_path / "none")
    torch.save([torch.zeros(2)], tmp_path / "list")
    with pytest.raises(CorruptFile, match="holds a list, no dict of tensors"):
        torch_file.read(tmp_path / "list")
    with pytest.raises(FileNotFoundError):
        train.load_pretrained(nn.Linear(2, 2), tmp_path / "absent")


def test_pytorch_is_not_needed(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2, 3), "bias": torch.ones(2)}, tmp_path / "w.pth")
    code = (
        "import sys; sys.modules['torch'] = None\nfrom fastnn import nn, train\n"
        f"m = nn.Linear(3, 2); train.load_pretrained(m, {str(tmp_path / 'w.pth')!r}); print(m.weight.numpy().sum())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "6.0\n"


def test_another_network_is_refused_and_nothing_changes(state: dict[str, torch.Tensor]) -> None:
    for model, strict, words in (
        (models.create("lenet", input_shape=(1, 8, 8)), True, "nothing fits the model: source has names such as conv1.weight"),
        (models.create("lenet", input_shape=(1, 8, 8)), False, "nothing fits the model"),
        (models.create("resnet34", input_shape=SHAPE), True, r"missing layer1.2.conv1.weight.* strict=False takes what fits"),
        (models.create("resnet50", input_shape=SHAPE), False, r"of the model's 267 arrays only \d+ fit source; expected half at least"),
        (
            models.create("resnet18", input_shape=(1, 32, 32)),
            True,
            "trained on images of 3 channels: make the model, and the images, of as many",
        ),
    ):
        before = model.state_dict()
        with pytest.raises(ValueError, match=words):
            train.load_pretrained(model, state, strict=strict)
        assert is_loaded(model, before, but="\0")


def test_what_fits_is_taken_where_not_strict(state: dict[str, torch.Tensor]) -> None:
    """With a warning that names the rest."""
    model = resnet()
    part = {k: v for k, v in state.items() if not k.startswith("layer4.1.")} | {"other.weight": torch.zeros(2)}
    with pytest.warns(
        UserWarning, match="missing layer4.1.conv1.weight.*unexpected other.weight.*stays as initialised, and is to be trained"
    ):
        found = train.load_pretrained(model, part, strict=False)
    assert (
        found.unexpected == ["other.weight"]
        and len(found.missing) == 10
        and is_loaded(model, {k: v for k, v in part.items() if "other" not in k})
    )


def test_the_head_may_be_missing_and_old_files_count_no_batches(state: dict[str, torch.Tensor]) -> None:
    model = resnet()
    part = {k: v for k, v in state.items() if not k.startswith("fc.") and not k.endswith("num_batches_tracked")}
    found = train.load_pretrained(model, part)
    assert found.missing == ["fc.weight", "fc.bias"] and is_loaded(model, part)


def test_a_file_of_a_training_brings_its_preprocessing(tmp_path: Path) -> None:
    digits, _ = data.digits()
    model = models.create("lenet", input_shape=digits.shape, num_classes=10)
    trainer = train.Trainer(model, optim.Adam(model.parameters(), 1e-3))
    trainer.fit(digits, 1, progress=False)
    trainer.save_model(tmp_path / "model"), trainer.save(tmp_path / "checkpoint")
    for name in ("model", "checkpoint"):
        other = models.create("lenet", input_shape=digits.shape, num_classes=3)
        train.load_pretrained(other, tmp_path / name)
        assert is_loaded(other, model.state_dict(), but="10.")
        plain = train.features(other, digits, normalize=trainer.normalize)
        assert np.array_equal(train.features(other, digits).images, plain.images)
    files.write(tmp_path / "other", model.state_dict())
    with pytest.warns(UserWarning, match="the model got the images as they are"):
        other = models.create("lenet", input_shape=digits.shape, num_classes=3)
        train.load_pretrained(other, tmp_path / "other")
        train.features(other, digits)
