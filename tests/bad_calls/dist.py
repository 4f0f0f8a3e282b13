"""fastnn.dist, of one process: what is refused is the same for several."""

from __future__ import annotations

import numpy as np

from fastnn import dist

from . import Subject
from .optim import constants, model


def subjects() -> list[Subject]:
    group = dist.init()
    return [
        Subject("init", dist.init, constants(sync_batchnorm=False, threads=None, timeout=600.0), ("dist.init",)),
        Subject(
            "average_gradients",
            dist.average_gradients,
            {"parameters": model, **constants(samples=3, group=None)},
            ("a Module", "dist.init"),
        ),
        Subject("broadcast", dist.broadcast, {"parameters": model, **constants(root=0, group=None)}, ("a Module", "dist.init")),
        Subject("Group.gather", group.gather, {"values": lambda: np.ones(3)}, ("vector",)),
        Subject("Group.part", lambda samples: group.part(samples).__enter__(), constants(samples=3)),
    ]


PLAIN = {
    "Group": "made by init",
    "Group.gather_objects": "takes whatever pickle does",
    "RankLost": "an exception",
}
