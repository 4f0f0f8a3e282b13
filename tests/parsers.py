"""Everything that reads a file which may be anybody's, as a function of the file's bytes: for the corpus in tests/corpus, for mutations, and for
fuzzing (tests/long/fuzz.py).

Each raises what a user would see: ValueError (CorruptFile is one) or OSError that names the file, or nothing. Anything else is a fault.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from fastnn import DeviceError, data, files, models, optim
from fastnn.data.cifar_pickle import read_pickle
from fastnn.train import History, Trainer, load_model
from fastnn.train import bad_step as bad_steps
from fastnn.train.checkpoint import notes_of

Parser = Callable[[bytes, Path], object]
CORPUS = Path(__file__).parent / "corpus"


def _file(folder: Path, name: str, contents: bytes) -> Path:
    path = folder / name
    path.write_bytes(contents)
    return path


def safetensors(contents: bytes, folder: Path) -> object:
    return files.read(_file(folder, "file.safetensors", contents))


CHECKPOINT: dict[str, Any] = {
    "architecture": {"name": "linear", "input_shape": [1, 2, 2], "num_classes": 2},
    "classes": ["a", "b"],
    "normalize": {"mean": [0.0], "std": [1.0]},
    "resize": {"size": [2, 2], "channels": 1},
    "optimizer": "SGD",
    "averaged": None,
    "stepping": [],
    **{"epochs": 2, "epoch": 1, "batch": 0, "steps": 3, "seed": 0, "draw": 4},
    "sums": {"samples": 2, "loss": 0.5},
    "data": {"samples": 2, "batch_size": 1},
    "history": [{"epoch": 1, "loss": 0.5}],
    "best": None,
    "notes": {"dataset": "idx"},
}
ARRAYS = {"1.weight": np.zeros((2, 4), np.float32), "1.bias": np.zeros(2, np.float32)}


def notes(contents: bytes, folder: Path) -> None:
    """What a file says of its model and training, under a checksum that is right: a checkpoint's notes, changed by lines `entry.entry=JSON` (an
    empty value: taken out); read as a model, as a checkpoint, and as the command line does."""
    changed = json.loads(json.dumps(CHECKPOINT))
    for line in contents.decode(errors="replace").split("\n")[:8]:
        _change(changed, *line.partition("=")[::2])
    text = json.dumps(changed)
    path = _file(folder, "file.safetensors", save(ARRAYS, {"fastnn": text, "crc32": files._checksum(ARRAYS, text)}))
    model = models.create("linear", input_shape=(1, 2, 2), num_classes=2)
    trainer = Trainer(model, optim.SGD(model.parameters(), 0.1))
    two = (np.zeros((2, 1, 2, 2), np.uint8), [0, 1])
    tasks = (
        lambda: load_model(path).predict(two[0]),
        lambda: notes_of(path),
        lambda: trainer.fit(two, min(trainer.epoch, 1), batch_size=1, resume=path, progress=False),
    )
    for task in tasks:
        try:
            task()
        except ValueError as error:
            if not str(error).startswith(("fit: ", "Normalize", "normalize", "gather")):  # the file is sound, and of another training
                check(error, folder)


def _change(notes: Any, entry: str, value: str) -> None:
    *outer, last = entry.split(".")[:3]
    for name in outer:
        notes = notes.get(name) if isinstance(notes, dict) else None
    if isinstance(notes, dict):
        notes.pop(last, None)
        if value:
            try:
                notes[last] = json.loads(value)
            except (ValueError, RecursionError):
                notes[last] = value


BAD_STEP: dict[str, Any] = {  # finite, so that what comes behind the first bad value is reached as well
    **{"bad_step": None, "message": "epoch 1, batch 1: the loss is nan", "state": True},
    **{"architecture": CHECKPOINT["architecture"], "precision": "float32", "products": "highest", "device": "cpu"},
    "loss": {
        "class": "CrossEntropyLoss",
        "settings": {"ignore_index": -100, "reduction": "mean", "label_smoothing": 0.0},
        "absent": ["weight"],
    },
    **{"l1": 0.0, "l2": 0.0, "seed": 0, "draw": 4, "shares": [[1.0, 1.0]], "evaluating": [], "frozen": []},
}
STEP_ARRAYS = {
    **{f"model/{name}": values for name, values in ARRAYS.items()},
    **{"batch/0/x": np.ones((2, 1, 2, 2), np.float32), "batch/0/labels": np.array([0, 1])},
}


def bad_step(contents: bytes, folder: Path) -> None:
    """The same of a file that repeats a bad step, which holds a batch besides: a line `model/NAME=TYPE JSON` is an array's, as is any with a /."""
    changed, arrays = json.loads(json.dumps(BAD_STEP)), dict(STEP_ARRAYS)
    for line in contents.decode(errors="replace").split("\n")[:8]:
        entry, _, value = line.partition("=")
        _put(arrays, entry, value) if "/" in entry else _change(changed, entry, value)
    text = json.dumps(changed)
    path = _file(folder, "file.safetensors", save(arrays, {"fastnn": text, "crc32": files._checksum(arrays, text)}))
    bad_steps.recorded(path)
    with suppress(DeviceError):  # the file is sound, and of a machine with that device
        bad_steps.reproduce(path)


