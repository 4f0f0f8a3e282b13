"""Tensor and the tape.

A Tensor is a dense array plus, while gradients are recorded, the operation that made it. Operations are instances of `Op`: forward and
backward stand side by side in fastnn/ops. `Tensor.backward` walks them in a loop, newest first, and frees as it goes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _C, devices, leaves, recording
from .arguments import array as checked_array
from .arguments import dtype_name, flag, refuse_other_integers, refuse_other_kinds, shown
from .scopes import enter_backward, serials
from .tape import Op as Op
from .tape import is_grad_enabled as is_grad_enabled
from .tape import no_grad as no_grad

Array = _C.Array
ArrayLike = Any  # whatever numpy.asarray takes
Scalar = int | float

if TYPE_CHECKING:
    from .typed_words import Words  # what ops gives to Tensor
else:
    Words = object


def run_backward(tensor: Tensor, gradient: Array) -> None:
    """Newest operation first: every consumer of a result has a higher serial number than its producer."""
    taken = {gradient.data_ptr} if recording.under_way else set()  # a recorded seed is the same array in each replay
    if tensor._op is None:
        _accumulate(tensor, gradient, taken)
        return
    gradients: dict[Any, Array] = {tensor._op: gradient}
    del gradient
    waiting = [(-tensor._op.serial, tensor._op)]
    while waiting:
        op = heapq.heappop(waiting)[1]
        edges, op.edges = op.edges, None  # whoever else comes meanwhile, from another thread, is refused
        if edges is None:
            raise RuntimeError(
                f"backward through {op.name} a second time: its saved arrays were freed by the first backward(). "
                "Run the forward pass again, or add the losses and call backward() once"
            )
        if recording.under_way:
            enter_backward(op.serial)
        before = gradients.get(edges[0]) if op.adds else None
        # nobody but the operation holds its dy, so that its memory can go as soon as it was read
        if before is None:
            _pass_on(edges, op.backward(gradients.pop(op)), gradients, waiting, taken)
        else:
            backward: Any = op.backward
            gradients[edges[0]], *rest = backward(gradients.pop(op), before)
            _pass_on(edges[1:], rest, gradients, waiting, taken)
        op.release()
    if recording.under_way:
        enter_backward(None)


def _pass_on(
    edges: Sequence[Op | Tensor | None], results: Sequence[Array | None], gradients: dict[Any, Array], waiting: list[Any], taken: set[int]
) -> None:
    for edge, d in zip(edges, results):
        if edge is None or d is None:
            continue
        if isinstance(edge, Tensor):
            _accumulate(edge, d, taken)
        elif edge in gradients:
            gradients[edge] = _add(gradients[edge], d)
        else:
            gradients[edge] = d
            heapq.heappush(waiting, (-edge.serial, edge))


def _add(a: Array, b: Array) -> Array:
    return _C.add(_C.Binary(a.shape, b.shape), a, b)


def _accumulate(leaf: Tensor, d: Array, taken: set[int]) -> None:
    """Each leaf has memory of its own, also where an operation hands dy to both inputs. `taken`: addresses given to leaves so far."""
    if recording.under_way:
        recording.read_leaf(leaf)
        recording.see_leaf(leaf)
    before = leaf._grad
    if before is not None:
        d = _add(before._array, d)
    elif d.data_ptr in taken:
        d = d.to(d.device)
    taken.add(d.data_ptr)
    total = Tensor(d)
    if leaf._grad is not before:
        raise RuntimeError(f"backward(): another thread changed the gradient of a parameter of shape {leaf.shape} meanwhile; one at a time")
    leaf._grad = total


class Tensor(Words):
    """A dense array with gradients. Make one with `fastnn.tensor(array)`; rank 4 has shape (N, C, H, W).

    Attributes: `shape`, `dtype` (a string), `requires_grad`, `grad` (a Tensor, or None before the first backward).
    """

    __slots__ = ("_array", "requires_grad", "_grad", "_op", "_shape", "__weakref__")
    __array_priority__ = 1000  # numpy leaves `array + tensor` to us

    grad = leaves.grad
    requires_grad: bool
    _op: Op | None

    def __init__(self, array: Array, requires_grad: bool = False) -> None:
        if type(array) is not Array:
            raise TypeError(f"Tensor: expected an array of the compiled core, got {shown(array)}; fastnn.tensor(values) makes a Tensor")
        self._array = array
        self._wants = requires_grad  # the slot of requires_grad
        self._grad: Tensor | None = None
        self._op = None
        self._shape: tuple[int, ...] | None = None

    # --- what it is

    @property
    def shape(self) -> tuple[int, ...]:
        if self._shape is None:
            self._shape = self._array.shape
        return self._shape

    @property
    def dtype(self) -> str:
        return self._array.dtype

    @property
    def device(self) -> str:
        """Where the values lie: "cpu", "cuda:0", ..."""
        return self._array.device

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return self._array.size

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len(): a Tensor of rank 0 has no rows to count or to go through; x.item() is its number")
        return self.shape[0]

    def __repr__(self) -> str:
        values = np.array2string(self.numpy(), separator=", ", prefix="tensor(", threshold=100)
        extra = "" if self.dtype in ("float32", "int64", "bool") else f", dtype={self.dtype}"
        return f"tensor({values}{extra}{', requires_grad=True' if self.requires_grad else ''})"

    # --- out of fastnn

    def numpy(self) -> np.ndarray:
        """A read-only numpy view of the values, no copy (strided for rank 4); of a copy when they lie on a GPU. Works while gradients are recorded."""
        view: np.ndarray = self._array.numpy()
        return view

    def item(self) -> Any:
        """The only element as a Python number. ValueError when there are more."""
        return self._array.item()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = self.numpy()
        converts = dtype is not None and np.dtype(dtype) != values.dtype
        if converts and copy is False:
            raise ValueError(f"a {self.dtype} tensor becomes {np.dtype(dtype)} only by a copy, and copy=False was given")
        return np.array(values, dtype) if copy or converts else values

    def __dlpack__(self, **keywords: Any) -> Any:
        if self.requires_grad:
            raise BufferError(
                "a Tensor that requires a gradient is not shared, others would write to it unseen; x.detach() is, x.numpy() is read-only"
            )
        return self._array.__dlpack__(**keywords)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self._array.__cuda_array_interface__

    def to(self, device: str) -> Tensor:
        """The same values on a device ("cpu", "cuda", "cuda:1"); itself where they lie there already. The gradient flows back."""
        there = devices.resolve(device)
        return self if there == self.device else apply(_Move(there), self)

    def cpu(self) -> Tensor:
        """to("cpu")."""
        return self.to("cpu")

    def cuda(self) -> Tensor:
        """to("cuda")."""
        return self.to("cuda")

    def detach(self) -> Tensor:
        """The same values (shared memory) without a history."""
        return Tensor(self._array)

    def copy_from(self, values: ArrayLike) -> None:
        """Overwrites the values in place from an array of the same shape; backward refuses operations that saved the old ones.

        For leaves (parameters, buffers): detach() and a reshape that keeps the order in memory share their bytes with this tensor.
        """
        values = checked_array("copy_from", "values", values, "an array")
        if values.shape != self.shape or values.dtype.kind not in "fiub":
            raise ValueError(f"copy_from: got shape {values.shape} of {values.dtype}; expected {self.shape} of numbers")
        refuse_other_kinds("copy_from", values, self.dtype)
        refuse_other_integers("copy_from", values, self.dtype)
        self._array.copy_from(values.astype("uint8") if self.dtype == "uint8" else values)  # the others hold all of their kind

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if self._op is not None:
            raise RuntimeError("only tensors without a history can be copied deeply; use detach() first")
        clone = type(self).__new__(type(self))
        Tensor.__init__(clone, self._array.to(self.device), self.requires_grad)
        if self.grad is not None:
            clone.grad = self.grad.__deepcopy__(memo)
        memo[id(self)] = clone
        return clone

    def __reduce__(self) -> Any:
        if self._op is not None:
            raise RuntimeError("only tensors without a history can be pickled; use detach() first")
        return _rebuild, (type(self), np.asarray(self.numpy(), order="C"), self.requires_grad, self.dtype)

    # --- gradients

    @property
    def is_leaf(self) -> bool:
        return self._op is None

    def backward(self, gradient: ArrayLike = None, **torch: Any) -> None:
        """Adds d(self)/d(leaf) * gradient to the `grad` of every leaf that requires one. `gradient` defaults to 1 for a single element."""
        if torch:
            hint = "what it has used is freed, so add the losses and call it once; there are no second derivatives"
            raise TypeError(f"backward(): there is no argument {next(iter(torch))!r}; it takes gradient; {hint}")
        if not self.requires_grad:
            raise RuntimeError("backward(): this tensor requires no gradient; it has no history (made under no_grad, or from constants)")
        if gradient is None:
            if self.size != 1:
                raise ValueError(f"backward() without a gradient needs one element, got shape {self.shape}; pass gradient= of that shape")
            seed = _C.constant(np.ones(self.shape, np.float32), self.device, self.dtype)
        elif isinstance(gradient, (int, float)) and self.shape == ():
            seed = _C.constant(np.asarray(gradient, np.float64), self.device, self.dtype)
        else:
            seed = ops.elementwise.made_beside(self, gradient, "backward(): gradient")._array
            if seed.shape != self.shape:
                raise ValueError(f"backward(): gradient has shape {seed.shape}; expected {self.shape}")
        with no_grad():
            run_backward(self, seed)

    # --- arithmetic and friends; definitions with gradients are in fastnn/ops

    def reshape(self, *shape: Any) -> Tensor:
        return ops.reshape(self, shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape)

    @property
    def T(self) -> Tensor:
        return ops.transpose(self, None)


# apply(op, *inputs): runs op.forward on the inputs' arrays and records it when one of them requires a gradient: csrc/bind_tape.cpp
apply: Callable[..., Tensor] = _C.tape(Tensor, Op, serials)
leaves.checked(Tensor)


def _rebuild(cls: type[Tensor], values: np.ndarray, requires_grad: bool, dtype: str = "") -> Tensor:
    result = cls.__new__(cls)
    Tensor.__init__(result, _C.from_numpy(values, dtype=dtype), requires_grad)
    return result


_kept = ("float32", "uint8", "int64", "bool")


class _Move(Op):
    """To another device, and the gradient back."""

    __slots__ = ("there", "here")

    def __init__(self, there: str) -> None:
        self.there = there

    def forward(self, x: Array) -> Array:
        self.save()
        self.here = x.device
        return x.to(self.there)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return (dy.to(self.here),)


def tensor(array: ArrayLike, dtype: str | None = None, requires_grad: bool = False, device: str = "cpu") -> Tensor:
    """Copies anything numpy can read into a Tensor on `device`.

    Without `dtype`: float64 and float16 become float32, integers int64 except uint8, which stays, as does a Tensor. `dtype` is one of "float32",
    "float64", "bfloat16" (see ops.cast), "uint8", "int64", "bool". Raises TypeError for values that are not numbers, and when integers or
    bfloat16 are to require a gradient; ValueError for another dtype, and for numbers beyond an integer type (fractions are cut off).
    """
    values = array.numpy() if isinstance(array, Tensor) else checked_array("fastnn.tensor", "array", array)
    if values.dtype.kind in "OSUMmcV":
        raise TypeError(f"fastnn.tensor: cannot use values of dtype {values.dtype}; expected numbers or booleans")
    if dtype is None:
        given = array.dtype if isinstance(array, Tensor) else values.dtype.name
        dtype = given if isinstance(array, Tensor) or given in _kept else "float32" if values.dtype.kind == "f" else "int64"
    if (name := dtype_name(dtype)) not in (*_kept, "float64", "bfloat16"):
        refusal = ValueError if isinstance(dtype, str) else TypeError
        raise refusal(f"fastnn.tensor: dtype {shown(dtype)} is not one of float32, float64, bfloat16, uint8, int64, bool")
    if flag("fastnn.tensor", "requires_grad", requires_grad) and name not in ("float32", "float64"):
        raise TypeError(f"fastnn.tensor: only float tensors can require a gradient, got {name}")
    refuse_other_integers("fastnn.tensor", values, name)
    held = values if name == "bfloat16" else values.astype(name, copy=False)  # numpy has no bfloat16
    return Tensor(_C.from_numpy(held, devices.resolve(device), name), requires_grad)


from . import ops  # noqa: E402  (last: ops is built on the names above, Tensor's methods only look it up when called)
