"""The tests of CUDA kernels without a GPU are worth what tests/cuda_on_cpu notices: planted faults must be found, and sound kernels run."""

from __future__ import annotations

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parent / "cuda_on_cpu"
SCHEDULER = ["fibers.cpp", "grid.cpp", "multiprocessor.cpp"]
ORDERS = ["forward", "reverse", "random"]
COMPILER = shutil.which(os.environ.get("CXX", "g++"))

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no g++ to compile kernels with")

RIGHT = ["reduction", "host threads", "shuffles", "collective", "indices and atomics", "denormals", "barrier", "warp barrier", "copies"]
WRONG = ["no barrier", "copies not waited for"]
FAILURES = {
    "divergent barrier": ["waits at __syncthreads (faults.cu:", "thread (5,0,0) has left the kernel (divergent __syncthreads)"],
    "two barriers": ["but thread", "(divergent __syncthreads)"],
    "exited lane": ["waits at __syncwarp (faults.cu:", "with mask ffffffff", "has left the kernel"],
    "missing lane": ["names lane 31, but the block has no such thread"],
    "not in mask": ["thread (5,0,0) waits at __syncwarp", "does not name lane 5, its own"],
    "different masks": ["with mask ffffffff"],
    "source outside mask": ["reads lane 20 at __shfl_sync", "which its mask 0000ffff does not name"],
    "deadlock": ["waits at __syncwarp", "for ever: thread (5,0,0) waits at __syncthreads"],
    "exception": ["thread (5,0,0) threw: out of cheese"],
    "too much shared memory": ["asks for 36 bytes of shared memory and has 32"],
    "too many threads": ["invalid configuration"],
    "copies never waited for": ["without having waited for 1 of its cp.async copies"],
    "copies not aligned": ["which are not aligned"],
}


def build(folder: Path, sanitizer: str) -> Path:
    """faults.cu with the emulator, compiled with a sanitizer ("" for none)."""
    flags = [
        "-std=c++17",
        "-O1",
        "-pthread",
        "-ffp-contract=off",
        "-I",
        str(SOURCES),
        *([f"-fsanitize={sanitizer}", "-g1"] if sanitizer else []),
    ]
    unwatched = ["-fno-sanitize=thread", "-DCUDA_ON_CPU_TSAN"] if sanitizer == "thread" else []

    def compile_one(source: str) -> str:
        target = folder / f"{source}.o"
        command = [str(COMPILER), *flags, *(unwatched if source in SCHEDULER else []), "-x", "c++", "-c", str(SOURCES / source)]
        subprocess.run([*command, "-o", str(target)], check=True)
        return str(target)

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_one, [*SCHEDULER, "host_api.cpp", "faults.cu"]))
    program = folder / "faults"
    subprocess.run([str(COMPILER), *flags, *objects, "-o", str(program)], check=True)
    return program


def run(program: Path, *cases: str, order: str = "forward", **environment: str) -> tuple[dict[str, str], str]:
    """What came of each case, and what a sanitizer said."""
    setarch = shutil.which("setarch")  # ThreadSanitizer cannot place its tables where addresses are too random
    command = [*([setarch, "-R"] if setarch else []), str(program), *cases]
    environment = {**os.environ, "FASTNN_EMULATED_ORDER": order, "UBSAN_OPTIONS": "print_stacktrace=1", **environment}
    environment.pop("LD_PRELOAD", None)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    return dict(line.split(": ", 1) for line in done.stdout.splitlines()), done.stderr


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("plain"), "")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("address"), "address,undefined")


@pytest.fixture(scope="module")
def thread(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("thread"), "thread")


@pytest.mark.parametrize("order", ORDERS)
def test_sound_kernels_are_right_in_every_order(plain: Path, order: str) -> None:
    assert run(plain, *RIGHT, order=order)[0] == dict.fromkeys(RIGHT, "right")


@pytest.mark.parametrize("order", ORDERS)
def test_missing_barriers_and_waits_show_as_wrong_numbers(plain: Path, order: str) -> None:
    assert run(plain, *WRONG, order=order)[0] == dict.fromkeys(WRONG, "wrong numbers")


@pytest.mark.parametrize("order", ORDERS)
def test_a_failure_names_block_thread_and_place_and_the_next_launch_works(plain: Path, order: str) -> None:
    messages, _ = run(plain, *FAILURES, order=order)
    assert list(messages) == list(FAILURES)
    for case, parts in FAILURES.items():
        assert all(part in messages[case] for part in parts), messages[case]
        assert "next launch" not in messages[case], messages[case]
        assert case == "too many threads" or "in block (0,0,0), thread (" in messages[case], messages[case]


def test_device_memory_is_limited_and_accounted_for(plain: Path) -> None:
    assert run(plain, "memory limit", FASTNN_EMULATED_MEMORY="1000")[0] == {"memory limit": "right"}


@pytest.mark.parametrize("memory", ["global", "shared"])
def test_address_sanitizer_sees_an_overrun_by_one_element(address: Path, memory: str) -> None:
    results, report = run(address, "barrier", f"overrun of {memory} memory")  # after a launch with more shared memory
    assert results == {"barrier": "right"}
    assert "heap-buffer-overflow" in report
    assert "0 bytes" in report  # after the end of the region


def test_address_sanitizer_is_content_with_sound_kernels_and_with_failed_launches(address: Path) -> None:
    results, report = run(address, *RIGHT, *FAILURES, "reduction")
    assert [case for case in RIGHT if results[case] != "right"] == []
    assert report == ""


@pytest.mark.parametrize("case", ["no barrier", "no warp barrier", "race between blocks"])
def test_race_checker_sees(thread: Path, case: str) -> None:
    _, report = run(thread, case)
    assert "data race" in report


def test_race_checker_is_content_with_sound_kernels_and_with_failed_launches(thread: Path) -> None:
    results, report = run(thread, *RIGHT, *FAILURES, "reduction")
    assert [case for case in RIGHT if results[case] != "right"] == []
    assert report == ""
