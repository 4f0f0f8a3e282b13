"""Whether a refusal names the argument, where the function takes several Tensors or arrays: its own name alone would not say which one is meant."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastnn import Tensor

# What a text may call an argument besides; losses, as the tests call them, take x and target.
ALSO = {
    "x": ("input", "samples", "logits", "scores", "log_probabilities"),
    "target": ("labels",),
    "y": ("labels",),
    "indices": ("index",),
    "log_probabilities": ("logits",),
    "scores": ("logits",),
}

# Texts that name no argument, each with how the reader knows all the same.
OTHERWISE = {
    r"shapes .* do not broadcast": "all shapes; none of them is wrong by itself",
    r"\(.*\) @ \(.*\): the inner sizes": "both shapes, as they stand in a @ b",
    r"operands must have at least one dimension, got \(.*\) and \(": "both shapes in order",
    r"leading dimensions of \(.*\) and \(.*\) differ": "both shapes in order",
    r"axis -?\d+ does not exist in shape": "the shape is that of x, which alone has an axis",
    r"bias has shape .*; expected": "what weight asks for: either may be the wrong one",
    r"take: index \d+ .* lies outside of the axis": "the axis is x's, the index the other's: either may be the wrong one",
    r"batch_norm expects \(N, C\)": "x alone is normalised",
}
# Subjects whose arguments have names of the tests' own, or go to something that has a name.
SUBJECTS = {
    "Function": "what forward and backward of a class give, which are named",
    "Trainer.step": "the layer is named, which takes one Tensor",
}


def arrays_of(good: Mapping[str, Any]) -> list[str]:
    return [name for name, value in good.items() if isinstance(value, (Tensor, np.ndarray))]


def names_one(text: str, subject: str, arrays: Sequence[str], changed: Sequence[str]) -> bool:
    """One of those that were changed; nothing is asked where there is one array, or something else was changed, too."""
    if len(arrays) < 2 or not set(changed) <= set(arrays) or subject in SUBJECTS:
        return True
    words = [word for name in changed for word in (name, *ALSO.get(name, ()))]
    return any(re.search(rf"\b{word}\b", text) for word in words) or any(re.search(pattern, text) for pattern in OTHERWISE)
