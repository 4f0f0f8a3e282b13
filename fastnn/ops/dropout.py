"""Dropout whose mask is never stored: forward and backward draw it again from Philox."""

from __future__ import annotations

from .. import _C, random
from ..tensor import Array, Op, Tensor, apply


class Dropout(Op):
    __slots__ = ("p", "plan", "state")

    def __init__(self, p: float) -> None:
        self.p = p

    def forward(self, x: Array) -> Array:
        generator = random.default_generator()
        self.state = generator.state_on(x.device)
        self.plan = _C.Dropout(x.shape, self.p, generator.next_draw())
        self.save(self.state)
        return _C.dropout(self.plan, x, self.state)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        (state,) = self.saved
        return (_C.dropout(self.plan, dy, state),)


def dropout(x: Tensor, p: float = 0.5, *, training: bool = True) -> Tensor:
    """Inverted dropout (Srivastava et al. 2014): zero with probability p, else x / (1 - p); the identity when not training.

    Element i (in memory order) is kept where word i of the generator's draw is at least round(p * 2**32). Raises ValueError unless 0 <= p <= 1.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p must lie in [0, 1], got {p}")
    return apply(Dropout(p), x) if training and p > 0 else x