def _put(arrays: dict[str, np.ndarray], name: str, value: str) -> None:
    """Puts that array in the place of the name's; none where the value is no array."""
    arrays.pop(name, None)
    kind, _, text = value.partition(" ")
    try:
        with np.errstate(all="ignore"):
            arrays[name] = np.array(json.loads(text), {known.name: known for known in files._NAMES}[kind])
    except (KeyError, ValueError, TypeError, OverflowError, RecursionError):
        pass


def idx(contents: bytes, folder: Path) -> object:
    return data.read_idx(_file(folder, "file.idx", contents), 3)


def idx_packed(contents: bytes, folder: Path) -> object:
    return data.read_idx(_file(folder, "file.idx.gz", gzip.compress(contents, 1)), 3)


def cifar_pickle(contents: bytes, folder: Path) -> object:
    return read_pickle(contents, str(folder / "file"))


def cifar_archive(contents: bytes, folder: Path) -> object:
    """A .tar; packed when it does not begin as .gz does."""
    return data.cifar10(_file(folder, "cifar-10.tar.gz", contents))


def cifar_batch(contents: bytes, folder: Path) -> object:
    """A batch of the first byte's kind, in a folder of six of them."""
    name = ("data_batch_{}", "data_batch_{}.bin", "train", "train.bin")[contents[0] % 4 if contents else 0]
    shutil.rmtree(folder / "cifar", ignore_errors=True)
    (folder / "cifar").mkdir()
    numbers = [name.format(i) for i in range(1, 6)] if "{}" in name else [name]
    for one in (*numbers, ("test_batch" if "{}" in name else "test") + (".bin" if name.endswith(".bin") else "")):
        (folder / "cifar" / one).write_bytes(contents[1:])
    return (data.cifar10 if "{}" in name else data.cifar100)(folder / "cifar")


def npz(contents: bytes, folder: Path) -> None:
    """As arrays and as JPEG files end to end."""
    path = _file(folder, "file.npz", contents)
    for task in (data.recognise, data.arrays, data.cifar10):
        try:
            task(path)  # type: ignore[operator]
        except (ValueError, TypeError) as error:
            check(error, folder)


def npy(contents: bytes, folder: Path) -> object:
    (folder / "arrays").mkdir(exist_ok=True)
    for name in ("train_images", "test_images", "train_labels", "test_labels"):
        (folder / "arrays" / f"{name}.npy").write_bytes(contents)
    try:
        return data.arrays(folder / "arrays")
    except TypeError as error:
        check(error, folder)
        return None


def image(contents: bytes, folder: Path) -> object:
    return data.Resize(4)(_file(folder, "file.jpg", contents))


def listing(contents: bytes, folder: Path) -> None:
    """Lines that each name a file, or a folder (with / behind), below a folder: what is it, and what can be read?"""
    root = folder / "root"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for line in contents.split(b"\n")[:12]:
        parts = [part for part in line.split(b"/")[:4] if part not in (b"", b".", b"..") and b"\0" not in part and len(part) < 40]
        try:
            inner = os.path.join(os.fsencode(root), *parts[: None if line.endswith(b"/") else -1])
            os.makedirs(inner, exist_ok=True)
            if parts and not line.endswith(b"/"):
                with open(os.path.join(inner, parts[-1]), "wb") as file:
                    file.write(_PIXEL)
        except OSError:  # a file where a folder should be
            continue
    errors = []
    for task in (data.recognise, data.cifar10, data.cifar100, data.idx, data.arrays, lambda path: data.image_folder(path, 4)):
        try:
            task(root)  # type: ignore[operator]
        except (ValueError, OSError) as error:
            errors.append(error)
    for error in errors:
        check(error, folder)


def history_csv(contents: bytes, folder: Path) -> object:
    return History.load(_file(folder, "file.csv", contents))


def history_lines(contents: bytes, folder: Path) -> object:
    return History.load(_file(folder, "file.jsonl", contents))


def _pixel() -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (4, 4), (9, 8, 7)).save(stream, "PNG")
    return stream.getvalue()


_PIXEL = _pixel()

PARSERS: dict[str, Parser] = {
    parser.__name__: parser
    for parser in (
        *(safetensors, notes, bad_step, idx, idx_packed, cifar_pickle, cifar_archive, cifar_batch, npz, npy, image, listing),
        *(history_csv, history_lines),
    )
}


def check(error: BaseException, folder: Path) -> None:
    assert str(folder) in str(error), f"the error does not name the file: {error!r}"
    assert len(str(error)) < 2000, f"an error of {len(str(error))} letters"


def run(name: str, contents: bytes, folder: Path) -> BaseException | None:
    """One file through one parser; what a user would be told, if anything. AssertionError, or whatever else, is a fault."""
    try:
        PARSERS[name](contents, folder)
    except (ValueError, OSError) as error:
        check(error, folder)
        return error
    return None


# --- files to begin with


