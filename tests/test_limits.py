"""Limits from outside: affinity masks, control groups, threadpoolctl, threads that the system does not give."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_threads import STEP, python

import fastnn
from fastnn import _C
from fastnn.config import _processor
from fastnn.data.memory import most_memory


def test_an_affinity_mask_smaller_than_the_machine() -> None:
    cpus = sorted(os.sched_getaffinity(0))
    code = (
        "import os; os.sched_setaffinity(0, {mask}); import fastnn; from fastnn import _C; print(_C.get_num_threads(), _C.threads_reason())"
    )
    done = python(code.format(mask={cpus[0]}))
    assert done.stdout.startswith("1 min of 1 CPUs allowed, 1 physical cores, "), done.stderr
    done = python(code.format(mask=set(cpus)))
    assert f" min of {len(cpus)} CPUs allowed, " in done.stdout
    done = python(code.format(mask={cpus[0]}) + "; fastnn.set_num_threads(3); print(_C.get_num_threads(), _C.threads_reason())")
    assert done.stdout.splitlines()[1] == "3 set by set_num_threads"  # above the mask too


V1 = "cpu.cfs_quota_us", "cpu.cfs_period_us"


@pytest.mark.parametrize(
    ("cgroup", "files", "granted"),
    [
        ("0::/\n", {"cpu.max": "max 100000"}, 0),
        ("0::/\n", {"cpu.max": "100000 100000"}, 1),
        ("0::/\n", {"cpu.max": "150000 100000"}, 2),
        ("0::/\n", {"cpu.max": "20000 100000"}, 1),
        ("0::/\n", {"cpu.max": "100000"}, 1),
        ("0::/\n", {"cpu.max": "nonsense"}, 0),
        ("0::/user.slice/train.service\n", {"user.slice/train.service/cpu.max": "100000 100000"}, 1),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 50000"}, 1),
        ("0::/a/b\n", {"a/b/cpu.max": "100000 100000", "a/cpu.max": "900000 100000"}, 1),
        ("0::/docker/of/the/host\n", {"cpu.max": "100000 100000"}, 1),
        ("4:cpu,cpuacct:/\n0::/\n", {f"cpu/{V1[0]}": "100000", f"cpu/{V1[1]}": "100000"}, 1),
        ("4:cpu,cpuacct:/\n", {f"cpu/{V1[0]}": "-1", f"cpu/{V1[1]}": "100000"}, 0),
        ("7:memory:/x\n4:cpuacct,cpu:/job\n", {f"cpu,cpuacct/job/{V1[0]}": "90000", f"cpu,cpuacct/job/{V1[1]}": "100000"}, 1),
        ("4:cpuset:/job\n", {f"cpu/job/{V1[0]}": "90000", f"cpu/job/{V1[1]}": "100000"}, 0),
        ("", {}, 0),
        *(
            ("0::/\n", {"cpu.max": text}, 0)
            for text in (
                "",
                "letters 100000",
                "-5 100000",
                "100000 -5",
                "100000 0",
                "nan nan",
                "inf 100000",
                "9" * 30,
                "100000 1e-300",
                "\x01\ufffd",
            )
        ),
        *((f"{text}\n0::/\n", {"cpu.max": "100000 100000"}, 1) for text in ("", "letters", ":", "9" * 400, "0:/", "\x01\ufffd:")),
        ("4:cpu:/\n", {f"cpu/{V1[0]}": "letters", f"cpu/{V1[1]}": "100000"}, 0),
        ("4:cpu:/\n", {f"cpu/{V1[0]}": "100000", f"cpu/{V1[1]}": "-1"}, 0),
    ],
)
def test_quotas_of_control_groups(cgroup: str, files: dict[str, str], granted: int, tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        file = tmp_path / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    unlimited, reason = _C.processors(str(tmp_path / "nothing"))
    assert reason.endswith(" physical cores, no control-group quota") and f"min of {len(os.sched_getaffinity(0))} CPUs" in reason
    words = f"a control-group quota of {granted}" if granted else "no control-group quota"
    assert _C.processors(str(tmp_path)) == (min(unlimited, granted or unlimited), reason.replace("no control-group quota", words))


@pytest.mark.parametrize(
    ("text", "granted"),
    [(b"max\n", 0), (b"4096\n", 4096), *((text, 0) for text in (b"", b"letters", b"-1", b"0", b"1.5", b"9" * 400, b"9" * 5000, b"\xff\0"))],
    ids=lambda value: repr(value)[:12],
)
def test_memory_of_control_groups(text: bytes, granted: int, tmp_path: Path) -> None:
    """What is no number of bytes above 0 is no limit."""
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    unlimited = most_memory(str(tmp_path))
    (tmp_path / "sys/fs/cgroup/memory.max").write_bytes(text)
    assert most_memory(str(tmp_path)) == (granted or unlimited) and unlimited > 2**28


@pytest.mark.parametrize("text", [b"", b"model name", b"model name :\n", b"letters\n", b"\xff\0\n" * 99], ids=lambda text: repr(text[:12]))
def test_a_processor_without_a_name(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_bytes(text)
    assert _processor(str(tmp_path / "cpuinfo")) == _processor(str(tmp_path / "absent"))
    (tmp_path / "cpuinfo").write_bytes(text + b"\nmodel name\t: A \xff: 3 GHz\n")
    assert _processor(str(tmp_path / "cpuinfo")) == "A \ufffd: 3 GHz"


THREADPOOLCTL = """
from threadpoolctl import threadpool_info, threadpool_limits
FIRST
import fastnn
SECOND
def ours(): return [(i["num_threads"], i["version"]) for i in threadpool_info() if i["user_api"] == "fastnn"]
fastnn.set_num_threads(3)
print(ours(), fastnn.__version__)
with threadpool_limits(1):
    print(fastnn.get_num_threads(), ours()[0][0], fastnn._C.threads_reason())
print(fastnn.get_num_threads())
with threadpool_limits(2, user_api="fastnn"): print(fastnn.get_num_threads())
with threadpool_limits(2, user_api="blas"): print(fastnn.get_num_threads())
"""


@pytest.mark.parametrize("order", ["threadpoolctl first", "fastnn first"])
def test_threadpoolctl_limits_the_pool(order: str) -> None:
    lines = ("", "") if order == "threadpoolctl first" else ("import fastnn", "import fastnn.threadpools")
    code = THREADPOOLCTL.replace("FIRST", lines[0]).replace("SECOND", lines[1])
    if order == "fastnn first":
        code = "import fastnn\n" + code
    done = python(code)
    version = fastnn.__version__
    assert done.stdout.splitlines() == [f"[(3, '{version}')] {version}", "1 1 set by threadpoolctl", "3", "2", "3"], done.stderr


def test_threads_that_the_system_does_not_give() -> None:
    """Those that there are compute all blocks. Each wants a stack of 1 GiB here, and there are addresses for two."""
    code = """
import resource
fastnn.set_num_threads(1)
expected = step()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (5 << 29),) * 2)
before = len(os.listdir("/proc/self/task"))
fastnn.set_num_threads(200)
assert step() == expected
print(len(os.listdir("/proc/self/task")) - before)
"""
    shell = ["bash", "-c", 'ulimit -s 1048576 && exec "$0" -c "$1"', sys.executable, STEP + code]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
