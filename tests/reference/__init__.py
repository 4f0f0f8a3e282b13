"""Every kernel of csrc/kernels.def in float64 numpy, written to be read: loops over taps, windows and groups, einsum over the rest.

A function bears its row's name, takes the row's inputs (logical N, C, H, W, whatever the order in memory) and then the fields of its
struct, and returns what the row writes, in the row's order. Nothing of fastnn is imported here. A file per family.

Letters: N batch, C input channels, H x W input, K output channels, R x S window, P x Q output, G groups.
"""

from .activation import *
from .arrangement import *
from .data import *
from .elementwise import *
from .loss import *
from .memory import *
from .normalization import *
from .optim import *
from .pooling import *
from .products import *
from .randomness import *
from .resampling import *
from .rows import *
