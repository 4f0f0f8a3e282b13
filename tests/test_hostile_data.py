"""Data sets made to do harm: archives that unpack to terabytes, pickles that are programs, arrays that say more than they hold, pictures as large
as a city; and what fuzzing has found. One exception that names the file, in little memory and time; nothing is run."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import parsers
import pytest
from faults import with_memory
from test_checkpoint import QUIET, blobs, make
from test_cifar import NAMES10, write_cifar10
from test_data import write_idx_folder

from fastnn import data, files, models
from fastnn.data import cifar_pickle
from fastnn.data.cifar_pickle import read_pickle
from fastnn.train import load_model, save_model

forks = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
MEMORY = 400  # MB of address space that reading a hostile file may take: what it says is far more

# --- pickles


def evil(function: Any, *arguments: Any) -> bytes:
    class Evil:
        def __reduce__(self) -> Any:
            return function, arguments

    return pickle.dumps({"data": Evil(), "labels": []}, 2)


def nest(depth: int, make: bytes) -> bytes:
    """Objects, each of which is the one before twice, at places 0 to `depth` of the memo: 2**depth leaves in a few bytes."""
    program = b")q\x00"
    for floor in range(depth):
        program += make.replace(b"?", bytes([floor])) + b"q" + bytes([floor + 1])
    return program


PICKLES: dict[str, tuple[bytes, str]] = {
    "os.system": (evil(os.system, "touch was-run"), "asks for posix.system"),
    "eval": (evil(eval, "open('was-run', 'w')"), r"asks for __builtin__.eval"),
    "a method by its name": (evil(getattr, np.ndarray, "tofile"), "asks for __builtin__.getattr"),
    "numpy's loader": (b"\x80\x02cnumpy\nload\nX\x01\x00\x00\x00a\x85R.", "asks for numpy.load"),
    "a name with dots": (b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__init__\x93.", "asks for numpy.dtype.__init__"),
    "copyreg": (b"\x80\x02ccopy_reg\n_reconstructor\n.", "asks for copy_reg._reconstructor"),
    "a class without a call": (b"\x80\x02cnumpy\nndarray\n)\x81.", "has the operation NEWOBJ"),
    "an instance": (b"(ios\nsystem\n.", "has the operation INST"),
    "an extension": (b"\x80\x02\x82\x01.", "has the operation EXT1"),
    "buffers outside": (b"\x80\x05\x97.", "has the operation NEXT_BUFFER"),
    "state for a dictionary": (b"}}b.", "changes a dict"),
    "a key of 2**60 leaves": (nest(60, b"h?h?\x86") + b"}h\x3cNs.", "holds a tuple where a name is expected"),
    "labels of 2**60 leaves": (nest(60, b"](h?h?e") + b"}U\x06labelsh\x3csU\x04dataNs.", "labels is no list of integers"),
    "a list that holds itself": (b"}U\x06labels]q\x00h\x00asU\x04dataNs.", "labels is no list of integers"),
    "place 2**31 of the memo": (b"}r\xff\xff\xff\x7f.", "has no data and no labels"),
    "a string of 2**31 bytes": (b"T\xff\xff\xff\x7f.", "bytes in a string4"),
    "bytes of 2**63": (b"\x8e" + struct.pack("<Q", 2**63) + b".", "BINBYTES8|bytes"),
    "a number of a million digits": (b"L" + b"7" * 1_000_000 + b"L\n.", "digits"),
    "an array of 2**62": (b"}U\x04datacnumpy.core.numeric\n_frombuffer\n(U\x04abcdcnumpy\ndtype\nU\x02u1\x85R\x8a\x08"
                             + struct.pack("<q", 2**62) + b"\x85U\x01CtRs.", "cannot reshape"),
    "an array of objects": (b"}U\x04datacnumpy.core.numeric\n_frombuffer\n(U\x08abcdefgh"
                             b"cnumpy\ndtype\nU\x02O8\x85RK\x01\x85U\x01CtRs.", "expected integers or floats"),
    "an empty stack": (b"s.", "not a whole CIFAR batch"),
    "three million lists": (b"]" * 2_000_002 + b".", "has more than 2,000,000 operations"),
    "marks": (b"(" * 100_000 + b".", "not a whole CIFAR batch"),
}  # fmt: skip


@pytest.mark.parametrize("what", PICKLES)
@forks
def test_hostile_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.chdir(tmp_path)
    program, words = PICKLES[what]

    def read() -> None:
        for name in NAMES10:
            Path(name).write_bytes(program)
        with pytest.raises(ValueError, match=words) as caught:
            data.cifar10(tmp_path)
        assert str(caught.value).startswith(f"{tmp_path}/data_batch_1: ") and len(str(caught.value)) < 500

    assert with_memory(2 * MEMORY, read) == 0
    assert not Path("was-run").exists()


def test_nothing_but_cifar_comes_near_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not even that: Python's unpickler is never called."""
    write_cifar10(tmp_path / "cifar")
    write_idx_folder(tmp_path)
    images, labels = np.zeros((4, 1, 2, 2), np.uint8), np.array([0, 1, 0, 1])
    four = {"train_images": images, "train_labels": labels, "test_images": images, "test_labels": labels}
    np.savez(tmp_path / "a.npz", **four)
    (tmp_path / "npy").mkdir()
    for name, array in four.items():
        np.save(tmp_path / "npy" / f"{name}.npy", array)
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(3):
            (tmp_path / "photos" / name / f"{i}.png").write_bytes(parsers._PIXEL)
    save_model(tmp_path / "model", models.create("linear", input_shape=(1, 2, 2)))
    trainer = make("adam")
    trainer.save(tmp_path / "checkpoint")

    def refuse(*arguments: Any, **more: Any) -> Any:
        raise AssertionError("pickle was asked")

    for name in ("load", "loads", "Unpickler", "_Unpickler", "_load", "_loads"):
        monkeypatch.setattr(pickle, name, refuse)
    data.cifar10(tmp_path / "cifar"), data.idx(tmp_path), data.digits()
    data.arrays(tmp_path / "a.npz"), data.arrays(tmp_path / "npy"), data.image_folder(tmp_path / "photos", 4)
    load_model(tmp_path / "model")
    make("adam").fit(blobs(20), 0, resume=tmp_path / "checkpoint", **QUIET)
    np.savez(tmp_path / "objects.npz", **{**four, "classes": np.array([{"a": 1}, None], object)})
    with pytest.raises(ValueError, match="objects.npz: not a whole .npz file of plain arrays .*allow_pickle"):
        data.arrays(tmp_path / "objects.npz")
    for name in four:
        (tmp_path / "npy" / f"{name}.npy").write_bytes(evil(open, "was-run", "w"))
    with pytest.raises(ValueError, match="train_images.npy"):
        data.arrays(tmp_path / "npy")
    assert not Path("was-run").exists()
    assert not hasattr(cifar_pickle, "pickle")
    with pytest.raises(ValueError):
        read_pickle(b"}", "x")


