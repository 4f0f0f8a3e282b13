"""CIFAR-10 and CIFAR-100 in every form in which they are published; pickles that want to run something; files that are damaged."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shared_data import shared_data

from fastnn import data
from fastnn.data.cifar_pickle import read_pickle

N = 4  # images in each batch
NAMES10 = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]


def batch(number: int, n: int = N) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(number)
    return random.integers(0, 256, (n, 3072), np.uint8), random.integers(0, 10, n)


def python2_bytes(images: np.ndarray, entries: dict[str, Any]) -> bytes:
    """As Python 2 pickled the published batches: protocol 2, str for keys, names and the array's bytes."""

    def text(value: bytes) -> bytes:
        return b"T" + len(value).to_bytes(4, "little") + value if len(value) > 255 else b"U" + bytes([len(value)]) + value

    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    array += b"(K\x01" + b"J" + len(images).to_bytes(4, "little") + b"M\x00\x0c\x86"
    array += b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array += b"\x89" + text(images.tobytes()) + b"tb"
    pairs = text(b"data") + array
    for key, values in entries.items():
        pairs += text(key.encode()) + b"](" + b"".join(b"K" + bytes([int(v)]) for v in values) + b"e"
    return b"\x80\x02}(" + pairs + b"u."


def python3_bytes(protocol: int) -> Callable[[np.ndarray, dict[str, Any]], bytes]:
    return lambda images, entries: pickle.dumps({b"data": images, **{k.encode(): list(v) for k, v in entries.items()}}, protocol)


def binary_bytes(images: np.ndarray, entries: dict[str, Any]) -> bytes:
    columns = [np.asarray(v, np.uint8)[:, None] for v in entries.values()]
    return np.concatenate([*columns, images], 1).tobytes()


def write_cifar10(folder: Path, form: str = "python2") -> None:
    folder.mkdir(exist_ok=True)
    write = {"python2": python2_bytes, "binary": binary_bytes}.get(form) or python3_bytes(int(form[-1]))
    for number, name in enumerate(NAMES10):
        images, labels = batch(number)
        (folder / (f"{name}.bin" if form == "binary" else name)).write_bytes(write(images, {"labels": labels}))


def write_cifar100(folder: Path, form: str = "python2") -> None:
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(("train", "test")):
        images, labels = batch(number)
        entries = {"coarse_labels": labels, "fine_labels": labels * 9 + 5}
        (folder / (f"{name}.bin" if form == "binary" else name)).write_bytes(
            (binary_bytes if form == "binary" else python2_bytes)(images, entries)
        )


def pack(folder: Path, archive: Path) -> None:
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, folder.name)


def check_cifar10(path: Path) -> None:
    train, test = data.cifar10(path)
    images, labels = (np.concatenate(arrays) for arrays in zip(*(batch(number) for number in range(5))))
    assert train.shape == test.shape == (3, 32, 32) and len(train) == 5 * N and len(test) == N
    assert (train.images.reshape(-1, 3072) == images).all() and (train.labels == labels).all()
    assert (test.images.reshape(-1, 3072) == batch(5)[0]).all() and (test.labels == batch(5)[1]).all()
    assert train.images.dtype == np.uint8 and train.classes is not None and train.classes[6] == "frog"


@pytest.mark.parametrize("form", ["python2", "python3 protocol 2", "python3 protocol 4", "python3 protocol 5", "binary"])
def test_cifar10_in_every_form(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "cifar-10-batches"
    write_cifar10(folder, form)
    pack(folder, tmp_path / "cifar-10.tar.gz")
    for path in (folder, tmp_path, tmp_path / "cifar-10.tar.gz"):
        check_cifar10(path)


@pytest.mark.parametrize("form", ["python2", "binary"])
def test_cifar100_fine_and_coarse(tmp_path: Path, form: str) -> None:
    write_cifar100(tmp_path / "cifar-100", form)
    pack(tmp_path / "cifar-100", tmp_path / "cifar-100.tar.gz")
    images, labels = batch(0)
    for path in (tmp_path / "cifar-100", tmp_path / "cifar-100.tar.gz"):
        fine, coarse = data.cifar100(path)[0], data.cifar100(path, coarse=True)[0]
        assert (fine.images.reshape(-1, 3072) == images).all() and (fine.labels == labels * 9 + 5).all() and (coarse.labels == labels).all()
        assert fine.num_classes == 100 and coarse.num_classes == 20
        assert fine.classes is not None and coarse.classes is not None
        assert (fine.classes[0], fine.classes[99], coarse.classes[0], coarse.classes[19]) == (
            "apple",
            "worm",
            "aquatic_mammals",
            "vehicles_2",
        )


# --- pickles


class Opens:
    def __reduce__(self) -> Any:
        return (os.mkdir, ("was-run",))


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_cannot_run_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int) -> None:
    monkeypatch.chdir(tmp_path)
    write_cifar10(tmp_path)
    Path("data_batch_2").write_bytes(pickle.dumps({"data": Opens(), "labels": []}, protocol))
    with pytest.raises(ValueError, match=r"data_batch_2: not a whole CIFAR batch .*asks for posix\.mkdir, .*refused"):
        data.cifar10(tmp_path)
    assert not Path("was-run").exists()


