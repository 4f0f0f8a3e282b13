"""Problems for the rows of kernels.def: inputs, what the row should write, and how far it may be off.

A problem's function bears its row's name and takes a random generator and the fields of the row's struct. Tolerances count in units of
the type's eps: longest sum x largest terms for what is accumulated, a few for what is not; 0 asks for the exact value, rounded once.
A file per family: its problems, then its cases.
"""

from . import activation, arrangement, data, elementwise, loss, normalization, optim, pooling, products, randomness, resampling, rows
from .activation import *
from .arrangement import *
from .data import *
from .elementwise import *
from .loss import *
from .normalization import *
from .optim import *
from .pooling import *
from .problem import *
from .products import *
from .randomness import *
from .resampling import *
from .rows import *

FAMILIES = [activation, arrangement, data, elementwise, loss, normalization, optim, pooling, products, randomness, resampling, rows]
