"""download: the files as they were published or none, from a server on this machine that lies, stalls and cuts connections."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_data import write_idx_folder

from fastnn import data
from fastnn.cli import main
from fastnn.commands.options import PUBLIC
from fastnn.data import public
from fastnn.data.public import SETS, File, PublicSet

FASHION = Path(os.environ.get("FASTNN_DATA", Path(__file__).parents[2] / "shared" / "data")) / "fashion-mnist"


class Server:
    """files: by path. cuts: how many bytes each of the next answers sends before the connection ends. asked: path and Range of each request."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cuts: list[int] = []
        self.ranges, self.asked = True, list[tuple[str, str | None]]()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # noqa: N802 - http.server's name
                outer.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers["Range"]
        self.asked.append((handler.path, wanted))
        contents = self.files.get(handler.path)
        if contents is None:
            return handler.send_error(404)
        begin = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranges else 0
        handler.send_response(206 if begin else 200)
        handler.send_header("Content-Length", str(len(contents) - begin))
        if begin:
            handler.send_header("Content-Range", f"bytes {begin}-{len(contents) - 1}/{len(contents)}")
        handler.end_headers()
        end = begin + self.cuts.pop(0) if self.cuts else len(contents)
        handler.wfile.write(contents[begin:end])

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTNN_DATA", raising=False)


def published(name: str, contents: bytes) -> File:
    return File(name, len(contents), hashlib.sha256(contents).hexdigest())


