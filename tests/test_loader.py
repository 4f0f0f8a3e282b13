"""fastnn.data.Loader: its order, its batches and its thread."""

from __future__ import annotations

import copy
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
import reference
from test_data import numbered

from fastnn import random
from fastnn.data import ArrayDataset, Loader, Normalize


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(3, 5, 4), (1, 4, 4), (7,)])
def test_batches_hold_the_normalised_images_of_their_labels(dtype: type, shape: tuple[int, ...]) -> None:
    dataset = numbered(100, shape, dtype).take(np.arange(99, 9, -1))
    normalize = Normalize.fit(dataset)
    channels = (slice(None),) + (None,) * (len(shape) - 1)
    seen = []
    for x, labels in Loader(dataset, 16, shuffle=True, seed=5, normalize=normalize):
        raw = numbered(100, shape, dtype).images[labels.numpy()].astype(np.float64)
        expected = (raw - np.array(normalize.mean)[channels]) / np.array(normalize.std)[channels]
        assert x.dtype == "float32" and labels.dtype == "int64"
        np.testing.assert_allclose(x.numpy(), expected, rtol=1e-5, atol=1e-5)
        seen += labels.numpy().tolist()
    assert sorted(seen) == list(range(10, 100))


def test_without_normalisation_values_stay() -> None:
    x, _ = next(iter(Loader(numbered(8), 8)))
    assert (x.numpy() == numbered(8).images).all()


def test_order_is_a_pure_function_of_seed_and_epoch() -> None:
    loader = Loader(numbered(50), 8, shuffle=True, seed=2**40 + 11)
    for epoch in (0, 1, 7):
        words = reference.random_words(0, 50, 2**40 + 11, epoch, random.ORDER)
        expected = sorted(range(50), key=lambda i: (words[i], i))  # noqa: B023
        assert loader.order(epoch).tolist() == expected
        assert [int(n) for _, labels in loader.batches(epoch) for n in labels.numpy()] == expected
    assert loader.order(0).tolist() != loader.order(1).tolist()


def test_each_loop_is_the_next_epoch() -> None:
    loader = Loader(numbered(20), 20, shuffle=True)
    orders = [next(iter(loader))[1].numpy().tolist() for _ in range(3)]
    assert orders == [loader.order(epoch).tolist() for epoch in range(3)]


@pytest.mark.parametrize("n, batch, drop_last, sizes", [
    (12, 4, False, [4, 4, 4]), (14, 4, False, [4, 4, 4, 2]), (13, 4, False, [4, 4, 5]), (1, 4, False, [1]), (0, 4, False, []),
    (5, 4, False, [5]), (3, 1, False, [1, 1, 1]), (14, 4, True, [4, 4, 4]), (13, 4, True, [4, 4, 4]), (12, 4, True, [4, 4, 4]),
])  # fmt: skip
def test_a_last_batch_of_one_joins_the_batch_before(n: int, batch: int, drop_last: bool, sizes: list[int]) -> None:
    loader = Loader(numbered(n), batch, drop_last=drop_last)
    assert [len(labels) for _, labels in loader] == sizes and len(loader) == len(sizes)


def test_iteration_starts_at_any_batch() -> None:
    loader = Loader(numbered(50), 8, shuffle=True)
    whole = [labels.numpy().tolist() for _, labels in loader.batches(3)]
    for first in range(len(whole) + 1):
        assert [labels.numpy().tolist() for _, labels in loader.batches(3, first)] == whole[first:]


def loader_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("fastnn-loader")]


def test_the_thread_works_ahead_and_ends_with_the_loop() -> None:
    loader = Loader(numbered(64), 8)
    for i, _ in enumerate(loader):
        assert len(loader_threads()) == 1
        if i == 2:
            break
    assert not loader_threads()
    list(loader)
    assert not loader_threads()
    abandoned = iter(loader)
    next(abandoned)
    del abandoned
    assert not loader_threads()