@pytest.mark.parametrize(
    "name", ["builtins.eval", "os.system", "numpy.load", "numpy.core.multiarray.fromfile", "numpy.memmap", "functools.partial"]
)
def test_names_that_batches_do_not_need_are_refused(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    with pytest.raises(ValueError, match=f"evil: .*asks for {name}"):
        read_pickle(f"c{module}\n{attribute}\n.".encode(), "evil")


@pytest.mark.parametrize("program, words", [
    (b"cnumpy\nndarray\n)R.", "calls numpy.ndarray"),
    (b"cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R}b.", "not a whole CIFAR batch"),
    (b"c_codecs\nencode\n}U\x08__code__Nsb.", "changes what it calls"),
    (b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.", "encodes into 'zip'"),
    (b"Pfile\n.", "outside of the file"),
    (b"].", "holds a list, not a dictionary"),
    (b"B\xff\xff\xff\x7fabc.", "but only 4 remain"),
    (b"\x8e" + b"\xff" * 7 + b"\x0fabc.", "not a whole CIFAR batch"),
])  # fmt: skip
def test_programs_that_are_no_batch(program: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_pickle(b"\x80\x04" + program, "evil")


def test_object_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a type and bytes"):
        read_pickle(pickle.dumps({"data": np.array([1, "two", None], object)}), "objects")


def test_a_pickle_truncated_anywhere_is_one_clear_error() -> None:
    images, labels = batch(0, 1)
    for whole in (python2_bytes(images, {"labels": labels}), pickle.dumps({"data": images, "labels": labels}, 4)):
        for end in [*range(0, 250), *range(250, len(whole), 97), len(whole) - 1]:
            with pytest.raises(ValueError, match="^some/file: not a whole CIFAR batch"):
                read_pickle(whole[:end], "some/file")


def test_a_pickle_with_any_byte_changed_raises_nothing_else(tmp_path: Path) -> None:
    images, labels = batch(0, 1)
    whole = python2_bytes(images, {"labels": labels})
    heads = [i for i in range(len(whole)) if i < 200 or i > len(whole) - 60]
    refused = 0
    for position in heads:
        for flip in (0x01, 0x20, 0x80, 0xFF):
            changed = whole[:position] + bytes([whole[position] ^ flip]) + whole[position + 1 :]
            try:
                read_pickle(changed, "file")
            except ValueError as error:
                assert str(error).startswith("file: ")
                refused += 1
    assert refused > len(heads)


# --- damage


@pytest.mark.parametrize("spoil, words", [
    (lambda f: (f / "data_batch_3").unlink(), r"data_batch_3 missing; CIFAR-10 has data_batch_1, .*, test_batch \(or these with .bin\)"),
    (lambda f: (f / "data_batch_3").write_bytes(b""), "data_batch_3: not a whole CIFAR batch"),
    (lambda f: (f / "data_batch_3").write_bytes(pickle.dumps({"data": batch(0)[0]})), "data_batch_3: has no labels, only data"),
    (lambda f: (f / "data_batch_3").write_bytes(pickle.dumps({"data": batch(0)[0][:, 1:], "labels": [0] * N})),
     r"data_batch_3: data is uint8 of shape \(4, 3071\); expected uint8 of shape \(n, 3072\)"),
    (lambda f: (f / "data_batch_3").write_bytes(pickle.dumps({"data": [1], "labels": [0]})), "data_batch_3: data is list; expected uint8"),
    (lambda f: (f / "data_batch_3").write_bytes(pickle.dumps({"data": batch(0)[0], "labels": [0] * 3})), "data_batch_3: 4 images and 3 labels"),
    (lambda f: (f / "data_batch_3").write_bytes(pickle.dumps({"data": batch(0)[0], "labels": [0, 1, 10, 2]})), "image 2 has the label 10; expected 0 to 9"),
    (lambda f: (f / "data_batch_3").write_bytes(pickle.dumps({"data": batch(0)[0], "labels": ["cat"] * 4})), "labels is no list of integers"),
    (lambda f: (f / "data_batch_3").write_bytes(python2_bytes(batch(0, 3)[0], {"labels": [0, 1, 2]})), "data_batch_2 4, data_batch_3 3, .*one is truncated"),
])  # fmt: skip
def test_damaged_batches_name_the_file_and_the_damage(tmp_path: Path, spoil: Callable[[Path], None], words: str) -> None:
    write_cifar10(tmp_path)
    spoil(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        data.cifar10(tmp_path)


def test_damaged_binary_batches_and_archives(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    write_cifar10(folder, "binary")
    pack(folder, tmp_path / "c.tar.gz")
    whole = (tmp_path / "c.tar.gz").read_bytes()
    for end in (0, 5, len(whole) // 3, len(whole) - 9):
        (tmp_path / "c.tar.gz").write_bytes(whole[:end])
        with pytest.raises(ValueError, match="c.tar.gz: damaged or truncated archive .*fetch it again"):
            data.cifar10(tmp_path / "c.tar.gz")
    (tmp_path / "c.tar.gz").write_bytes(whole[:-8] + b"\0\0\0\0" + whole[-4:])
    with pytest.raises(ValueError, match="c.tar.gz: damaged or truncated archive .*CRC"):
        data.cifar10(tmp_path / "c.tar.gz")
    (tmp_path / "c.tar.gz").write_bytes(gzip.compress(b"no archive" * 100))
    with pytest.raises(ValueError, match="c.tar.gz: damaged or truncated archive"):
        data.cifar10(tmp_path / "c.tar.gz")
    first = folder / "data_batch_1.bin"
    first.write_bytes(first.read_bytes()[:-7])
    with pytest.raises(ValueError, match=r"data_batch_1.bin: 12,285 bytes, truncated or damaged: 4.00 images of 3,073"):
        data.cifar10(folder)
    first.write_bytes(b"\x0b" + bytes(3072))
    with pytest.raises(ValueError, match="data_batch_1.bin: image 0 has the label 11"):
        data.cifar10(folder)
    with pytest.raises(FileNotFoundError, match="nowhere: .*missing"):
        data.cifar10(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="train, test missing; CIFAR-100 has train, test"):
        data.cifar100(folder)


# --- JPEG files end to end


def write_jpegs(path: Path, n: int = 6, **changes: Any) -> None:
    image = pytest.importorskip("PIL.Image")
    arrays: dict[str, Any] = {"classes": ["dark", "bright"]}
    for part in ("train", "test"):
        files = []
        for i in range(n):
            stream = io.BytesIO()
            image.new("RGB", (32, 32), (40 * i, 40 * i, 40 * i)).save(stream, "JPEG")
            files.append(stream.getvalue())
        arrays[f"{part}_jpeg"] = np.frombuffer(b"".join(files), np.uint8)
        arrays[f"{part}_offsets"] = np.cumsum([0, *map(len, files)])
        arrays[f"{part}_labels"] = np.arange(n, dtype=np.uint8) // 3
    np.savez(path, **{**arrays, **changes})


def test_jpegs_end_to_end(tmp_path: Path) -> None:
    write_jpegs(tmp_path / "cifar10-jpeg.npz")
    for path in (tmp_path, tmp_path / "cifar10-jpeg.npz"):
        train, test = data.cifar10(path)
        assert train.images.shape == (6, 3, 32, 32) and test.labels.tolist() == [0, 0, 0, 1, 1, 1] and train.classes == ("dark", "bright")
        assert np.abs(train.images[:, 1, 4, 4].astype(int) - 40 * np.arange(6)).max() <= 2


def test_damaged_jpegs(tmp_path: Path) -> None:
    path = tmp_path / "j.npz"
    write_jpegs(path)
    with np.load(path) as file:
        jpeg, offsets = file["train_jpeg"].copy(), file["train_offsets"]
    jpeg[offsets[4] : offsets[5]] = 0
    for changes, words in (
        ({"train_jpeg": jpeg}, "j.npz: train image 4: not an image that Pillow knows"),
        ({"train_offsets": offsets[:-1]}, r"train_offsets \(6,\), train_labels \(6,\); expected"),
        ({"train_offsets": offsets[::-1]}, "train_offsets do not rise from 0 to"),
        ({"train_labels": np.full(6, 2)}, "j.npz: train_labels: label 2 at position 0; 2 classes"),
    ):
        write_jpegs(path, **changes)
        with pytest.raises(ValueError, match=words):
            data.cifar10(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="j.npz: not a whole .npz"):
        data.cifar10(path)


def test_the_real_jpegs_are_read_whole() -> None:
    pytest.importorskip("PIL.Image")
    train, test = data.cifar10(shared_data("cifar10-jpeg"))
    assert train.images.shape == (50000, 3, 32, 32) and test.images.shape == (10000, 3, 32, 32)
    assert np.bincount(train.labels).tolist() == [5000] * 10 and np.bincount(test.labels).tolist() == [1000] * 10
    mean = data.Normalize.fit(train).mean
    assert np.allclose(mean, [125.3, 123.0, 113.9], atol=1.0)  # the known means of CIFAR-10