@pytest.fixture
def idx(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A small MNIST on the server."""
    folder = tmp_path / "published"
    folder.mkdir()
    write_idx_folder(folder)
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    server.files = {f"/mnist/{name}": contents for name, contents in files.items()}
    small = PublicSet(tuple(published(name, contents) for name, contents in files.items()), (f"{server.url}/mnist",))
    monkeypatch.setitem(SETS, "mnist", small)
    return files


def archive(members: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, contents in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(contents)
            tar.addfile(entry, io.BytesIO(contents))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    return packed.getvalue()


def cifar(server: Server, monkeypatch: pytest.MonkeyPatch, contents: bytes) -> None:
    server.files["/c/cifar-10-python.tar.gz"] = contents
    small = PublicSet((published("cifar-10-python.tar.gz", contents),), (f"{server.url}/c",), "cifar-10-batches-py")
    monkeypatch.setitem(SETS, "cifar10", small)


BATCHES = {f"cifar-10-batches-py/{name}.bin": bytes([i]) + bytes(3072) for i, name in enumerate(
    ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"))}  # fmt: skip


def left(folder: str | Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


# --- what was published


def test_the_published_files() -> None:
    """Of Fashion-MNIST they are here."""
    assert set(SETS) == set(PUBLIC) and all(len(file.sha256) == 64 for one in SETS.values() for file in one.files)
    sizes = {name: sum(file.size for file in one.files) for name, one in SETS.items()}
    assert sizes == {"mnist": 11_594_722, "fashion-mnist": 30_878_645, "cifar10": 170_498_071, "cifar100": 169_001_437}
    assert all(place.startswith(("https://", "http://")) and place[-1] != "/" for one in SETS.values() for place in one.folders)
    folder = FASHION
    if not folder.exists():
        pytest.skip(f"{folder} is absent (set FASTNN_DATA to the folder that holds it)")
    for file in SETS["fashion-mnist"].files:
        contents = (folder / file.name).read_bytes()
        assert (len(contents), hashlib.sha256(contents).hexdigest()) == (file.size, file.sha256)


def test_nothing_is_fetched_unless_somebody_asks() -> None:
    """Nor is what fetches imported."""
    code = "import sys, fastnn, fastnn.data, fastnn.train, fastnn.cli; print('urllib.request' in sys.modules, 'http.client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == ["False", "False"]


# --- files


def test_all_files_come_and_are_read(server: Server, idx: dict[str, bytes]) -> None:
    folder = data.download("mnist", "sets")
    assert folder == os.path.join("sets", "mnist") and left(folder) == sorted(idx)
    assert all((Path(folder) / name).read_bytes() == contents for name, contents in idx.items())
    train, _ = data.mnist(folder)
    assert train.classes == tuple("0123456789") and len(server.asked) == 4


def test_what_is_there_is_looked_at_and_kept(server: Server, idx: dict[str, bytes]) -> None:
    folder = Path(data.download("mnist", "sets"))
    first = folder / sorted(idx)[0]
    stamps = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    server.asked.clear()
    assert data.download("mnist", "sets") == str(folder) and server.asked == []
    assert stamps == {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    (folder / sorted(idx)[1]).unlink()
    data.download("mnist", "sets")
    assert [path for path, _ in server.asked] == [f"/mnist/{sorted(idx)[1]}"]
    for contents, words in ((b"my own", "has 6 bytes of"), (bytes(len(idx[first.name])), "has other contents than the published file")):
        first.write_bytes(contents)
        with pytest.raises(ValueError, match=f"^{first}: {words}.*; move it away, and it is fetched anew"):
            data.download("mnist", "sets")
        assert first.read_bytes() == contents


def test_the_folder_is_that_of_the_name(idx: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert data.download("mnist") == os.path.join("data", "mnist")
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path / "all"))
    assert data.download("mnist") == str(tmp_path / "all" / "mnist")
    monkeypatch.setitem(SETS, "fashion-mnist", SETS["mnist"])
    assert data.download("fashion_mnist") == data.download("fashion-mnist") == str(tmp_path / "all" / "fashion-mnist")
    assert data.recognise(data.download("fashion_mnist"))[0] == "fashion-mnist"


# --- servers


def test_what_is_not_what_was_published_is_not_kept(server: Server, idx: dict[str, bytes]) -> None:
    name = SETS["mnist"].files[0].name
    right = idx[name]
    for wrong in (bytes(len(right)), right + b"x", right[:-1] + bytes([right[-1] ^ 1])):
        server.files[f"/mnist/{name}"] = wrong
        with pytest.raises(
            ValueError, match=f"^{os.path.join('sets', 'mnist', name)}: what came is not the published file, .*: {server.url}/mnist"
        ):
            data.download("mnist", "sets")
        assert left("sets") == []
    server.files[f"/other/{name}"] = right
    server.files.update({f"/other/{other}": idx[other] for other in idx})
    assert left(data.download("mnist", "sets", url=f"{server.url}/other/")) == sorted(idx)


def test_a_cut_connection_is_gone_on_with(server: Server, idx: dict[str, bytes]) -> None:
    """Within a call, and by the next one."""
    file = SETS["mnist"].files[0]
    server.cuts = [100, 20]
    data.download("mnist", "a")
    assert [wanted for path, wanted in server.asked if path.endswith(file.name)] == [None, "bytes=100-", "bytes=120-"]
    assert left("a/mnist") == sorted(idx)
    server.cuts = [10, 10, 10]
    with pytest.raises(
        OSError, match=rf"30 of {file.size:,} bytes are in {file.name}.part; another try goes on from there.*the connection ended"
    ) as told:
        data.download("mnist", "b")
    assert told.value.filename == os.path.join("b", "mnist", file.name)
    assert left("b/mnist") == [f"{file.name}.part"] and Path("b/mnist", f"{file.name}.part").read_bytes() == idx[file.name][:30]
    server.asked.clear()
    data.download("mnist", "b")
    assert server.asked[0] == (f"/mnist/{file.name}", "bytes=30-") and left("b/mnist") == sorted(idx)


def test_a_server_that_sends_all_of_it_again_is_taken_from_its_start(server: Server, idx: dict[str, bytes]) -> None:
    file = SETS["mnist"].files[0]
    server.ranges, server.cuts = False, [100]
    data.download("mnist", "a")
    assert Path("a/mnist", file.name).read_bytes() == idx[file.name]


@pytest.mark.parametrize("part", [b"of another file", bytes(100_000), "whole"])
def test_a_part_of_something_else_is_begun_anew(part: Any, server: Server, idx: dict[str, bytes]) -> None:
    file = SETS["mnist"].files[0]
    Path("a/mnist").mkdir(parents=True)
    Path("a/mnist", f"{file.name}.part").write_bytes(idx[file.name] if part == "whole" else part)
    data.download("mnist", "a")
    assert left("a/mnist") == sorted(idx) and Path("a/mnist", file.name).read_bytes() == idx[file.name]
    assert (part == "whole") == all(not path.endswith(file.name) for path, _ in server.asked)


def test_mirrors_are_tried_in_order_and_each_says_why(server: Server, idx: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    places = (f"{server.url}/gone", "http://127.0.0.1:9", f"{server.url}/mnist")
    monkeypatch.setitem(SETS, "mnist", PublicSet(SETS["mnist"].files, places))
    data.download("mnist", "a")
    assert server.asked[0][0].startswith("/gone/") and server.asked[1][0].startswith("/mnist/") and left("a/mnist") == sorted(idx)
    monkeypatch.setitem(SETS, "mnist", PublicSet(SETS["mnist"].files, places[:2]))
    with pytest.raises(OSError, match=rf"could not be fetched: {places[0]}/\S+: 404 Not Found; {places[1]}/\S+: Connection refused"):
        data.download("mnist", "b")
    assert left("b") == []


def test_a_file_that_another_process_fetches_is_left_to_it(idx: dict[str, bytes]) -> None:
    file = SETS["mnist"].files[0]
    Path("a/mnist").mkdir(parents=True)
    with open(f"a/mnist/{file.name}.part", "wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError, match="another process is fetching it"):
            data.download("mnist", "a")
    data.download("mnist", "a")


def test_a_full_disk_is_said_and_the_part_stays(server: Server, idx: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(public, "_receive", full)
    with pytest.raises(OSError, match=r"No space left on device: '\S+\.part'"):
        data.download("mnist", "a")
    assert server.asked == []


# --- archives


def test_an_archive_is_unpacked_and_read(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar(server, monkeypatch, archive(BATCHES))
    folder = data.download("cifar10", "sets")
    assert left(folder) == sorted(["cifar-10-python.tar.gz", *BATCHES])
    train, test = data.cifar10(folder)
    assert train.labels.tolist() == [0, 1, 2, 3, 4] and test.labels.tolist() == [5] and data.recognise(folder)[0] == "cifar10"
    inside = Path(folder, "cifar-10-batches-py", "test_batch.bin")
    inside.write_bytes(b"mine")
    data.download("cifar10", "sets")
    assert inside.read_bytes() == b"mine" and len(server.asked) == 1
    np.testing.assert_array_equal(data.cifar10(os.path.join(folder, "cifar-10-python.tar.gz"))[1].labels, [5])


@pytest.mark.parametrize("evil", [
    archive({"../outside": b"x", **BATCHES}), archive(BATCHES, {"cifar-10-batches-py/x": "/etc/passwd"}),
    archive({"cifar-10-batches-py/../../../outside": b"x"}), archive(BATCHES)[:200], archive({"other/name": b"x"}),
])  # fmt: skip
def test_an_archive_that_leads_elsewhere_is_refused(evil: bytes, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Though its checksum is right."""
    cifar(server, monkeypatch, evil)
    with pytest.raises(
        ValueError, match=r"^sets/cifar10/cifar-10-python\.tar\.gz: cannot be unpacked \(.*; expected an archive with the folder"
    ):
        data.download("cifar10", "sets")
    assert left(tmp_path) == ["sets/cifar10/cifar-10-python.tar.gz"]
    assert os.listdir("sets/cifar10") == ["cifar-10-python.tar.gz"]


def test_without_a_safe_filter_it_stays_packed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar(server, monkeypatch, archive(BATCHES))
    monkeypatch.delattr(tarfile, "data_filter")
    folder = data.download("cifar10", "sets")
    assert left(folder) == ["cifar-10-python.tar.gz"]


# --- what is said


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"name": "imagenet"}, ValueError, "download: name must be one of mnist, fashion_mnist, cifar10, cifar100, got 'imagenet'"),
        ({"name": 3}, TypeError, "download: name must be a str such as 'mnist', got 3"),
        ({"name": "mnist", "url": "file:///etc"}, ValueError, "download: url must begin with http:// or https://"),
        ({"name": "mnist", "url": "http://a b"}, ValueError, "download: url must .* have no blanks"),
        ({"name": "mnist", "progress": 1}, TypeError, "download: progress must be True or False, got 1"),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=f"^{words}"):
        data.download(**arguments)
    assert not os.listdir(".")