ABANDONED = """
import gc, threading, time
import numpy as np
from fastnn.data import ArrayDataset, Loader

gc.disable()
# Where threads begin and end, the interpreter holds a lock of its own and may be interrupted by the collector; 3.13 has none.
held = getattr(threading, "_shutdown_locks_lock", threading.Lock())

class Slow(ArrayDataset):
    def gather(self, *arguments):
        time.sleep(0.05)
        return super().gather(*arguments)

for wanted in (held, threading.Lock()):
    class Wanting(Slow):
        def gather(self, *arguments):
            with wanted:
                return super().gather(*arguments)

    cycle = [iter(Loader(Wanting(np.zeros((64, 3), np.uint8), np.arange(64)), 8))]
    next(cycle[0])
    cycle.append(cycle)
    with wanted:
        del cycle
        gc.collect()
    end = time.monotonic() + 30
    while any(t.name.startswith("fastnn-loader") for t in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.01)
print("done")
"""


def test_the_collector_waits_for_no_thread() -> None:
    """It finds a loop that was left (in a cycle, by an exception, say) while this thread holds what the loader's thread wants."""
    done = subprocess.run([sys.executable, "-c", ABANDONED], capture_output=True, text=True, timeout=120)
    assert done.stdout == "done\n", done.stderr


def test_an_exception_in_the_thread_arrives_in_the_loop() -> None:
    class Broken(ArrayDataset):
        def gather(self, indices: np.ndarray, *args: Any):  # type: ignore[no-untyped-def]
            if 17 in indices:
                raise OSError("the disk is gone")
            return super().gather(indices, *args)

    loader = Loader(Broken(np.zeros((40, 3), np.uint8), np.arange(40)), 8)
    done = []
    with pytest.raises(OSError, match="the disk is gone"):
        for _, labels in loader:
            done.append(len(labels))
    assert done == [8, 8] and not loader_threads()


def test_bad_loader_arguments() -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        Loader(numbered(4), 0)
    with pytest.raises(ValueError, match="4 samples give no whole batch of 8"):
        Loader(numbered(4), 8, drop_last=True)
    with pytest.raises(ValueError, match="normalize has 3 channels, the data set 2"):
        Loader(numbered(4), 2, normalize=Normalize([0, 0, 0], [1, 1, 1]))


# --- what cannot be set afterwards


@pytest.mark.parametrize("name, words", [
    ("bacth_size", r"Loader has no attribute 'bacth_size': give batch_size=\.\.\. to Loader\(\.\.\.\)"),
    ("normalize", r"Loader: normalize cannot be changed afterwards; make another Loader\(\.\.\., normalize=\.\.\.\)"),
    *((name, f"Loader: {name} cannot be changed afterwards") for name in ("batch_size", "dataset", "augment", "shuffle", "seed", "workers")),
    ("epoch", "Loader: epoch must be an integer, got 'a'"),
])  # fmt: skip
def test_a_loader_is_fixed(name: str, words: str) -> None:
    """What would be read by nobody, or too late, is refused where it is set; the next epoch may be."""
    loader = Loader(numbered(10), 4, shuffle=True)
    with pytest.raises((AttributeError, TypeError), match=words):
        setattr(loader, name, "a")
    loader.epoch = 3
    assert next(iter(loader))[1].numpy().tolist() == loader.order(3)[:4].tolist() and loader.epoch == 4


def test_a_loader_of_ones_own_has_its_own_attributes() -> None:
    class Own(Loader):
        def __init__(self) -> None:
            super().__init__(numbered(10), 4)
            self.mine = 1

        @property
        def seed(self) -> int:
            return self.mine

        @seed.setter
        def seed(self, value: int) -> None:
            self.mine = value

    own = Own()
    own.seed, own.more = 5, 2
    assert own.mine == 5 and own.more == 2
    with pytest.raises(AttributeError, match="Loader: shuffle cannot be changed afterwards"):
        own.shuffle = True
    again = copy.copy(Loader(numbered(10), 4))
    with pytest.raises(AttributeError, match="Loader has no attribute 'size'"):
        again.size = 3  # type: ignore[attr-defined]
