"""The digits inside the package (their attribution: digits.NOTICE)."""

from __future__ import annotations

import os
from importlib import resources

import numpy as np

from ..files import memory_for
from .dataset import ArrayDataset, npz_arrays
from .resize import Resize


def digits() -> tuple[ArrayDataset, ArrayDataset]:
    """(train, test): 1,797 handwritten digits of 8 x 8 pixels, values 0 ... 16; every fifth (i % 5 == 4) is for the test.

    Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, CC BY 4.0.
    """
    with resources.as_file(resources.files(__package__).joinpath("digits.npz")) as path, memory_for(path, "read"):
        file = npz_arrays(os.fspath(path))
        whole = ArrayDataset(file["images"], file["labels"], [str(digit) for digit in range(10)], resize=Resize(8, channels=1, highest=16))
        test = np.arange(len(whole)) % 5 == 4
        return whole.take(np.flatnonzero(~test)), whole.take(np.flatnonzero(test))
