"""Gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from .. import _C, ops
from ..arguments import flag, number
from ..tensor import Array, Tensor, no_grad
from .lists import by_place, gradients_of, scalar


def p_norm(gradients: Sequence[Tensor], p: float) -> float:
    """(sum |g|^p)^(1/p) over all of them, or max |g|: each gradient's by kernels, in units of its largest, and together in float64."""
    norms = []
    with no_grad():
        for g in gradients:
            if not g.size:
                continue
            sizes = ops.abs(g)
            top = float(ops.max(sizes).item())
            whole = 0 < top < math.inf and p < math.inf
            norms.append(top * float(ops.sum((sizes / top) ** p).item()) ** (1 / p) if whole else top)
    top = max(norms, default=0.0, key=lambda n: math.inf if math.isnan(n) else n)
    return top * sum((n / top) ** p for n in norms) ** (1 / p) if 0 < top < math.inf and p < math.inf else top


def global_norms(gradients: Sequence[Tensor]) -> list[Array]:
    """sqrt(sum g^2) over those that lie together: one float64 for each dtype and device, which nobody has to wait for. On a GPU the squares are
    of the gradients' type: of float32 beyond 1.8e19 they are infinite."""
    lists = [[gradients[i]._array for i in members] for members in by_place(gradients).values()]
    return [_C.global_norm(_C.ParameterList(len(g)), g) for g in lists]


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float | str = 2.0, *, error_if_nonfinite: bool = False
) -> Tensor:
    """g = g min(1, max_norm / (norm + 1e-6)) with the norm of all gradients together, sqrt(sum g^2) (Pascanu, Mikolov, Bengio 2013).

    norm_type p: (sum |g|^p)^(1/p), p > 0, or inf (also "inf") for max |g|; other norms than 2 are waited for.
    In place, between backward() and step(); parameters without a gradient are passed over. Returns the norm before (float64, rank 0), which
    nobody has to wait for otherwise. As torch.nn.utils.clip_grad_norm_: a norm that is not finite spoils the gradients, or with
    error_if_nonfinite raises RuntimeError and leaves them alone. The sum is taken in a fixed order: the same bits every time.
    On a GPU squares are of the gradients' type, so that the norm of float32 gradients beyond 1.8e19 comes out as inf though all are finite, and
    the gradients become 0, as PyTorch's do everywhere; on the CPU squares that overflow are taken again in float64.
    """
    number("clip_grad_norm_", "max_norm", max_norm, "[0, inf]")
    flag("clip_grad_norm_", "error_if_nonfinite", error_if_nonfinite)
    p = number("clip_grad_norm_", "norm_type", math.inf if isinstance(norm_type, str) and norm_type == "inf" else norm_type, "(0, inf]")
    gradients = gradients_of("clip_grad_norm_", parameters)
    places = by_place(gradients)
    lists = {place: [gradients[i]._array for i in members] for place, members in places.items()}
    norms = global_norms(gradients) if p == 2 else []
    if p != 2:
        norm = scalar(p_norm(gradients, p), gradients[0].device if gradients else "cpu")
    elif len(norms) == 1:
        norm = norms[0]
    else:
        norm = scalar(math.sqrt(sum(float(n.item()) ** 2 for n in norms)), gradients[0].device if gradients else "cpu")
    if error_if_nonfinite and not math.isfinite(norm.item()):
        raise RuntimeError(f"clip_grad_norm_: the norm of the gradients is {norm.item()}; they are left as they are")
    for (_, device), g in lists.items():
        _C.clip_norm(_C.ParameterList(len(g)), g, norm.to(device) if norm.device != device else norm, scalar(max_norm, device))
    return Tensor(norm)


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """g = min(max(g, -clip_value), clip_value) in place, element by element; NaN stays. ValueError for a negative value."""
    number("clip_grad_value_", "clip_value", clip_value, "[0, inf]")
    gradients = gradients_of("clip_grad_value_", parameters)
    for (_, device), members in by_place(gradients).items():
        _C.clip_value(_C.ParameterList(len(members)), [gradients[i]._array for i in members], scalar(clip_value, device))
