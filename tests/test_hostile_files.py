"""Files of weights and of trainings made to do harm: headers that lie about sizes, notes of a checkpoint that are not what they should be. One
exception that names the file, in little memory and time."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import parsers
import pytest
import torch
from faults import in_child, with_memory
from test_checkpoint import QUIET

from fastnn import DeviceError, data, files, models, nn
from fastnn.cli import main
from fastnn.files import CorruptFile
from fastnn.train import Diverged, load_model, reproduce, save_model

forks = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
MEMORY = 400  # MB of address space that reading a hostile file may take: what it says is far more

# --- safetensors


def stored(header: Any, contents: bytes = b"", length: int | None = None) -> bytes:
    """A file with this header (JSON, or bytes as they are), which says that it is `length` long."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + contents


def tensor(begin: Any = 0, end: Any = 4, shape: Any = (1,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


HEADERS: dict[str, bytes] = {
    "nothing": b"",
    "seven bytes": bytes(7),
    "length of 2**64 - 1": stored({"w": tensor()}, bytes(4), 2**64 - 1),
    "length of 2**63": stored({"w": tensor()}, bytes(4), 2**63),
    "length of 100 MB": stored({"w": tensor()}, bytes(4), 100_000_001),
    "length beyond the file": stored({"w": tensor()}, bytes(4), 1000),
    "length of 0": stored({"w": tensor()}, bytes(4), 0),
    "length within the JSON": stored({"w": tensor()}, bytes(4), 9),
    "overlapping": stored({"a": tensor(0, 4), "b": tensor(2, 6)}, bytes(6)),
    "the same bytes twice": stored({"a": tensor(0, 4), "b": tensor(0, 4)}, bytes(4)),
    "a hole in front": stored({"a": tensor(4, 8)}, bytes(8)),
    "a hole between": stored({"a": tensor(0, 4), "b": tensor(8, 12)}, bytes(12)),
    "bytes behind": stored({"a": tensor()}, bytes(5)),
    "bytes missing": stored({"a": tensor()}, bytes(3)),
    "ends before it begins": stored({"a": tensor(4, 0)}, bytes(4)),
    "negative offsets": stored({"a": tensor(-4, 0)}, bytes(4)),
    "offsets that are no numbers": stored({"a": tensor(False, 4)}, bytes(4)),
    "offsets of 2**64": stored({"a": tensor(2**64 - 4, 2**64)}, bytes(4)),
    "offsets of 2**63": stored({"a": tensor(0, 2**63)}, bytes(4)),
    "a shape of 2**63": stored({"a": tensor(shape=[2**63])}, bytes(4)),
    "a shape of 2**64 + 1": stored({"a": tensor(shape=[2**32, 2**32, 1])}, bytes(4)),
    "a shape whose bytes overflow": stored({"a": tensor(shape=[2**62 + 1])}, bytes(4)),
    "a shape that overflows to right": stored({"a": tensor(shape=[2**63, 2, 1])}, bytes(4)),
    "a negative shape": stored({"a": tensor(shape=[-1])}, bytes(4)),
    "a shape of fractions": stored({"a": tensor(shape=[1.5])}, bytes(4)),
    "a shape of another size": stored({"a": tensor(shape=[2])}, bytes(4)),
    "a shape of words": stored({"a": tensor(shape=["1"])}, bytes(4)),
    "an unknown dtype": stored({"a": tensor(dtype="F33")}, bytes(4)),
    "a dtype in small letters": stored({"a": tensor(dtype="f32")}, bytes(4)),
    "a dtype that numpy lacks": stored({"a": tensor(dtype="F8_E4M3", shape=[4])}, bytes(4)),
    "a dtype of objects": stored({"a": tensor(dtype="O")}, bytes(4)),
    "no dtype": stored({"a": {"shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    "no offsets": stored({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)),
    "three offsets": stored({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}}, bytes(8)),
    "one name twice": stored(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', bytes(8)),
    "a list": stored([1, 2]),
    "a number": stored(b"7"),
    "no JSON": stored(b"\x00\x01\x02"),
    "no UTF-8": stored(b'{"\xff\xfe":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
    "NaN": stored(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}', bytes(4)),
    "infinity": stored(b'{"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,4]}}', bytes(4)),
    "nested 100,000 deep": stored(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "notes nested": stored({"__metadata__": {"fastnn": "[" * 100_000 + "]" * 100_000}}),
    "notes that are no dict": stored({"__metadata__": {"fastnn": "[]", "crc32": "0"}}),
    "notes with a number of 10,000 digits": stored({"__metadata__": {"fastnn": "1" * 10_000}}),
    "notes without a checksum": stored({"__metadata__": {"fastnn": "{}"}}),
    "metadata that is no text": stored({"__metadata__": {"fastnn": 7}}),
    "a name of a million letters": stored({"n" * 1_000_000: tensor(0, 8)}, bytes(4)),
    "a name said to have 1e9 letters": stored(b'{"' + b"n" * 1000, b"", 1_000_000_000),
    "100,000 tensors": stored({str(i): tensor(4 * i, 4 * i + 4) for i in range(100_000)}, bytes(4)),
}  # fmt: skip


@forks
def test_hostile_safetensors_headers(tmp_path: Path) -> None:
    def read_all() -> None:
        for what, contents in HEADERS.items():
            path = tmp_path / f"{what.replace('*', '').replace(' ', '-')}.safetensors"
            path.write_bytes(contents)
            with pytest.raises(CorruptFile) as caught:
                files.read(path)
            assert str(caught.value).startswith(f"{path}: ") and len(str(caught.value)) < 600, what

    assert with_memory(MEMORY, read_all) == 0


def test_a_shape_that_was_turned_is_seen_by_the_checksum(tmp_path: Path) -> None:
    """As many elements, in the same bytes."""
    path = tmp_path / "c"
    files.write(path, {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}, {})
    written = path.read_bytes()
    assert written.count(b"[2,3]") == 1
    path.write_bytes(written.replace(b"[2,3]", b"[3,2]"))
    with pytest.raises(CorruptFile, match="checksum"):
        files.read(path)


def test_files_of_pytorch_and_pickle_are_called_so(tmp_path: Path) -> None:
    path, weights = tmp_path / "weights.pt", torch.nn.Linear(3, 2).state_dict()
    for write, kind in (
        (lambda: torch.save(weights, path), "a zip file, as torch.save writes it"),
        (lambda: torch.save(weights, path, _use_new_zipfile_serialization=False), "a pickle"),
        (lambda: path.write_bytes(pickle.dumps([1, 2])), "a pickle"),
    ):
        write()
        with pytest.raises(CorruptFile) as caught:
            load_model(path)
        how = "model.load_state_dict(torch.load(path, weights_only=True)) takes the weights that PyTorch saved"
        assert str(caught.value) == f"{path}: {kind}, where a safetensors file is expected; {how}"
    torch.save(weights, path)
    net = nn.Linear(3, 2)
    net.load_state_dict(torch.load(path, weights_only=True))
    assert (net.weight.numpy() == weights["weight"].numpy()).all()
    path.write_bytes(stored(b"{" + b" " * 382 + b"}", b"")[:-1])  # whose length begins as a pickle does
    with pytest.raises(CorruptFile, match="not a whole safetensors file"):
        files.read(path)


def test_two_entries_of_one_name_do_not_hide_bytes(tmp_path: Path) -> None:
    """The format forbids it, also where both say the same."""
    entry = '"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    (tmp_path / "f").write_bytes(stored(f"{{{entry},{entry}}}".encode(), bytes(4)))
    with pytest.raises(CorruptFile, match="its header has a name twice"):
        files.read(tmp_path / "f")


def test_every_byte_of_a_checkpoint_and_of_a_model_mutated(tmp_path: Path) -> None:
    """Each byte in one of four ways: noticed, by the checksum if by nothing else, in a CorruptFile; or not a bit of what is read differs."""
    model = models.create("linear", input_shape=(1, 2, 2), num_classes=2)
    trainer, path = make_sgd(model), tmp_path / "file.safetensors"
    trainer.fit((np.zeros((4, 1, 2, 2), np.uint8), [0, 1, 0, 1]), 1, **QUIET)
    for save in (trainer.save, trainer.save_model):
        save(path)
        whole, (reference, notes) = path.read_bytes(), files.read(path)
        same, pt = 0, whole.index(b'"format"')
        for position, before in enumerate(whole):
            value = (before ^ 0x01, before ^ 0x80, 0x22, 0xFF)[position % 4]
            poke(path, position, value)
            try:
                arrays, found = files.read(path)
            except CorruptFile as error:
                assert str(path) in str(error)
            else:
                same += value != before
                assert value == before or pt <= position < pt + 13 or before == ord(" ")  # nobody asks for that
                assert {k: a.tobytes() for k, a in arrays.items()} == {k: a.tobytes() for k, a in reference.items()}
                assert found == notes
            poke(path, position, before)
        assert same < 20


def poke(path: Path, position: int, value: int) -> None:
    with open(path, "r+b", 0) as file:
        file.seek(position)
        file.write(bytes([value]))


def test_files_of_other_tools_have_no_checksum(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(stored({"w": tensor()}, np.float32(3).tobytes()))
    assert files.read(path)[0]["w"].tolist() == [3] and files.read(path)[1] == {}


# --- what a file says of its model and its training, under a checksum that is right


def described(path: Path, **changes: Any) -> Path:
    files.write(path, parsers.ARRAYS, {**parsers.CHECKPOINT, **changes})
    return path


@pytest.mark.parametrize("architecture, words", [
    ({"name": "linear", "input_shape": [3, 100_000, 100_000], "num_classes": 10}, "it has more weights than the file"),
    ({"name": "linear", "input_shape": [1, 2, 2], "num_classes": 10**9}, "it has more weights than the file"),
    ({"name": "linear", "input_shape": [1, 2, 2], "num_classes": 2**62}, "cannot be built"),
    ({"name": "linear", "input_shape": [2**40, 2**40, 2**40], "num_classes": 2}, "cannot be built"),
    ({"name": "vgg16", "input_shape": [3, 224, 224], "num_classes": 1000}, "it has more weights than the file"),
    ({"name": "mlp", "input_shape": [1, 2, 2], "num_classes": 2, "hidden": [10**6] * 1000}, "it has more weights than the file"),
    ({"name": "linear", "input_shape": [1, -2, 2]}, "cannot be built"),
    ({"name": "os.system", "input_shape": [1, 2, 2]}, "no model is named 'os.system'"),
    ({"name": "linear", "input_shape": "abc"}, "cannot be built"),
    ({"name": ["linear"], "input_shape": [1, 2, 2]}, "cannot be built"),
    ({"name": "linear", "input_shape": [1, 2, 2], "__class__": 1}, "cannot be built"),
    ({"name": "linear"}, "cannot be built"),
    ([1], "its architecture is"),
])  # fmt: skip
@forks
def test_a_description_is_not_trusted_with_memory(tmp_path: Path, architecture: Any, words: str) -> None:
    path = described(tmp_path / "m.safetensors", architecture=architecture)

    def read() -> None:
        with pytest.raises(ValueError, match=words) as caught:
            load_model(path)
        assert str(caught.value).startswith(f"{path}: ") and len(str(caught.value)) < 1000

    assert with_memory(MEMORY, read) == 0


WRONG: list[Any] = [None, 7, -1, 2**70, 1.5, float("nan"), "word", [], [1], {}, {"a": 1}, True]


def test_notes_of_wrong_kinds_are_named_and_change_nothing(tmp_path: Path) -> None:
    """Each entry of a checkpoint's notes in turn is something else, or missing: ValueError with the file's name, or a value that makes sense."""
    checkpoint, refused = parsers.CHECKPOINT, 0
    for name in checkpoint:
        for wrong in [*WRONG, ...]:
            notes = {key: value for key, value in checkpoint.items() if key != name or wrong is not ...}
            if wrong is not ...:
                notes[name] = wrong
            files.write(tmp_path / "c", parsers.ARRAYS, notes)
            model = models.create("linear", input_shape=(1, 2, 2), num_classes=2)
            trainer = make_sgd(model)
            before = {key: value.copy() if hasattr(value, "copy") else value for key, value in model.state_dict().items()}
            try:
                trainer.fit((np.zeros((4, 1, 2, 2), np.uint8), [0, 1, 0, 1]), 0, resume=tmp_path / "c", **QUIET)
            except ValueError as error:
                assert str(tmp_path / "c") in str(error), (name, wrong)
                assert trainer.epoch == 0 and not trainer.history.rows and trainer.optimizer.steps == 0
                assert all((model.state_dict()[key] == value).all() for key, value in before.items())
                refused += 1
    assert refused > 100


def test_a_file_of_a_bad_step_is_not_trusted_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    trainer = make_sgd(models.create("linear", input_shape=(1, 2, 2), num_classes=2))
    trainer.model.load_state_dict({"1.weight": np.full((2, 4), np.inf), "1.bias": np.zeros(2)})
    with pytest.raises(Diverged) as caught:
        trainer.fit((np.ones((4, 1, 2, 2), np.float32), [0, 1, 0, 1]), 1, **QUIET)
    arrays, whole = files.read(str(caught.value.file))
    path, refused = tmp_path / "b", 0
    assert reproduce(str(caught.value.file)) is not None
    loss = {**whole["loss"], "settings": {**whole["loss"]["settings"], "forward": 1}}
    wrongs = {name: WRONG for name in whole} | {"loss": [*WRONG, loss, {**loss, "class": "init"}, {**loss, "class": "Module"}]}
    for name, wrong in ((name, wrong) for name, several in wrongs.items() for wrong in several):
        files.write(path, arrays, {**whole, name: wrong})
        try:
            reproduce(path)
        except (ValueError, DeviceError) as error:
            assert str(path) in str(error) or name == "device", (name, wrong)
            refused += 1
    assert refused > 80
    files.write(path, {}, whole)
    with pytest.raises(ValueError, match=f"{path}: "):
        reproduce(path)


@pytest.mark.parametrize(
    "line, words",
    [
        ("batch/0/labels=int64 [7,1]", "label 7 of sample 0 lies outside of"),
        ("batch/0/x=bool [[[[true,false],[true,false]]]]", "x has dtype bool; expected float32 or float64"),
        ("batch/0/x=float32 [1,2]", "do not exist in shape"),
        ("loss.settings={}", "CrossEntropyLoss has no attribute 'ignore_index'"),
        ('loss.class="Dropout"', "takes 2 positional arguments"),
    ],
)
def test_a_bad_step_that_cannot_be_done_is_its_files_fault(line: str, words: str, tmp_path: Path) -> None:
    """Sound notes, a batch or a loss that does not fit: no TypeError from within, but the file's name."""
    name = tmp_path / "file.safetensors"
    with pytest.raises(ValueError, match=f"^{name}: its step cannot be repeated \\(.*{words}.*; expected a file as Diverged names it$"):
        parsers.bad_step(line.encode(), tmp_path)


def test_a_loss_of_ones_own_raises_what_it_raises(tmp_path: Path) -> None:
    def broken(*_: object) -> None:
        raise KeyError("mine")

    parsers.bad_step(b"", tmp_path)
    with pytest.raises(KeyError, match="mine"):
        reproduce(tmp_path / "file.safetensors", loss=broken)  # type: ignore[arg-type]


def make_sgd(model: Any) -> Any:
    from fastnn import optim
    from fastnn.train import Trainer

    return Trainer(model, optim.SGD(model.parameters(), 0.1))


def test_the_command_line_names_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "model", models.create("linear", input_shape=(1, 8, 8)), classes=["only one"], resize=data.Resize(8, channels=1))
    Path("words.png").write_text("no picture")
    for words, expected in (
        (["predict", "absent", "a.png"], "fastnn: error: absent: No such file or directory\n"),
        (["predict", "model", "absent.png"], "fastnn: error: absent.png: No such file or directory\n"),
        (["predict", "model", "words.png"], "fastnn: error: words.png: not an image that Pillow knows; expected JPEG, PNG or the like\n"),
        (["predict", ".", "a.png"], "fastnn: error: .: Is a directory\n"),
        (["evaluate", "words.png"], "fastnn: error: words.png: not a whole safetensors file"),
    ):
        assert main(words) == 2
        assert capsys.readouterr().err.startswith(expected)
    described(tmp_path / "runs-checkpoint", epochs=[])
    os.makedirs("out")
    os.rename("runs-checkpoint", "out/checkpoint.safetensors")
    assert main(["train", "digits", "--out", "out", "--resume"]) == 2
    assert "out/checkpoint.safetensors: its epochs is []; written by another program" in capsys.readouterr().err
    parsers._file(tmp_path, "a.png", parsers._PIXEL)
    assert main(["predict", "model", "a.png", "--top", "10"]) == 0  # nine classes more than names
    assert "only one" in capsys.readouterr().out


def test_names_that_the_terminal_cannot_show(tmp_path: Path) -> None:
    save_model(tmp_path / "model", models.create("linear", input_shape=(1, 8, 8)), classes=["café"] * 10, resize=data.Resize(8, channels=1))
    image = os.fsencode(tmp_path) + b"/\xff\xfe.png"  # no UTF-8
    with open(image, "wb") as file:
        file.write(parsers._PIXEL)
    command = [sys.executable, "-m", "fastnn", "predict", str(tmp_path / "model"), os.fsdecode(image), "--top", "1"]
    done = subprocess.run(command, env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, check=True)
    assert b"\\udcff\\udcfe.png\n" in done.stdout and b"caf\\xe9\n" in done.stdout


@forks
def test_a_folder_of_photos_that_cannot_be_read(tmp_path: Path) -> None:
    for name in ("a", "b", "b/inner"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(parsers._PIXEL)

    def read() -> None:
        real = os.scandir

        def refused(path: Any) -> Any:
            if os.path.basename(path) == "inner":
                raise PermissionError(13, "Permission denied", path)
            return real(path)

        os.scandir = refused  # type: ignore[assignment]  # root may read everything
        with pytest.raises(PermissionError, match="b/inner"):
            data.image_folder(tmp_path, 4)

    assert in_child(read) == 0