def seeds(name: str) -> list[bytes]:
    """A few whole files of the kind."""
    images, labels = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4), np.array([0, 1], np.uint8)
    idx_file = b"\0\0\x08\x03" + np.array(images.shape, ">u4").tobytes() + images.tobytes()
    four = {"train_images": images, "train_labels": labels, "test_images": images, "test_labels": labels}
    made: dict[str, Callable[[], list[bytes]]] = {
        "safetensors": lambda: [save(ARRAYS, {"fastnn": "{}", "crc32": files._checksum(ARRAYS, "{}")}), save({"n": np.zeros(1, np.int8)})],
        "notes": lambda: [f"{key}={json.dumps(value)}".encode() for key, value in CHECKPOINT.items()],
        "bad_step": _bad_steps,
        "idx": lambda: [idx_file],
        "idx_packed": lambda: [idx_file],
        "cifar_pickle": _pickles,
        "cifar_archive": lambda: [_archive("data_batch_1", b"}."), gzip.compress(_archive("test_batch.bin", b"\0" * 9))],
        "cifar_batch": lambda: [*(b"\0" + one for one in _pickles()), b"\1" + bytes(3073), b"\3" + bytes(3074)],
        "npz": lambda: [_npz(four), _npz({**four, "classes": np.array(["a", "b"])}), _npz({"train_jpeg": images.reshape(-1)})],
        "npy": lambda: [_npy(images), _npy(labels), _npy(images.astype(np.float32))],
        "image": lambda: [_PIXEL, *_pictures()],
        "listing": lambda: [b"a/1.png\nb/2.png", b"train/a/1.png\ntrain/b/1.png\nval/a/1.png", b"train-images-idx3-ubyte\ntest.bin\nx.npz",
                            b"data_batch_1\ntest_batch", b"inner/train_images.npy"],
        "history_csv": lambda: [b"epoch,loss,val_loss\n1,0.5,\n2,0.25,nan\n", b'"a,""b",c\r\n"1e5",\r\n', b"\xef\xbb\xbfloss\n-inf\n"],
        "history_lines": lambda: [b'{"epoch": 1, "loss": 0.5}\n{"epoch": 2, "loss": null}\n', b'{"a": [[[]]]}', b'{"a": 1e999}\n\n{}'],
    }  # fmt: skip
    return made[name]()


def _bad_steps() -> list[bytes]:
    weight = b"model/1.weight=float32 [[1e999,0,0,0],[0,0,0,0]]"
    classes = b"loss/weight=float32 [1,2]\nloss.absent=[]"
    parts = b"shares=[[0.5,0],[null,1]]\nbatch/1/x=float32 [[[[1,2],[3,4]]]]\nbatch/1/labels=int64 [1]"
    net = b'architecture.name="linear"\nevaluating=["1"]\nfrozen=["1.weight"]\nl1=0.1\nl2=0.1'
    entries = [f"{key}={json.dumps(value)}".encode() for key, value in BAD_STEP.items()]
    return [
        *entries,
        b"state=false",
        b"loss.settings.forward=1",
        weight,
        classes,
        parts,
        net,
        b"batch/0/x=uint8 [[[[1,2],[3,4]]]]\nbatch/0/labels=int64 [2]",
    ]


def _pickles() -> list[bytes]:
    import pickle

    batch = {b"data": np.zeros((0, 3072), np.uint8), b"labels": [], b"filenames": [b"a"]}
    return [pickle.dumps(batch, protocol) for protocol in (0, 2, 4, 5)] + [pickle.dumps({"labels": [1, 2], "n": np.int64(3)}, 2)]


def _archive(name: str, contents: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as file:
        member = tarfile.TarInfo(f"folder/{name}")
        member.size = len(contents)
        file.addfile(member, io.BytesIO(contents))
    return stream.getvalue()[:2048]


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _pictures() -> list[bytes]:
    """A format each, then all that becomes plain colours in a way of its own; TIFF holds it without checksums, which no change would survive."""
    from PIL import Image

    exif, grey = Image.Exif(), np.array([[0, 300], [65535, 7]], np.uint16)
    exif[0x0112] = 6  # the camera was turned
    colours = Image.new("RGBA", (5, 4), (9, 8, 7, 6))
    palette = Image.new("P", (5, 4), 1)
    palette.putpalette([0, 0, 0, 9, 8, 7])
    one = Image.new("RGB", (5, 4), (9, 8, 7))
    made: list[tuple[Any, str, dict[str, Any]]] = [
        *((one, form, {}) for form in ("JPEG", "GIF", "BMP", "TIFF", "PPM", "WEBP")),
        *((colours.convert(mode), form, {}) for mode in ("RGBA", "LA") for form in ("PNG", "TIFF")),
        *((one.convert(mode), "TIFF", {}) for mode in ("1", "F", "CMYK", "I")),
        (Image.fromarray(grey), "TIFF", {}),
        (Image.fromarray(grey), "PNG", {"transparency": 300}),
        (palette, "GIF", {"transparency": 1}),
        (one, "JPEG", {"exif": exif}),
    ]
    found = []
    for image, form, options in made:
        stream = io.BytesIO()
        image.save(stream, form, **options)
        found.append(stream.getvalue())
    return [*found, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n%%EOF\n"]