# --- archives and packed files


def zeros(size: int) -> bytes:
    """`size` zeros, packed, without ever having them all."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = bytes(1 << 20)
    return b"".join([packer.compress(block) for _ in range(size >> 20)]) + packer.compress(bytes(size & (1 << 20) - 1)) + packer.flush()


def bomb(header: bytes, size: int) -> bytes:
    return gzip.compress(header) + zeros(size)


@forks
def test_idx_files_that_say_more_than_they_hold(tmp_path: Path) -> None:
    path, large = tmp_path / "file", (2**32 - 1).to_bytes(4, "big")
    head = b"\0\0\x08\x03"

    def read() -> None:
        for contents, words in (
            (head + 3 * large, "16 bytes, truncated: 16 of header . 4294967295 x 4294967295 x 4294967295 values"),
            (head + large + b"\0\0\0\1" * 2, "16 bytes, truncated: 16 of header . 4294967295 x 1 x 1 values"),
            (head + bytes(4) + 2 * large, "0 x 4294967295 x 4294967295 values are no array"),
            (gzip.compress(head + 3 * large), "says that it holds 79,228,162,458,924,105,385,300,197,375 bytes; this machine has"),
            (
                gzip.compress(head + large + b"\0\0\0\1" * 2),
                "16 bytes, truncated: 16 of header . 4294967295 x 1 x 1 values|this machine has",
            ),
            (bomb(head + b"\0\0\0\1" * 3, 1 << 29), "at least 18 bytes, too long"),
            (bomb(b"", 1 << 29), "starts with '00 00 00 00'"),
            (bomb(head + large * 2 + b"\0\0\0\2", 1 << 20), "this machine has"),
        ):
            path.write_bytes(contents)
            with pytest.raises(ValueError, match=words) as caught:
                data.read_idx(path, 3)
            assert str(caught.value).startswith(f"{path}: ")

    assert with_memory(MEMORY, read) == 0


def tar_header(name: bytes, size: int, kind: bytes = b"0") -> bytes:
    """One block; a size that octal digits cannot say is written in base 256, negative ones too."""
    field = f"{size:011o}\0".encode() if 0 <= size < 8**11 else (b"\x80" if size >= 0 else b"\xff") + (size % 2**88).to_bytes(11, "big")
    block = bytearray(name.ljust(100, b"\0") + b"0000644\0" * 3 + field + b"0" * 11 + b"\0" + b" " * 8 + kind + bytes(100) + b"ustar\x0000")
    block += bytes(512 - len(block))
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block)


TARS: dict[str, bytes] = {
    "a member of 2**70": tar_header(b"test_batch", 2**70),
    "a member of 8 GB": tar_header(b"test_batch", 8**11 - 1),
    "a negative member": tar_header(b"other", -512) + tar_header(b"test_batch", 0),
    "a negative member far back": tar_header(b"other", -(2**40)) * 2,
    "a name of 8 GB": tar_header(b"././@LongLink", 8**11 - 1, b"L") + bytes(1024),
    "a pax header of 8 GB": tar_header(b"x", 8**11 - 1, b"x") + bytes(1024),
    "names of names": tar_header(b"././@LongLink", 1, b"L") * 1 + (bytes(512) + tar_header(b"././@LongLink", 1, b"L")) * 5000,
    "a sparse member": tar_header(b"test_batch", 100, b"S"),
    "a link": tar_header(b"test_batch", 0, b"2"),
    "a device": tar_header(b"test_batch", 0, b"3"),
    "half a header": tar_header(b"test_batch", 7)[:300],
}


@forks
def test_hostile_archives(tmp_path: Path) -> None:
    path = tmp_path / "cifar-10.tar.gz"

    def read() -> None:
        for what, contents in TARS.items():
            for form in (contents, gzip.compress(contents)):
                path.write_bytes(form)
                with pytest.raises((ValueError, FileNotFoundError)) as caught:
                    data.cifar10(path)
                assert str(caught.value).startswith(f"{path}: ") and len(str(caught.value)) < 500, what
        path.write_bytes(bomb(tar_header(b"other", 1 << 33), 600 << 20))
        with pytest.raises(ValueError, match="unpacks to more than 536,870,912 bytes"):
            data.cifar10(path)
        path.write_bytes(bomb(tar_header(b"x", 1 << 33, b"x"), 2 << 20))
        with pytest.raises(ValueError, match=str(path)):
            data.cifar10(path)

    assert with_memory(MEMORY, read) == 0


@forks
def test_hostile_npz(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"

    def write(name: str, header: str, contents: bytes = b"") -> None:
        text = header.encode().ljust(118) + b"\n"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + contents)

    def read() -> None:
        for name, header in (
            ("train_images.npy", "{'descr': '|u1', 'fortran_order': False, 'shape': (1099511627776,), }"),
            ("train_images.npy", "{'descr': '|u1', 'fortran_order': False, 'shape': (9223372036854775807, 4), }"),
            ("train_images.npy", "{'descr': '|u1', 'fortran_order': False, 'shape': (-1,), }"),
            ("train_images.npy", "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"),
            ("train_images.npy", "{'descr': __import__('os').system('touch was-run'), 'fortran_order': False, 'shape': (1,), }"),
            ("train_images.npy", "{" * 60),
            ("train_images", "no array"),
        ):
            write(name, header)
            with pytest.raises(ValueError, match="not a whole .npz file of plain arrays"):
                data.arrays(path)
        write("train_images.npy", "{'descr': '|u1', 'fortran_order': False, 'shape': (4,), }", bytes(4))
        whole = bytearray(path.read_bytes())
        at = whole.rindex(b"PK\x01\x02") + 24
        whole[at : at + 4] = b"\xfe\xff\xff\xff"  # the directory says 4 GB
        path.write_bytes(whole * 1)
        with pytest.raises(ValueError, match="a.npz: .*|train_labels, test_images, test_labels is missing"):
            data.arrays(path)

    assert with_memory(MEMORY, read) == 0
    four = {name: np.zeros((2, 4), np.uint8) for name in ("train_images", "test_images")}
    four |= {name: np.zeros(2, np.int64) for name in ("train_labels", "test_labels")}
    np.savez(path, **four, classes=np.array("a name for all"))
    with pytest.raises(TypeError, match="a.npz: ArrayDataset: classes must be the names of the classes"):
        data.arrays(path)
    letters = np.array([0x61, 0x110000], np.uint32).view("<U1")  # Unicode ends one before
    np.savez(path, **four, classes=letters)
    (tmp_path / "folder").mkdir()
    for name, array in {**four, "classes": letters}.items():
        np.save(tmp_path / "folder" / f"{name}.npy", array)
    for place, words in ((path, "a.npz: not a whole .npz"), (tmp_path / "folder", "classes.npy: not a whole .npy")):
        with pytest.raises(ValueError, match=words):
            data.arrays(place)


def test_files_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(OSError, match="neither a file nor a folder"):
            files.read(path)


# --- pictures


def chunk(kind: bytes, contents: bytes) -> bytes:
    return struct.pack(">I", len(contents)) + kind + contents + struct.pack(">I", zlib.crc32(kind + contents))


def png(width: int, height: int, contents: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(contents)) + chunk(b"IEND", b"")


@forks
def test_hostile_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pillow: Any = pytest.importorskip("PIL.Image")
    monkeypatch.chdir(tmp_path)
    stream = io.BytesIO()
    pillow.new("RGB", (8, 8)).save(stream, "JPEG")
    jpeg = stream.getvalue()
    at = jpeg.index(b"\xff\xc0")
    text = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(was-run) (w) file closefile\nshowpage\n%%EOF\n"
    cases = {
        "a bomb of 30,000 x 30,000": (
            png(30_000, 30_000),
            "larger than Pillow opens, .*900000000 pixels.*bomb.*set PIL.Image.MAX_IMAGE_PIXELS",
        ),
        "2**31 wide": (png(2**31 - 1, 2**31 - 1), "damaged|bomb"),
        "0 wide": (png(0, 5), "damaged|not an image"),
        "a JPEG of 65,500 x 65,500": (jpeg[: at + 5] + b"\xff\xdc\xff\xdc" + jpeg[at + 9 :], "bomb"),
        "text that unpacks to 100 MB": (
            png(4, 4)[:33] + chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(100 << 20))) + png(4, 4)[33:],
            "damaged",
        ),
        "PostScript": (text, "PostScript is a program, which is not run"),
        "nothing": (b"", "an empty file"),
        "words": (b"no picture", "not an image that Pillow knows"),
    }

    def read() -> None:
        for what, (contents, words) in cases.items():
            for name in ("a.png", "a.jpg"):  # the ending says nothing
                Path(name).write_bytes(contents)
                with pytest.raises(ValueError, match=words) as caught:
                    data.Resize(8)(name)
                assert str(caught.value).startswith(f"{name}: "), what

    assert with_memory(MEMORY, read) == 0
    assert not Path("was-run").exists()
    (tmp_path / "a.png").write_bytes(jpeg)  # a wrong ending of a whole picture does not matter
    assert data.Resize(8)(tmp_path / "a.png").shape == (3, 8, 8)


# --- the corpus that fuzzing has found, and mutations of it


@pytest.mark.parametrize("name", parsers.PARSERS)
def test_the_corpus(tmp_path: Path, name: str) -> None:
    """Every input that reached something new, whole, cut and changed: nothing but the errors a user may see, each with the file's name."""
    kept = sorted((parsers.CORPUS / name).iterdir()) if (parsers.CORPUS / name).is_dir() else []
    inputs = [*parsers.seeds(name), *(path.read_bytes() for path in kept)]
    random = np.random.default_rng(1)
    refused = 0
    for contents in inputs:
        refused += parsers.run(name, contents, tmp_path) is not None
        for _ in range(2):
            cut = contents[: random.integers(len(contents) + 1)]
            changed = bytearray(contents)
            for at in random.integers(len(contents), size=min(len(contents), 2)):
                changed[at] = random.integers(256)
            for one in (cut, bytes(changed)):
                refused += parsers.run(name, one, tmp_path) is not None
    assert refused or name in ("notes", "npz", "npy", "listing")  # these look at several errors themselves
