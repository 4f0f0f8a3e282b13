"""The public data sets, fetched when somebody asks for it: MNIST, Fashion-MNIST, CIFAR-10, CIFAR-100."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sys
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from ..arguments import flag, text
from ..arguments import path as checked_path

_PIECE = 1 << 18  # bytes
_TRIES = 3  # of each address, going on where the one before was cut off
_SECONDS = 30.0  # without a byte


@dataclass(frozen=True)
class File:
    """As it was published."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class PublicSet:
    """folders: addresses below which each file lies by its name, tried in order. unpacked: the folder in the archive, for an archive."""

    files: tuple[File, ...]
    folders: tuple[str, ...]
    unpacked: str | None = None


SETS = {
    "mnist": PublicSet(
        (
            File("train-images-idx3-ubyte.gz", 9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            File("train-labels-idx1-ubyte.gz", 28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            File("t10k-images-idx3-ubyte.gz", 1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            File("t10k-labels-idx1-ubyte.gz", 4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        ),
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist",
            "https://storage.googleapis.com/cvdf-datasets/mnist",
            "http://yann.lecun.com/exdb/mnist",  # where they were published; it mostly refuses
        ),
    ),
    "fashion-mnist": PublicSet(
        (
            File("train-images-idx3-ubyte.gz", 26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            File("train-labels-idx1-ubyte.gz", 29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            File("t10k-images-idx3-ubyte.gz", 4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            File("t10k-labels-idx1-ubyte.gz", 5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        ),
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets",
        ),
    ),
    "cifar10": PublicSet(
        (File("cifar-10-python.tar.gz", 170_498_071, "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"),),
        ("https://www.cs.toronto.edu/~kriz", "https://cave.cs.toronto.edu/kriz"),
        "cifar-10-batches-py",
    ),
    "cifar100": PublicSet(
        (File("cifar-100-python.tar.gz", 169_001_437, "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"),),
        ("https://www.cs.toronto.edu/~kriz", "https://cave.cs.toronto.edu/kriz"),
        "cifar-100-python",
    ),
}


def download(name: str, root: str | os.PathLike[str] | None = None, *, url: str | None = None, progress: bool = True) -> str:
    """Fetches a public data set, and returns the folder where it lies then, for the function of its name.

        train, test = data.mnist(data.download("mnist"))
        train, test = data.cifar10(data.download("cifar10", "/scratch/sets"))

    name: "mnist" (12 MB), "fashion_mnist" (31 MB), "cifar10" (171 MB, and 186 unpacked), "cifar100" (169, and 187). root: the folder is the one of
    that name below it, as "sets/fashion-mnist"; left out, below $FASTNN_DATA, or "data" here. url: of a folder that has the files, instead
    of the places where they were published and their mirrors; "http://" or "https://". progress: a bar on a terminal.

    Size and SHA-256 of each file are those that were published, whoever sends it. A file that is there already is looked at and kept. What comes
    is written to NAME.part, which a later call goes on with where it was cut off, and takes the name once it is whole and right. CIFAR's archive is
    unpacked beside it, into a folder that is there whole or not at all, by tarfile's filter "data" (with a Python that has none it stays packed,
    and is read so). Nothing of fastnn calls this by itself.

    Raises ValueError, naming the file, for one that is there and is another, or where what came is not what was published; OSError where nothing
    comes, with what each address said, or nothing can be written; BlockingIOError while another process fetches the same file.
    """
    key = text("download", "name", name, "such as 'mnist'").replace("_", "-")
    if key not in SETS:
        raise ValueError(f"download: name must be one of {', '.join(word.replace('-', '_') for word in SETS)}, got {name!r}")
    where = usual_root() if root is None else checked_path("download", "root", root)
    wanted, folder = SETS[key], os.path.join(where, key)
    folders = wanted.folders if url is None else (_checked_url(url),)
    flag("download", "progress", progress)
    os.makedirs(folder, exist_ok=True)
    for file in wanted.files:
        path = os.path.join(folder, file.name)
        if os.path.exists(path):
            _refuse_another(path, file)
        else:
            _fetch(path, file, [f"{place}/{file.name}" for place in folders], progress)
        if wanted.unpacked is not None:
            _unpack(path, folder, wanted.unpacked)
    return folder


def usual_root() -> str:
    """Where sets lie unless somebody says otherwise."""
    return os.environ.get("FASTNN_DATA") or "data"


def how_to(key: str) -> str:
    """For the errors of what is missing."""
    return f"fastnn download {key} fetches it, as data.download({key.replace('-', '_')!r}) does"


def _checked_url(url: Any) -> str:
    given = text("download", "url", url, "such as 'https://example.org/mnist'")
    if not given.lower().startswith(("http://", "https://")) or any(letter <= " " for letter in given):
        raise ValueError(f"download: url must begin with http:// or https:// and have no blanks, got {url!r}")
    return given.rstrip("/")


def _refuse_another(path: str, file: File) -> None:
    size = os.path.getsize(path)
    wrong = f"has {size:,} bytes of {file.size:,}" if size != file.size else ""
    if not wrong and _checksum(path) != file.sha256:
        wrong = "has other contents than the published file (SHA-256)"
    if wrong:
        raise ValueError(f"{path}: {wrong}; move it away, and it is fetched anew")


def _checksum(path: str) -> str:
    import hashlib

    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


# --- one file


def _fetch(path: str, file: File, addresses: Sequence[str], progress: bool) -> None:
    """From the first address that has it. The part file has no other owner meanwhile, and stays where the connection ends."""
    said, other = list[str](), False
    with _part(path) as part:
        for address in addresses:
            for _ in range(_TRIES):
                begin = part.tell()
                try:
                    _receive(part, file, address, progress)
                except _Other as error:  # also behind a beginning that was another one's: from the start
                    _cut(part, 0)
                    said.append(f"{address}: {error}")
                    if begin == 0:
                        other = True
                        break
                except OSError as error:  # urllib's, http.client's and the socket's
                    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
                        raise OSError(error.errno, error.strerror, f"{path}.part") from error
                    said.append(f"{address}: {_reason(error)}")
                    if part.tell() == begin:  # nothing came
                        break
                else:
                    os.fsync(part.fileno())
                    os.replace(f"{path}.part", path)
                    return
        empty, kept = part.tell() == 0, part.tell()
        if empty:
            os.unlink(f"{path}.part")
    reasons = "; ".join(dict.fromkeys(said))
    if other:
        raise ValueError(
            f"{path}: what came is not the published file, so it was not kept: {reasons}; expected {file.size:,} bytes, SHA-256 {file.sha256}"
        )
    again = "" if empty else f" ({kept:,} of {file.size:,} bytes are in {file.name}.part; another try goes on from there)"
    raise OSError(errno.EIO, f"could not be fetched{again}: {reasons}", path)


class _Other(Exception):
    """What came is not what was published."""


@contextmanager
def _part(path: str) -> Iterator[BinaryIO]:
    """At its end. Locked, and still there: another process may have finished it meanwhile."""
    with open(f"{path}.part", "ab+") as part:
        try:
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(error.errno, "another process is fetching it; wait for that", path) from None
        except OSError:  # a file system that knows no locks
            pass
        part.seek(0, os.SEEK_END)
        yield part


def _cut(part: BinaryIO, size: int) -> None:
    part.truncate(size)
    part.seek(size)


def _receive(part: BinaryIO, file: File, address: str, progress: bool) -> None:
    """What is missing at the end of the part file; then the whole is looked at."""
    from http.client import HTTPException
    from urllib.request import Request, urlopen

    from tqdm.auto import tqdm

    from .. import __version__

    if part.tell() > file.size:
        _cut(part, 0)
    if part.tell() < file.size:
        begin = part.tell()
        headers = {"User-Agent": f"fastnn/{__version__}", "Accept-Encoding": "identity"}
        request = Request(address, headers={**headers, **({"Range": f"bytes={begin}-"} if begin else {})})
        try:
            with urlopen(request, timeout=_SECONDS) as answer:
                if begin and (answer.status != 206 or not str(answer.headers["Content-Range"]).startswith(f"bytes {begin}-")):
                    _cut(part, 0)  # it sends all of it
                bar = tqdm(
                    desc=file.name, total=file.size, initial=part.tell(), unit="B", unit_scale=True, leave=False, mininterval=0.1,
                    disable=None if progress and sys.stderr else True,
                )  # fmt: skip
                with bar:
                    while piece := answer.read(_PIECE):
                        if part.tell() + len(piece) > file.size:
                            raise _Other(f"more than {file.size:,} bytes")
                        part.write(piece)
                        bar.update(len(piece))
        except (HTTPException, ValueError) as error:  # cut off within a piece; an address that is none
            raise OSError(errno.ECONNRESET, _reason(error)) from error
        finally:
            part.flush()
    if part.tell() < file.size:
        raise OSError(errno.ECONNRESET, f"the connection ended after {part.tell():,} of {file.size:,} bytes")
    if _checksum(part.name) != file.sha256:
        raise _Other(f"{file.size:,} bytes of another SHA-256")


def _reason(error: BaseException) -> str:
    """urllib wraps the socket's; an answer that is an error has a number."""
    inner = getattr(error, "reason", None)
    code = getattr(error, "code", None)
    words = str(getattr(inner, "strerror", None) or inner or getattr(error, "strerror", None) or error or type(error).__name__)
    return " ".join(f"{code} {words}".split() if code is not None else words.split())[:200]


# --- archives


def _unpack(path: str, folder: str, name: str) -> None:
    """Beside it, whole or not at all; a folder that is there stays."""
    target = os.path.join(folder, name)
    if os.path.isdir(target) or not hasattr(tarfile, "data_filter"):
        return
    temporary = os.path.join(folder, f".{name}.{os.urandom(6).hex()}.tmp")
    try:
        os.mkdir(temporary)
        try:
            with tarfile.open(path, "r:gz") as archive:
                archive.extractall(temporary, filter="data")
            os.rename(os.path.join(temporary, name), target)
        except (tarfile.TarError, EOFError, FileNotFoundError) as error:
            raise ValueError(f"{path}: cannot be unpacked ({error}); expected an archive with the folder {name}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
