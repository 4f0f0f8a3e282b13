"""Data sets, and the file of a bad step, read while memory is short, from nearly none to plenty: the arrays of an undisturbed read, or one
OutOfMemoryError that names the file; never is a sound file called damaged. And a damaged one is, wherever there is memory."""

from __future__ import annotations

import errno
import gzip
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import in_child
from test_cifar import NAMES10, batch, binary_bytes, pack, python2_bytes, write_jpegs
from test_data import idx_bytes
from test_files_without_memory import DONE, ENVIRONMENT, REFUSED, SECONDS

import fastnn
from fastnn import data, files, models, optim
from fastnn.data import memory, pool, resize
from fastnn.train import Diverged, ModelCheckpoint, Trainer, reproduce

KB, MB = 1 << 10, 1 << 20
# bytes of address space beyond those in use; a thread's stack has 8 MB
HEADROOM = [*(n * KB for n in (0, 4, 16, 64, 128)), *range(256 * KB, 4 * MB, 384 * KB), *(n * MB for n in (5, 8, 16, 33, 41, 256))]
N = 400


def some(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def four() -> dict[str, np.ndarray]:
    """1.5 MB."""
    images, labels = some(N, 3, 24, 24), np.arange(N) % 3
    return {"train_images": images, "train_labels": labels, "test_images": images[::2].astype(np.float64), "test_labels": labels[::2]}


def idx(folder: Path, packed: bool) -> None:
    for prefix in ("train", "t10k"):
        for name, array in (("images-idx3-ubyte", some(N, 40, 40)), ("labels-idx1-ubyte", some(N) % 10)):
            contents = idx_bytes(array)
            (folder / f"{prefix}-{name}{'.gz' if packed else ''}").write_bytes(gzip.compress(contents, 1) if packed else contents)


def npz(folder: Path, compressed: bool) -> None:
    (np.savez_compressed if compressed else np.savez)(folder / "a.npz", **four(), classes=np.array(["a", "b", "c"]))  # type: ignore[arg-type]


def npy(folder: Path) -> None:
    for name, array in four().items():
        np.save(folder / f"{name}.npy", array)


def cifar10(folder: Path, binary: bool) -> None:
    for number, name in enumerate(NAMES10):
        images, labels = batch(number, 80)
        (folder / f"{name}{'.bin' if binary else ''}").write_bytes((binary_bytes if binary else python2_bytes)(images, {"labels": labels}))


def cifar100(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as parts:
        for number, name in enumerate(("train", "test")):
            images, labels = batch(number, 200)
            Path(parts, name).write_bytes(python2_bytes(images, {"coarse_labels": labels, "fine_labels": labels * 9}))
        pack(Path(parts), folder / "cifar-100-python.tar.gz")


def photos(folder: Path, progressive: bool = False) -> None:
    """In every form that Pillow decodes in its own way."""
    from PIL import Image

    forms: list[tuple[str, dict[str, Any]]] = [(form, {}) for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")]
    forms += [("JPEG", {"progressive": True}), ("TIFF", {"compression": "tiff_adobe_deflate"}), ("WEBP", {"lossless": True})]
    picture = Image.fromarray(np.kron(some(25, 30, 3), np.ones((12, 12, 1), np.uint8)))
    for label in ("a", "b"):
        (folder / label).mkdir()
        for i, (form, options) in enumerate(forms):
            picture.save(folder / label / f"{i}.{form.lower()}", form, **options)


def bad_step(folder: Path) -> None:
    fastnn.seed(0)
    model = models.create("vgg", input_shape=(1, 16, 16), num_classes=4, widths=(16, 32), hidden=256)
    images = np.random.default_rng(0).standard_normal((8, 1, 16, 16)).astype(np.float32)
    images[3, 0, 2, 3] = np.nan
    t = Trainer(model, optim.SGD(model.parameters(), 0.1), normalize=data.Normalize([0.0], [1.0]))
    with pytest.raises(Diverged):
        t.fit((images, np.arange(8) % 4), 2, progress=False, batch_size=8, callbacks=[ModelCheckpoint(folder / "a")])


def arrays_of(found: Any) -> Any:
    """All that was read, as bytes."""
    if isinstance(found, data.Sets):
        return arrays_of((found.train, found.test)), found.skipped
    if isinstance(found, (tuple, list)):
        return [arrays_of(one) for one in found]
    if isinstance(found, data.ArrayDataset):
        return np.asarray(found.images).tobytes(), found.labels.tobytes(), found.classes
    return found.tobytes() if isinstance(found, np.ndarray) else found


def batches(folder: Path) -> list[bytes]:
    """Of photos that are decoded as they are wanted, in threads."""
    loader = data.Loader(data.image_folder(folder, 32, keep=False).train, 4, workers=2)
    return [np.asarray(x).tobytes() for x, _ in loader]


Write, Read = Callable[[Path], object], Callable[[Path], Any]
LOADERS: dict[str, tuple[Write, Read]] = {
    "idx": (lambda folder: idx(folder, False), data.mnist),
    "idx.gz": (lambda folder: idx(folder, True), data.idx),
    "read_idx": (lambda folder: idx(folder, True), lambda folder: data.read_idx(folder / "train-images-idx3-ubyte.gz", 3)),
    "npz": (lambda folder: npz(folder, False), lambda folder: data.arrays(folder / "a.npz")),
    "npz compressed": (lambda folder: npz(folder, True), lambda folder: data.arrays(folder / "a.npz")),
    "npy": (npy, data.arrays),
    "cifar10 pickles": (lambda folder: cifar10(folder, False), data.cifar10),
    "cifar10 binary": (lambda folder: cifar10(folder, True), data.cifar10),
    "cifar10 JPEGs": (lambda folder: write_jpegs(folder / "a.npz", 60, train_labels=some(60) % 2, test_labels=some(60) % 2), data.cifar10),
    "cifar100 archive": (cifar100, lambda folder: data.cifar100(folder / "cifar-100-python.tar.gz")),
    "photos": (photos, lambda folder: data.image_folder(folder, 32)),
    "photos, broken ones skipped": (photos, lambda folder: data.image_folder(folder, 32, skip_broken=True)),
    "photos, batch by batch": (photos, batches),
    "recognise": (lambda folder: npz(folder, True), lambda folder: data.recognise(folder / "a.npz")),
    "digits": (lambda folder: None, lambda folder: data.digits()),
    "reproduce": (bad_step, lambda folder: str(reproduce(folder / "bad-step.safetensors"))),
}


def attempt(read: Read, folder: Path, headroom: int, expected: Any) -> int:
    """In a process of its own, which may end."""

    def limited() -> None:
        signal.alarm(SECONDS)
        before = os.listdir("/proc/self/fd")
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        told, found = "", None
        resource.setrlimit(resource.RLIMIT_AS, (used + headroom, resource.RLIM_INFINITY))
        try:
            found = read(folder)
        except fastnn.OutOfMemoryError as error:
            told = str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        found = arrays_of(found)  # lets go of what is mapped
        assert os.listdir("/proc/self/fd") == before
        if told:
            words = r"(.*): out of memory while it was (read|loaded|repeated).*: \d+ bytes requested, \d+ free, \d+ held by live arrays"
            named = re.fullmatch(words, told)
            assert named and named[1].startswith((str(folder), str(Path(data.__file__).parent))), told
        assert (arrays_of(read(folder)) if told else found) == expected
        os._exit(REFUSED if told else DONE)

    return in_child(limited)


def main(*loaders: str) -> None:
    """Prints how each try ended."""
    fastnn.set_num_threads(1)
    for what in loaders:
        write, read = LOADERS[what]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write(folder)
            expected = arrays_of(read(folder))
            for headroom in HEADROOM:
                print(f"{what}: {headroom}", attempt(read, folder, headroom, expected), flush=True)


GROUPS = [
    [what for what in LOADERS if what.startswith(kinds)] for kinds in (("idx", "read"), ("n", "cifar"), "photos", ("rec", "dig", "rep"))
]


@pytest.mark.parametrize("loaders", GROUPS, ids=lambda loaders: loaders[0])
def test_memory_from_none_to_plenty(loaders: list[str]) -> None:
    ran = subprocess.run(
        [sys.executable, __file__, *loaders], env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, timeout=200
    )
    ends = {what: [int(line.split()[-1]) for line in ran.stdout.splitlines() if line.startswith(f"{what}: ")] for what in loaders}
    assert ran.returncode == 0 and all(len(end) == len(HEADROOM) for end in ends.values()), ran.stdout + ran.stderr
    for what, end in ends.items():
        small = what in ("recognise", "digits")  # which may find room in what the heap has left
        assert set(end) <= {DONE, REFUSED} and end[-1] == DONE and (end[0] == REFUSED or small), f"{what}: {end}{ran.stderr}"


def test_a_damaged_file_is_one_where_there_is_memory(tmp_path: Path) -> None:
    """Python's parser has no place for a header so nested, and says so by a MemoryError."""
    nested = b"-" * 9000 + b"1\n"
    header = b"\x93NUMPY\x01\x00" + len(nested).to_bytes(2, "little") + nested
    (tmp_path / "train_images.npy").write_bytes(header)
    with pytest.raises(ValueError, match=r"train_images.npy: not a whole .npy .*\(it holds 9,012 bytes, its header asks for more\)"):
        data.arrays(tmp_path)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("train_images.npy", header)
    with pytest.raises(ValueError, match=r"a.npz: not a whole .npz .*\(it holds 9,012 bytes, its header asks for more\)"):
        data.arrays(tmp_path / "a.npz")


def test_an_array_larger_than_memory_names_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "most_memory", lambda: 1 << 62)
    images = some(4, 1, 2, 2)
    np.savez(tmp_path / "a.npz", train_images=images)
    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", lambda file, name: np.empty(len(file.zip.infolist()) << 60, np.uint8))
    with pytest.raises(ValueError, match="its header asks for more"):
        data.arrays(tmp_path / "a.npz")
    monkeypatch.setattr(zipfile.ZipFile, "infolist", lambda file: [_of(1 << 60)])
    with pytest.raises(
        fastnn.OutOfMemoryError, match="a.npz: out of memory while it was read: 1152921504606846976 bytes requested"
    ) as caught:
        data.arrays(tmp_path / "a.npz")
    assert caught.value.requested == 1 << 60 and caught.value.free > 0


def _of(size: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo()
    member.file_size = size
    return member


@pytest.mark.parametrize(
    "error", [zlib.error("Error -4 while decompressing data"), OSError("broken data stream"), EOFError(), ValueError("x")]
)
def test_errors_that_do_not_say_it_is_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """zlib, tarfile and Pillow's decoders have one word for both."""

    def act() -> None:
        with files.reading(tmp_path / "a", "damaged ({})"):
            raise error

    with pytest.raises(ValueError, match=r"a: damaged \("):
        act()
    monkeypatch.setattr(files, "room", lambda size: False)
    with pytest.raises(fastnn.OutOfMemoryError, match=r"/a: out of memory while it was read: 0 bytes requested, \d+ free, \d+ held"):
        act()


def test_errors_of_the_disk_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "room", lambda size: False)
    with pytest.raises(OSError, match="/a'") as caught, files.reading(tmp_path / "a", "damaged ({})"):
        raise OSError(errno.EIO, "Input/output error")
    assert caught.value.errno == errno.EIO
    with pytest.raises(fastnn.OutOfMemoryError, match="/a: "), files.reading(tmp_path / "a", "damaged ({})"):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")  # mmap's


def test_the_file_inside_the_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(fastnn.OutOfMemoryError, match="/inner: out of memory while it was read"), files.memory_for(tmp_path, "loaded"):
        with files.memory_for(tmp_path / "inner", "read"):
            raise MemoryError


def test_a_photo_that_memory_lacks_for_is_not_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    photos(tmp_path)

    def fails(*arguments: Any, **more: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "resize", fails)
    for keep in (True, False):
        with pytest.raises(fastnn.OutOfMemoryError, match=r"/a/\d.\w+: out of memory while it was read"):
            data.image_folder(tmp_path, 8, skip_broken=keep, keep=keep)


def test_what_is_made_of_a_file_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad_step(tmp_path)

    def fails(*arguments: Any, **more: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(sys.modules["fastnn.data.digits"], "ArrayDataset", fails)
    with pytest.raises(fastnn.OutOfMemoryError, match="data/digits.npz: out of memory while it was read"):
        data.digits()
    monkeypatch.setattr(sys.modules["fastnn.train.bad_step"], "run", fails)
    with pytest.raises(fastnn.OutOfMemoryError, match="/bad-step.safetensors: out of memory while it was repeated"):
        reproduce(tmp_path / "bad-step.safetensors")
    write_jpegs(tmp_path / "a.npz")
    monkeypatch.setattr(zipfile, "ZipFile", fails)  # not: of another kind
    with pytest.raises(fastnn.OutOfMemoryError, match="/a.npz: out of memory while it was read"):
        data.recognise(tmp_path / "a.npz")


def test_where_no_thread_can_begin_the_caller_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise RuntimeError("can't start new thread")

    def expect() -> None:
        here: list[int] = []
        resize.each(40, lambda i: here.append(threading.get_ident()))
        assert here == [threading.get_ident()] * 40
        with pytest.raises(ZeroDivisionError):
            resize.each(2, lambda i: print(1 // i))
        loader = data.Loader((some(10, 1, 2, 2), np.arange(10)), 3, prefetch=3)
        assert [labels.numpy().tolist() for _, labels in loader] == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]

    with monkeypatch.context() as patch:
        patch.setattr(pool, "room", lambda size: False)
        expect()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    expect()


if __name__ == "__main__":
    main(*sys.argv[1:])
