"""Operations of one's own, recorded on the tape like the built-in ones."""

from __future__ import annotations

from typing import Any

from . import _C
from .arguments import array, several, shown
from .ops.shape import floats
from .tensor import Array, Op, Tensor, apply, no_grad, tensor


class Context:
    """What `Function.forward` and `backward` share: `save_for_backward(*tensors)`, `saved_tensors`, and any attribute of your own."""

    saved_tensors: tuple[Tensor, ...] = ()
    needs_input_grad: tuple[bool, ...] = ()

    def save_for_backward(self, *tensors: Tensor) -> None:
        several("save_for_backward", "tensors", tensors, Tensor, "Tensors (anything else is kept as an attribute: ctx.scale = scale)")
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

    backward runs under no_grad. Check it with `fastnn.gradcheck(Cube.apply, [x])`. Arguments of `apply` that are not Tensors are passed through unchanged.
    """

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        raise NotImplementedError("a Function needs a static method forward(ctx, *args)")

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        raise NotImplementedError("a Function needs a static method backward(ctx, dy)")

    @classmethod
    def apply(cls, *args: Any) -> Tensor:
        result = apply(_UserOp(cls, args), *[a if isinstance(a, Tensor) else None for a in args])
        return result.detach() if result.dtype in ("bool", "uint8", "int64") else result  # steps have no slope


class _UserOp(Op):
    __slots__ = ("name", "function", "args", "context", "inputs")

    def __init__(self, function: type[Function], args: tuple[Any, ...]) -> None:
        self.name, self.function, self.args, self.context = function.__name__, function, args, Context()

    def forward(self, *arrays: Any) -> Array:
        self.context.needs_input_grad = self.needs
        args = [value if array is None else Tensor(array) for value, array in zip(self.args, arrays)]
        with no_grad():
            result = self.function.forward(self.context, *args)
        self.args = ()
        _C.count_float_exception()  # what is not computed by kernels raises no flag that is counted
        self.inputs = [("", "") if a is None else (a.shape, a.dtype) for a in arrays]
        self.save(*[t._array for t in self.context.saved_tensors])
        dtype = next((kind for _, kind in self.inputs if kind in floats), "float32")  # labels and masks may stand in front
        device = next((a.device for a in arrays if a is not None), "cpu")
        return _array_of(f"{self.function.__name__}.forward", result, "f", dtype, device)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        _ = self.saved  # checks the versions
        name, version = f"{self.function.__name__}.backward", dy.version
        result = self.function.backward(self.context, Tensor(dy))
        _C.count_float_exception()
        if dy.version != version:
            raise RuntimeError(f"{name} wrote into the gradient it was given, which may be another input's, too; compute a new one from it")
        gradients = result if isinstance(result, (tuple, list)) else (result,)
        if len(gradients) != len(self.needs):
            raise ValueError(
                f"{name} returned {len(gradients)} gradients; forward took {len(self.needs)} arguments, each of which needs one or None"
            )
        return tuple([self._gradient(name, i, g, dy.device) for i, g in enumerate(gradients)])

    def _gradient(self, name: str, i: int, given: Any, device: str) -> Array | None:
        if given is None or not self.needs[i]:
            return None
        shape, dtype = self.inputs[i]
        gradient = _array_of(name, given, "fiub", dtype, device)
        if gradient.shape != shape:
            raise ValueError(f"{name}: gradient {i} has shape {gradient.shape}; its input has shape {shape}")
        if gradient.dtype != dtype:
            raise TypeError(f"{name}: gradient {i} has dtype {gradient.dtype}; its input has {dtype}")
        return gradient

    def release(self) -> None:
        super().release()
        self.context.saved_tensors = ()


def _array_of(name: str, value: Any, kinds: str, dtype: str, device: str) -> Array:
    """A copy of a Tensor, which may be somebody's (a saved one, a constant) and will be a gradient of its own; or an array made of numbers, of
    which those of these kinds become of that type."""
    if isinstance(value, Tensor):
        return value._array.to(value.device)
    values = array(name, "what it returns", value)
    if isinstance(value, tuple) or values.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected it to return one Tensor or array of numbers, got {shown(value)}")
    return tensor(values, dtype=dtype if values.dtype.kind in kinds else None, device=device)._array
