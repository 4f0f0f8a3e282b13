"""What `load_state_dict` does: every array of a state in its place, or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..arguments import flag
from ..warned import warn
from .errors import checked_state, unfit


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict` left out, as PyTorch's: the module's keys that the state lacks, and the state's that the module has not."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def _numpys(dtype: str) -> str:
    return "float32" if dtype == "bfloat16" else dtype


def load(module: Any, state: Mapping[str, Any], strict: bool) -> IncompatibleKeys:
    """See Module.load_state_dict."""
    own, state, strict = module._state(), checked_state(module, state), flag("load_state_dict", "strict", strict)
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = sorted(k for k in state if k not in own)  # files have no order
    values = {k: np.asarray(state[k]) for k in own if k in state}
    problems = [text for k, v in values.items() for text in unfit(k, v, own[k])]
    problems += [f"missing {', '.join(missing)}"] if strict and missing else []
    problems += [f"unexpected {', '.join(unexpected)}"] if strict and unexpected else []
    said = f"load_state_dict of {type(module).__name__}"
    if problems:
        raise ValueError(f"{said}: " + "; ".join(problems))
    if own and state and not values:
        warn(f"{said}: nothing was loaded: of the state's keys, as {next(iter(state))}, it has none; its own are such as {next(iter(own))}")
    # all memory first, and copies of views, which may be of this module's own tensors: two of them may change places
    for key, value in [(k, v.astype(_numpys(own[k].dtype), copy=v.base is not None)) for k, v in values.items()]:
        own[key].copy_from(value)
    return IncompatibleKeys(missing, unexpected)
