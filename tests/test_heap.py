"""Large arrays of the CPU lie side by side; what one leaves, others of any size take."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import _C

pytestmark = pytest.mark.skipif(os.environ.get("FASTNN_ARENA") == "off", reason="without the arena, blocks go back at once")

MIB = 1 << 20


def block(mib: float) -> _C.Array:
    return _C.empty((int(mib * MIB),), "uint8")


def held() -> float:
    return fastnn.memory_stats()["reserved"] / MIB


def test_the_place_of_one_array_serves_others_of_any_size() -> None:
    _C.empty_cache()
    before = held()
    block(40)
    assert 40 <= held() - before < 43
    parts = [block(7), block(13), block(19)]
    assert held() - before < 43
    del parts[1]
    again = block(12.5)
    assert held() - before < 43, "a gap between two arrays is not used"
    del parts, again
    whole = block(40)
    assert held() - before < 43, "neighbours are not joined"
    del whole
    _C.empty_cache()
    assert held() - before < 1


def test_memory_given_back_is_used_again_and_belongs_to_one_array() -> None:
    first = _C.from_numpy(np.full(MIB, 7, "uint8"))
    for size in (3.0, 5.5, 2.25, 9.0) * 5:
        block(size)
        _C.empty_cache()
        between = [block(size / 3) for _ in range(3)]
        addresses = sorted((a.data_ptr, a.nbytes) for a in (*between, first))
        assert all(start + size <= following for (start, size), (following, _) in zip(addresses, addresses[1:]))
    assert (first.numpy() == 7).all()


LIMITED = """
import resource
import fastnn
from fastnn import _C
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
arrays = [_C.empty((300 << 20,), "uint8") for _ in range(6)]
try:
    arrays += [_C.empty((900 << 20,), "uint8") for _ in range(6)]
except fastnn.OutOfMemoryError as error:
    print("refused")
del arrays
_C.empty((500 << 20,), "uint8")
print("goes on")
"""


def test_a_limit_of_addresses_is_met_with_an_exception() -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "refused\ngoes on\n"), done.stderr


SHARED = """
import resource
import numpy
from fastnn import _C
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
kept = _C.empty((3 << 20,), "uint8")
print(numpy.empty(5 << 29, "uint8").nbytes)
"""


def test_few_addresses_are_shared_with_others() -> None:
    done = subprocess.run([sys.executable, "-c", SHARED], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"{5 << 29}\n"), done.stderr


@pytest.mark.skipif(
    Path("/proc/sys/vm/overcommit_memory").read_text().strip() == "1", reason="this system promises memory it does not have"
)
def test_more_than_the_machine_has_is_refused_before_it_is_touched() -> None:
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    before = _C.memory_stats()["reserved"]
    held = _C.memory_stats()["allocated"]
    with pytest.raises(fastnn.OutOfMemoryError, match=f"{4 * total} bytes requested") as caught:
        _C.empty((4 * total,), "uint8")
    assert caught.value.requested == 4 * total and caught.value.held == held and 0 < caught.value.free <= total
    assert _C.memory_stats()["reserved"] <= before
    assert _C.empty((3 << 20,), "uint8").nbytes == 3 << 20
