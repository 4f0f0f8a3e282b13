"""Every test here may ask for `table` (each compilation of csrc/cpu, and of csrc/cuda where there is a device for it), `cpu_table`, or `isa`
(each instruction set, float32); memory checks are on throughout."""

from __future__ import annotations

import gc
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import kernel_calls
import pytest
from kernel_cases import Case, elements, least_cases, least_elements

import fastnn
from fastnn import _C

if TYPE_CHECKING:
    from fastnn.train import Trained, Trainer

SEED = int(os.environ.get("FASTNN_TEST_SEED", random.SystemRandom().randrange(2**32)))
os.environ["FASTNN_TEST_SEED"] = str(SEED)


@pytest.hookimpl(optionalhook=True)  # known where pytest-xdist is
def pytest_xdist_auto_num_workers() -> int | None:
    """`pytest -n auto`: as many processes as fastnn would start threads, which knows of quotas and affinity masks."""
    return None if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else fastnn.get_num_threads()


def pytest_configure(config: pytest.Config) -> None:
    if getattr(config.option, "numprocesses", None):  # the processes of -n: the references' products by one thread in each
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def pytest_report_header() -> str:
    gpus = "" if kernel_calls.GPUS else "no GPU and no FASTNN_CUDA_EMULATED: CUDA kernels are not tested; "
    return f"fastnn: {gpus}tables {', '.join(str(t) for t in kernel_calls.TABLES)}; repeat random shapes with FASTNN_TEST_SEED={SEED}"


def pytest_itemcollected(item: pytest.Item) -> None:
    """`-k cuda` also means tests that name no device and run on the last one there is: what they import says so."""
    names = vars(item.module) if isinstance(item, pytest.Function) else {}
    if kernel_calls.GPUS and ("DEVICE" in names or "Training" in names):
        item.extra_keyword_matches.add("cuda")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """FASTNN_TEST_MOST_ELEMENTS=n, for the sanitizers: they see in cases of a few blocks what there is to see, and take minutes for large ones.
    Every row keeps its least case, and on the CPU that of each algorithm. FASTNN_TEST_SHARD=k/n: the k-th (from 0) of n parts, to which tests
    belong by their names, so that a long run goes in pieces that can be repeated."""
    if "FASTNN_TEST_MOST_ELEMENTS" in os.environ:
        _leave_out_large_cases(config, items)
    if shard := os.environ.get("FASTNN_TEST_SHARD"):
        k, n = map(int, shard.split("/"))
        others = [item for item in items if crc32(item.nodeid.encode()) % n != k]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if crc32(item.nodeid.encode()) % n == k]


def pytest_collection_finish() -> None:
    """Twenty thousand tests and their parameters stay to the end: a gc.collect() of a test need not walk over them."""
    gc.collect()
    gc.freeze()


def _leave_out_large_cases(config: pytest.Config, items: list[pytest.Item]) -> None:
    most = int(os.environ["FASTNN_TEST_MOST_ELEMENTS"])

    def too_large(value: object, tables: list[kernel_calls.Table]) -> bool:
        if isinstance(value, Case):
            least = [case for table in tables for case in least_cases(table).values()]
            return elements(value.parameters) > max(most, least_elements(value.row)) and value not in least
        return isinstance(value, tuple) and elements(value) > most

    def is_large(item: pytest.Item) -> bool:
        values = item.callspec.params.values() if hasattr(item, "callspec") else ()
        tables = [value for value in values if isinstance(value, kernel_calls.Table) and value.device == "cpu"]
        return any(too_large(value, tables) for value in values)

    large = [item for item in items if is_large(item)]
    config.hook.pytest_deselected(items=large)
    dropped = set(large)
    items[:] = [item for item in items if item not in dropped]


@pytest.hookimpl(trylast=True)  # innermost, so that a case's reference serves all tables before the next case comes
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for fixture, tables in (("table", kernel_calls.TABLES), ("cpu_table", kernel_calls.CPU_TABLES)):
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, tables, ids=str, indirect=True)
    if "isa" in metafunc.fixturenames:
        metafunc.parametrize("isa", kernel_calls.FLOAT_ISAS, indirect=True)


def _table(request: pytest.FixtureRequest) -> Iterator[kernel_calls.Table]:
    with kernel_calls.using(request.param):
        yield request.param


table = pytest.fixture(_table, name="table")
cpu_table = pytest.fixture(_table, name="cpu_table")


@pytest.fixture
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _C.isa()
    _C.set_isa(request.param)
    yield request.param
    _C.set_isa(before)


@pytest.fixture
def without_memory_checks() -> Iterator[None]:
    """With them on, captured steps run eagerly."""
    _C.set_memory_checks(False)
    yield
    _C.set_memory_checks(True)
    gc.collect()  # steps that name their own capture: their arenas go now


@pytest.fixture(scope="session", autouse=True)
def subprocesses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Processes that tests start import the fastnn under test, not the source folder of the checkout, and can be interrupted.

    Shells start background jobs with SIGINT ignored, which would be inherited.
    """
    package, before, handler = Path(fastnn.__file__).resolve().parent.parent, Path.cwd(), signal.getsignal(signal.SIGINT)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(package), *filter(None, [os.environ.get("PYTHONPATH")])])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    yield
    os.chdir(before)
    signal.signal(signal.SIGINT, handler)


@pytest.fixture(scope="session", autouse=True)
def memory_checks() -> Iterator[None]:
    """Outputs and scratch hold NaN before each call; sentinels behind them are looked at after it."""
    _C.set_memory_checks(True)
    yield
    _C.set_memory_checks(False)


@pytest.fixture
def threads() -> Iterator[None]:
    """For tests that change the number of threads: it comes back."""
    before = _C.get_num_threads()
    yield
    _C.set_num_threads(before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    report = yield
    if report.failed:
        report.sections.append(("repeat", f"FASTNN_TEST_SEED={SEED} python -m pytest '{item.nodeid}'"))
    return report


# --- a Trainer that has fitted three classes, and what load_model makes of its file


@pytest.fixture(scope="module")
def fitted() -> Trainer:
    from test_trainer import blobs, trainer

    t = trainer()
    t.fit(blobs(60), 1, batch_size=16, progress=False)
    return t


@pytest.fixture(scope="module")
def loaded(fitted: Trainer, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    from test_trainer import trainer

    path = tmp_path_factory.mktemp("models") / "m"
    fitted.save_model(path)
    return fastnn.train.load_model(path, model=trainer().model)


@pytest.fixture(params=["fitted", "loaded"])
def model(request: pytest.FixtureRequest) -> Any:
    """Each in its turn: what both do."""
    return request.getfixturevalue(request.param)
