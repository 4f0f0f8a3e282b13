"""fastnn find-rate."""

from __future__ import annotations

import argparse
import os

from .outcome import draw
from .refusals import make_folder, try_folder
from .training import description, prepare, refuse_options, sets_of


def find_rate(options: argparse.Namespace) -> None:
    """Tries out learning rates, from far too low to far too high, in a few steps of the training that these options make, and says which to take;
    with --out, draws rates.png into that folder. Arguments as for fastnn train."""
    from ..train import find_rate as test_of_range
    from ..train.find_rate import range_for

    why = "is no training to tell of"
    alone = "tries rates in one process"
    refuse_options("find-rate", options, resume="begins anew", why_slow="has no time to tell of", report=why, log=why, distributed=alone)
    if options.out:
        try_folder(options.out)
    sets = sets_of(options)
    trainer, fit = prepare(options, sets)
    try:
        low, high = range_for(trainer.optimizer, options.low, options.high)
    except ValueError as error:
        raise ValueError(f"--{'high' if options.low is None else 'low'}: {error}") from None
    print(description(options, trainer, fit, sets), flush=True)
    found = test_of_range(trainer, fit["train"], low=low, high=high, steps=options.steps, replay=fit["replay"])
    print(found)
    if found.suggestion is not None:
        print(f"go on with: fastnn train ... --lr {found.suggestion:.2g}")
    if options.out:
        make_folder(options.out)
        draw("rates", found.plot, os.path.join(options.out, "rates.png"))
