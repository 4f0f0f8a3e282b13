"""Operations of one's own, recorded on the tape like the built-in ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .arguments import array
from .tensor import Array, Op, Tensor, apply, no_grad, tensor


class Context:
    """What `Function.forward` and `backward` share: `save_for_backward(*tensors)`, `saved_tensors`, and any attribute of your own."""

    saved_tensors: tuple[Tensor, ...] = ()
    needs_input_grad: tuple[bool, ...] = ()

    def save_for_backward(self, *tensors: Tensor) -> None:
        self.saved_tensors = tensors


class Function:
    """An operation of one's own, with forward and backward written in Python, fastnn or numpy.

        class Cube(fastnn.Function):
            @staticmethod
            def forward(ctx, x):                 # x: a Tensor without history; return a Tensor or a numpy array
                ctx.save_for_backward(x)
                return x.numpy() ** 3
            @staticmethod
            def backward(ctx, dy):               # dy: a Tensor; return one gradient (or None) per argument of forward
                (x,) = ctx.saved_tensors
                return 3 * x.numpy() ** 2 * dy.numpy()

        y = Cube.apply(x)

    Check it with `fastnn.gradcheck(Cube.apply, [x])`. Arguments of `apply` that are not Tensors are passed through unchanged.
    """

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        raise NotImplementedError("a Function needs a static method forward(ctx, *args)")

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        raise NotImplementedError("a Function needs a static method backward(ctx, dy)")

    @classmethod
    def apply(cls, *args: Any) -> Tensor:
        return apply(_UserOp(cls, args), *[a if isinstance(a, Tensor) else None for a in args])


class _UserOp(Op):
    __slots__ = ("function", "args", "context", "shapes")

    def __init__(self, function: type[Function], args: tuple[Any, ...]) -> None:
        self.function, self.args, self.context = function, args, Context()

    def forward(self, *arrays: Any) -> Array:
        self.context.needs_input_grad = self.needs
        args = [value if array is None else Tensor(array) for value, array in zip(self.args, arrays)]
        with no_grad():
            result = self.function.forward(self.context, *args)
        self.args = ()
        self.shapes = [None if a is None else a.shape for a in arrays]
        self.save(*[t._array for t in self.context.saved_tensors])
        return _array_of(f"{self.function.__name__}.forward", result, arrays)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        _ = self.saved  # checks the versions
        result = self.function.backward(self.context, Tensor(dy))
        gradients = result if isinstance(result, tuple) else (result,)
        if len(gradients) != len(self.needs):
            raise ValueError(
                f"{self.function.__name__}.backward returned {len(gradients)} gradients; forward took {len(self.needs)} arguments"
            )
        name = f"{self.function.__name__}.backward"
        results = tuple(None if g is None else _array_of(name, g, (dy,)) for g in gradients)
        for i, (g, shape) in enumerate(zip(results, self.shapes)):
            if g is not None and shape is not None and g.shape != shape:
                raise ValueError(f"{self.function.__name__}.backward: gradient {i} has shape {g.shape}; its input has shape {shape}")
        return results

    def release(self) -> None:
        super().release()
        self.context.saved_tensors = ()


def _array_of(name: str, value: Any, like: Sequence[Array | None]) -> Array:
    if isinstance(value, Tensor):
        return value._array
    dtype, device = next(((a.dtype, a.device) for a in like if a is not None), ("float32", "cpu"))
    values = array(name, "what it returns", value)
    return tensor(values, dtype=dtype if values.dtype.kind == "f" else None, device=device)._array
