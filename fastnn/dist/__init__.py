"""Data-parallel training: the same script in several processes, started by `mpirun -n 4 python train.py` (MPI, through mpi4py).

    group = fastnn.dist.init()                         # of one, where no mpirun started the script
    trainer = train.Trainer(model, optimizer, group=group)
    trainer.fit(training_set, 20, validation, batch_size=128)   # 128 samples per step, of which each rank has its rows

Every process (rank) has the whole data set and the whole model, takes its rows of each batch, and gradients are summed over all before the update.
"""

from typing import TYPE_CHECKING

from ..elsewhere import absent
from .average import average_gradients, broadcast
from .group import Group, RankLost
from .launch import init

__all__ = ["Group", "RankLost", "average_gradients", "broadcast", "init"]

if not TYPE_CHECKING:  # which knows the names that there are
    __getattr__ = absent(__name__)