def test_errors_of_missing_files_name_the_command() -> None:
    for name, read in (
        ("mnist", data.mnist),
        ("fashion-mnist", data.fashion_mnist),
        ("cifar10", data.cifar10),
        ("cifar100", data.cifar100),
    ):
        with pytest.raises(
            FileNotFoundError,
            match=rf"^absent: .*; fastnn download {name} fetches it, as data.download\('{name.replace('-', '_')}'\) does$",
        ):
            read("absent")
    with pytest.raises(FileNotFoundError, match="holds neither train-images-idx3-ubyte nor train-images-idx3-ubyte.gz$"):
        data.idx("absent")


def test_the_command(server: Server, idx: dict[str, bytes], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["download", "mnist", "--root", "my sets", "--url", f"{server.url}/mnist"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "my sets/mnist: mnist, whole, as it was published"
    assert printed[1] == "train:     fastnn train mnist --data 'my sets/mnist'" and printed[2].endswith(
        "fastnn.data.mnist('my sets/mnist')"
    )
    monkeypatch.setenv("FASTNN_DATA", "all")
    assert main(["download", "mnist"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "train:     fastnn train mnist"
    assert main(["train", "mnist", "--model", "linear", "--epochs", "1", "--out", "out", "--threads", "1"]) == 0
    capsys.readouterr()
    server.files.clear()
    assert main(["download", "mnist", "--root", "c"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("fastnn: error: ") and "404 Not Found" in said and said.count("\n") == 1
    assert main(["train", "cifar10"]) == 2
    assert "fastnn download cifar10 fetches it" in capsys.readouterr().err
