"""What metrics count as right, and what they are asked of."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn.train import accuracy, top5_accuracy

NAN = float("nan")


# --- no number, equal ones


def test_logits_that_are_no_number_are_never_right() -> None:
    """No logit exceeds NaN: the top five of a net that had diverged were right throughout."""
    labels = np.arange(8)
    for count in (8, 3):
        logits = np.full((8, count), NAN)
        assert not top5_accuracy(logits, labels % count).any() and not accuracy(logits, labels % count).any()
    one = np.zeros((2, 8))
    one[:, 7] = NAN
    assert top5_accuracy(one, np.array([3, 4])).tolist() == [True, False]  # it is ahead of every other one
    assert accuracy(one, np.array([0, 7])).tolist() == [False, False]


@pytest.mark.parametrize("kind", [float, np.float32, int, bool])
def test_of_equal_logits_the_first_are_ahead(kind: type) -> None:
    labels = np.arange(-1, 9)
    assert top5_accuracy(np.ones((10, 8), kind), labels).tolist() == [0 <= label < 5 for label in labels]
    assert accuracy(np.ones((10, 8), kind), labels).tolist() == [label == 0 for label in labels]


def test_top5_is_the_place_in_a_stable_order() -> None:
    """Of maps too; with numbers that are often equal."""
    rng = np.random.default_rng(0)
    logits, labels = rng.integers(0, 4, (6, 9, 2, 3)).astype(np.float32), rng.integers(0, 9, (6, 2, 3))
    first = np.argsort(-logits, axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(top5_accuracy(logits, labels), (first == labels[:, None]).any(1))
    np.testing.assert_array_equal(accuracy(logits, labels), first[:, 0] == labels)
