"""Dropout and the random bits under it: every word of Philox4x32-10, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from kernel_calls import Table, call
from kernel_cases import Case

from fastnn import _C

KNOWN_ANSWERS = [  # Random123, kat_vectors: counter, key, words
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_reference_gives_the_known_answers(counter: str, key: str, expected: str) -> None:
    got = reference.philox4x32(np.array([words(counter)], np.uint64), np.array(words(key)))
    assert got[0].tolist() == words(expected)


def test_kernel_gives_the_known_answer(isa: str) -> None:
    bits = call("random_bits", (4, 0, 0), [np.zeros(2, np.int64)])["bits"]
    assert bits.tolist() == words(KNOWN_ANSWERS[0][2])


@pytest.mark.parametrize("purpose", [0, 1, 2, 3, 65_535])
@pytest.mark.parametrize("state", [(0, 0), (1, 0), (2**62 + 12345, 2**33 + 7), (-1, 2**48 - 9)], ids=str)
def test_bits_follow_seed_draw_and_purpose(state: tuple[int, int], purpose: int, isa: str) -> None:
    for n in (1, 3, 31, 4099, 40_001):
        for draw in (0, 5):
            bits = call("random_bits", (n, draw, purpose), [np.array(state)])["bits"]
            expected = reference.random_words(0, n, state[0] % 2**64, state[1] + draw, purpose)
            assert np.array_equal(bits, expected.astype(np.int64))


@pytest.mark.parametrize("shape", [(1,), (3, 7), (2, 5, 6, 7), (9, 64, 16, 16), (40_003,)], ids=str)
@pytest.mark.parametrize("p", [0.0, 1e-9, 0.1, 0.5, 0.999, 1.0])
def test_mask_bit_for_bit(p: float, shape: tuple[int, ...], table: Table) -> None:
    for draw, offset in ((0, 0), (3, 1), (2**40, 6), (0, 2**34 + 3), (1, 4 * 10**6)):
        Case("dropout", (shape, p, draw, offset)).check(table)


def test_the_threshold_itself_is_kept(table: Table) -> None:
    """word >= round(p 2^32): p chosen so that the threshold is the word of one element, and the next."""
    words_drawn = reference.random_words(0, 100, 5, 0, reference.PURPOSE_NET)
    for i in (0, 41, 99):
        for above in (0, 1):
            p = (int(words_drawn[i]) + above) / 2**32
            y = call("dropout", ((100,), p, 0, 0), [np.ones(100), np.array([5, 0])], table.dtype)["y"]
            assert (y[i] != 0) == (above == 0)


def test_parts_of_a_batch_draw_what_the_batch_draws(table: Table) -> None:
    state, x = np.array([11, 0]), np.ones((10, 3, 5, 5))
    whole = call("dropout", (x.shape, 0.4, 2, 0), [x, state], table.dtype)["y"]
    for begin, end in ((0, 3), (3, 4), (4, 10)):
        part = call("dropout", (x[begin:end].shape, 0.4, 2, begin * 75), [x[begin:end], state], table.dtype)["y"]
        assert np.array_equal(part, whole[begin:end])


def test_state_and_draw_add(table: Table) -> None:
    x = np.ones(1000)
    ys = [
        call("dropout", (x.shape, 0.5, draw, 0), [x, np.array([7, at])], table.dtype)["y"] for at, draw in ((0, 9), (9, 0), (4, 5), (0, 8))
    ]
    assert np.array_equal(ys[0], ys[1]) and np.array_equal(ys[0], ys[2]) and not np.array_equal(ys[0], ys[3])


def test_rate_and_scale(table: Table) -> None:
    x = np.ones(400_000)
    for p in (0.1, 0.5, 0.9):
        y = call("dropout", (x.shape, p, 0, 0), [x, np.array([1, 0])], table.dtype)["y"]
        assert set(np.unique(y)) == {0, np.asarray(1 / (1 - p), table.dtype)[()]}
        assert abs((y == 0).mean() - p) < 5 * (p * (1 - p) / x.size) ** 0.5


def test_nothing_passes_at_one_and_everything_at_zero(table: Table) -> None:
    x = np.array([np.nan, np.inf, -1.0, 5.0] * 10)
    assert (call("dropout", (x.shape, 1.0, 0, 0), [x, np.zeros(2)], table.dtype)["y"] == 0).all()
    y = call("dropout", (x.shape, 0.0, 0, 0), [x, np.zeros(2)], table.dtype)["y"]
    assert np.array_equal(y, x.astype(table.dtype), equal_nan=True)


@pytest.mark.parametrize("p", [-0.1, 1.1, np.nan])
def test_impossible_rates_are_refused(p: float) -> None:
    with pytest.raises(ValueError, match=r"p must lie in \[0, 1\]"):
        _C.Dropout((3,), p, 0, 0)
