"""Gathering a batch of uint8 images and normalising it on the way."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_calls import Table, call
from kernel_cases import Case

from fastnn import _C


@pytest.mark.parametrize("source", [(4, 1, 28, 28), (10, 3, 32, 32), (3, 17, 5, 7), (6, 4, 1, 1), (300, 2, 3, 3)], ids=str)
@pytest.mark.parametrize("batch", [0, 1, 7, 64])
def test_images(source: tuple[int, ...], batch: int, isa: str) -> None:
    Case("gather_normalize", (source, batch)).check(Table(isa, "float32"))


@pytest.mark.parametrize("source", [(4, 1), (10, 33), (100, 784)], ids=str)
def test_rows_of_features(source: tuple[int, ...], isa: str) -> None:
    for batch in (0, 1, 7, 64):
        Case("gather_normalize", (source, batch)).check(Table(isa, "float32"))


def test_every_byte_in_every_channel(isa: str) -> None:
    """Scale 1 and shift 0 give the bytes themselves, in order, however often an image is asked for."""
    source = np.arange(256 * 3, dtype=np.int64).reshape(3, 256).repeat(2, 0).reshape(6, 16, 4, 4).astype(np.uint8)
    index = np.array([5, 0, 0, 3, 5])
    y = call("gather_normalize", (source.shape, 5), [source, index, np.ones(16), np.zeros(16)])["y"]
    assert np.array_equal(y, source[index])


def test_scale_and_shift_belong_to_their_channel(isa: str) -> None:
    source = np.full((2, 5, 3, 3), 2, np.uint8)
    scale, shift = np.arange(5.0), np.arange(5.0) * 100
    y = call("gather_normalize", (source.shape, 2), [source, np.array([1, 0]), scale, shift])["y"]
    assert np.array_equal(y, np.broadcast_to((2 * scale + shift)[:, None, None], y.shape))


def test_source_of_another_rank_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(n, C\) or \(n, C, H, W\)"):
        _C.Gather((3, 4, 5), 2)
