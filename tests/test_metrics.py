"""What metrics count as right, and what they are asked of."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from fastnn.train import accuracy, top5_accuracy
from fastnn.train.metrics import by_name

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


# --- names


def test_two_metrics_of_one_name_are_refused() -> None:
    """One of them was left out in silence."""

    def at_least(share: float) -> partial[np.ndarray]:
        return partial(lambda logits, labels, share: logits.max(1) > share, share=share)

    few, many = at_least(0.1), at_least(0.9)
    for pair, name in (((few, many), "partial"), ((lambda x, y: y, lambda x, y: y + 1), "<lambda>")):
        with pytest.raises(ValueError, match=f"^metrics: two of them are named '{name}'; give each a name of its own: metric.__name__ = "):
            by_name(pair)
    few.__name__, many.__name__ = "few", "many"  # type: ignore[attr-defined]
    assert by_name((few, many)) == {"few": few, "many": many}
    assert by_name(("accuracy", accuracy)) == {"accuracy": accuracy}  # one metric, twice
