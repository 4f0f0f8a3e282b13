"""What was edited by hand in an optimizer's groups since they were looked at last. It stands in every step: what did not change is to cost nothing."""

from __future__ import annotations

from math import inf
from operator import is_
from typing import Any

from ..tensor import Tensor

_PARAMETERS = ("params", "param_names")


def holds(groups: Any, parameters: list[Tensor]) -> bool:
    """Whether the groups, one after the other, hold these very parameters."""
    try:
        now = [p for group in groups for p in group["params"]]
    except (TypeError, KeyError):  # no groups any more
        return False
    return isinstance(groups, list) and len(now) == len(parameters) and all(map(is_, now, parameters))


def unchanged(groups: list[dict[str, Any]], before: list[dict[str, Any]]) -> bool:
    """Whether options are those of `before`, which remembered() gave."""
    try:
        return bool(groups == before)
    except (TypeError, ValueError):  # numpy's array, which is not simply equal or not
        return False


def take_in_rates(groups: list[dict[str, Any]], before: list[dict[str, Any]]) -> None:
    """A rate that is set anew at every step, a plain number, is not to cost a check of everything beside it."""
    for group, known in zip(groups, before):
        if isinstance(group, dict) and type(lr := group.get("lr")) is float and 0 <= lr < inf:
            known["lr"] = lr


def remembered(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The groups as they are. Lists and arrays among their options are copied, since what they hold may change."""
    return [{k: v if k in _PARAMETERS else _fixed(v) for k, v in group.items()} for group in groups]


def _fixed(value: Any) -> Any:
    if isinstance(value, list):
        return list(value)
    dimensions = getattr(value, "ndim", None)  # of an array
    return value.item() if dimensions == 0 else tuple(value) if dimensions == 1 else value


def refused(name: str, number: int, error: Exception) -> Exception:
    """An optimizer's refusal of a group's options, with the group's number."""
    kind = TypeError if isinstance(error, TypeError) else ValueError
    return kind(f"{name}: group {number}: {str(error).removeprefix(f'{name}: ')}")
