"""fastnn verify-resume."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from .training import prepare, refuse_options, sets_of

if TYPE_CHECKING:
    from ..train import Trainer


def verify_resume(options: argparse.Namespace) -> bool:
    """Trains a short run whole, and again killed at random moments and resumed, and compares all bits: arguments as for fastnn train."""
    from .. import verify_resume as verifying

    if options.child:
        verifying.child(options.child, lambda: _begin_short(options))
        return True
    keeps = "keeps the steps of both runs itself"
    alone = "compares trainings of one process"
    refuse_options(
        "verify-resume", options, resume="begins anew", why_slow="has no time to tell of", report=keeps, log=keeps, distributed=alone
    )
    return verifying.verify(options, options.words)


def _begin_short(options: argparse.Namespace) -> tuple[Trainer, dict[str, Any]]:
    """The training of verify-resume."""
    from ..devices import open_emulated
    from ..verify_resume import fewer

    if options.device.startswith("cuda-emulated"):
        open_emulated(os.environ["FASTNN_CUDA_EMULATED"])
    options.epochs = options.epochs or 3
    return prepare(options, fewer(sets_of(options), options.samples, options.seed))
