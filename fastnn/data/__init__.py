"""Data sets and how their batches come to the model.

    train, test = fastnn.data.digits()
    train, validation = fastnn.data.split(train, 0.1, seed=0)
    normalize = fastnn.data.Normalize.fit(train)
    for x, labels in fastnn.data.Loader(train, 32, shuffle=True, normalize=normalize):
        ...

Every set keeps its raw values (bytes stay bytes); a batch is gathered, normalised and made float32 in one kernel.
"""

from .augment import Augmentation, Flip, RandomCrop, Shift
from .dataset import ArrayDataset, arrays, split
from .digits import digits
from .idx import fashion_mnist, idx, mnist, read_idx
from .loader import Loader
from .normalize import Normalize

__all__ = [
    "ArrayDataset",
    "Augmentation",
    "Flip",
    "Loader",
    "Normalize",
    "RandomCrop",
    "Shift",
    "arrays",
    "digits",
    "fashion_mnist",
    "idx",
    "mnist",
    "read_idx",
    "split",
]
