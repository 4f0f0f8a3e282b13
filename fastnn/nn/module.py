"""Module and Parameter: attributes that are parameters, buffers or modules are found by name, as in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .. import _C, devices, recording, scopes
from ..arguments import flag, function, instance, text
from ..kept import Kept, as_buffer
from ..ops.refusals import typed
from ..tensor import ArrayLike, Tensor, tensor
from .attributes import GUARDED, Keeper, checked, checked_name, guarded, keepers, missing, no_forward, of_other_kind, take_in
from .errors import locate, refuse_what_is_no_tensor
from .state import IncompatibleKeys, load
from .unseen import warn_of_unseen

if TYPE_CHECKING:
    from .summary import Summary

M = TypeVar("M", bound="Module")
Hook = Callable[["Module", tuple[Any, ...], Any], Any]


class Parameter(Kept):
    """A Tensor that a Module trains: `nn.Parameter(array)`, float32 unless `dtype` or a Tensor says float64. TypeError for what cannot be trained."""

    __slots__ = ()

    def __init__(self, values: ArrayLike, dtype: str | None = None, requires_grad: bool = True) -> None:
        flag("Parameter", "requires_grad", requires_grad)
        if isinstance(dtype, bool):
            raise TypeError(f"Parameter: dtype must be a word such as 'float32', got {dtype}; by its name it is requires_grad={dtype}")
        made = tensor(values, dtype, requires_grad and dtype is not None)  # refuses what cannot require one
        super().__init__((made if dtype or made.dtype[:5] == "float" else tensor(made, "float32"))._array, requires_grad)


class HookHandle:
    """What register_forward_hook returns; `remove()` takes the hook out again."""

    def __init__(self, hooks: list[list[Hook]], entry: list[Hook]) -> None:
        self._hooks, self._entry = hooks, entry

    def remove(self) -> None:
        """This one, however often its function is registered."""
        self._hooks[:] = [entry for entry in self._hooks if entry is not self._entry]


@guarded
class Module:
    """A layer or a network: subclass it, make parameters and sub-modules attributes in `__init__` (after `super().__init__()`), write `forward`."""

    training: bool
    _keepers: Mapping[str, Keeper] = {}

    def __init_subclass__(cls) -> None:
        if cls.__module__.startswith(__name__.rpartition(".")[0]) and "__init__" in vars(cls):
            cls._keepers = {**cls._keepers, **keepers(cls.__init__)}
            cls.__init__ = typed(cls.__init__)  # type: ignore[method-assign]

    def __init__(self) -> None:
        self.__dict__.update(_parameters={}, _buffers={}, _modules={}, _hooks=[], training=True)

    # --- attributes

    def __setattr__(self, name: str, value: Any) -> None:
        if "_modules" not in self.__dict__:
            if isinstance(value, (Parameter, Module)):
                raise AttributeError(f"{type(self).__name__}: call super().__init__() before assigning {name}")
            return super().__setattr__(name, value)
        if name in GUARDED:
            value = checked(self, name, value)
        kind = self._parameters if isinstance(value, Parameter) else self._modules if isinstance(value, Module) else None
        if kind is not None:
            return take_in(self, kind, name, value)
        for registry in (self._parameters, self._buffers, self._modules):
            if name in registry:
                if value is not None and (registry is not self._buffers or not isinstance(value, Tensor)):
                    raise of_other_kind(self, name, registry[name], value)
                registry[name] = as_buffer(value)
                return None
        return super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        for registry in ("_parameters", "_buffers", "_modules"):
            found = self.__dict__.get(registry)
            if found is not None and name in found:
                if recording.under_way:
                    recording.know(self)
                return found[name]
        raise missing(self, name)

    def __delattr__(self, name: str) -> None:
        for registry in (self._parameters, self._buffers, self._modules):
            if name in registry:
                del registry[name]
                return
        super().__delattr__(name)

    def register_parameter(self, name: str, value: Parameter | None) -> None:
        """Declares a parameter; None keeps the name for one that is absent (a bias that is switched off)."""
        instance("register_parameter", "value", value, (Parameter, type(None)), "an nn.Parameter or None")
        self._parameters[checked_name(self, name, "parameter")] = value

    def register_buffer(self, name: str, value: Tensor | None, persistent: bool = True) -> None:
        """Declares a tensor that belongs to the state but is not trained (running statistics). ValueError for persistent=False."""
        if not flag("register_buffer", "persistent", persistent):
            raise ValueError(
                "register_buffer: persistent=False is not there: each buffer is in the state; expected a plain attribute instead"
            )
        instance("register_buffer", "value", value, (Tensor, type(None)), "a Tensor or None")
        self._buffers[checked_name(self, name, "buffer")] = as_buffer(value)

    # --- calling

    def forward(self, *args: Any, **keywords: Any) -> Any:
        raise no_forward(self)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        depth = recording.see_module(self) if recording.under_way else None
        try:
            result = self.forward(*args, **keywords)
        except (ValueError, TypeError, FloatingPointError, _C.DeviceError, _C.OutOfMemoryError) as error:
            locate(error, self)
            raise
        except AttributeError as error:
            refuse_what_is_no_tensor(self, args, error)
            raise
        finally:
            if depth is not None:
                scopes.leave(depth)
        for (hook,) in tuple(self._hooks):  # one may remove itself
            changed = hook(self, args, result)
            result = result if changed is None else changed
        return result

    def absorbs(self, following: Sequence[Module]) -> tuple[int, dict[str, Any]]:
        """How many of the modules that follow can run inside this one, and with which keywords its forward does so: see `in_turn`."""
        return 0, {}

    def register_forward_hook(self, hook: Hook) -> HookHandle:
        """Calls hook(module, args, output) after each forward; a result that is not None replaces the output."""
        self._hooks.append([function("register_forward_hook", "hook", hook, "a function of (module, args, output)")])
        return HookHandle(self._hooks, self._hooks[-1])

    # --- walking

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it, each once, with dotted names."""
        seen: set[int] = set()
        stack: list[tuple[str, Module]] = [(text("named_modules", "prefix", prefix), recording.know(self))]
        while stack:
            name, module = stack.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            yield name, module
            stack.extend((f"{name}.{n}" if name else n, m) for n, m in reversed(list(module._modules.items())) if m is not None)

    def modules(self) -> Iterator[Module]:
        return (m for _, m in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        return ((n, m) for n, m in recording.know(self)._modules.items() if m is not None)

    def children(self) -> Iterator[Module]:
        return (m for _, m in self.named_children())

    def _named(self, kind: str, prefix: str, recurse: bool) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        for path, module in self.named_modules(prefix):
            for name, value in getattr(module, kind).items() if flag("Module", "recurse", recurse) or module is self else ():
                if value is not None and id(value) not in seen:
                    seen.add(id(value))
                    yield f"{path}.{name}" if path else name, value

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        """Every parameter once, with its dotted name behind `prefix`, in the order of definition; recurse=False: this module's own."""
        return self._named("_parameters", prefix, recurse)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        warn_of_unseen(self)
        return (p for _, p in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        return self._named("_buffers", prefix, recurse)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        return (b for _, b in self.named_buffers(recurse=recurse))

    def apply(self: M, fn: Callable[[Module], Any]) -> M:
        """Calls fn on every module below and on this one, children before what holds them (once for each of those), as PyTorch, and on what they were."""
        function("Module.apply", "fn", fn, "a function of a module")
        for module in dict.fromkeys(self.children()):
            module.apply(fn)
        fn(self)
        return self

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Freezes every parameter below (False), so that backward does no work for it, or trains it again."""
        for parameter in self.parameters():
            parameter.requires_grad = flag("requires_grad_", "requires_grad", requires_grad)
        return self

    # --- state

    def _state(self, prefix: str = "") -> dict[str, Tensor]:
        """Under every name: a module that is held under two has both, as in PyTorch."""
        own = (*self._parameters.items(), *self._buffers.items())
        state: dict[str, Tensor] = {prefix + name: value for name, value in own if value is not None}
        for name, child in self.named_children():
            state.update(child._state(f"{prefix}{name}."))
        return state

    def state_dict(self, prefix: str = "") -> dict[str, np.ndarray]:
        """Parameters and buffers as copies in numpy arrays, with PyTorch's keys, each behind `prefix` ("net."), and shapes."""
        return {name: np.array(value.numpy(), order="C") for name, value in self._state(text("state_dict", "prefix", prefix)).items()}

    def load_state_dict(self, state: Mapping[str, ArrayLike], strict: bool = True) -> IncompatibleKeys:
        """Overwrites parameters and buffers in place from a dict of arrays (numpy, Tensors, PyTorch tensors).

        All or nothing: ValueError names every key that is missing, unexpected (unless strict=False), of another shape or not a number;
        nothing is changed then. Returns (missing_keys, unexpected_keys), which are what strict=False left out; it warns where that is all.
        """
        return load(self, state, strict)

    def train(self: M, mode: bool = True) -> M:
        """Training mode: dropout drops, batch normalisation uses the batch. Calls train(mode) of each module below, which may see to its own."""
        self.__dict__["training"] = flag("Module.train", "mode", mode)
        for child in self.children():
            child.train(mode)
        return self

    def eval(self: M) -> M:
        """Evaluation mode."""
        return self.train(False)

    def double(self: M) -> M:
        """Parameters and buffers of a float type become float64 (for gradient checks; runs on the portable kernels)."""
        return self._convert("float64")

    def float(self: M) -> M:
        """Parameters and buffers of a float type become float32."""
        return self._convert("float32")

    def to(self: M, device: str) -> M:
        """Moves parameters and buffers of a float type to a device ("cpu", "cuda", "cuda:1"), gradients are forgotten. Counters stay with
        the CPU, which counts. An optimizer made before keeps its parameters and follows them."""
        there = devices.resolve(device)
        for value in self._state().values():
            if "float" in value.dtype and value.device != there:
                value._array, value.grad = value._array.to(there), None
        return self

    def cuda(self: M) -> M:
        """to("cuda")."""
        return self.to("cuda")

    def cpu(self: M) -> M:
        """to("cpu")."""
        return self.to("cpu")

    def _convert(self: M, dtype: str) -> M:
        for value in self._state().values():
            if "float" in value.dtype:
                value._array, value.grad = tensor(value, dtype, device=value.device)._array, None
        return self

    def zero_grad(self) -> None:
        """Forgets the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    def summary(self, input_shape: tuple[int, ...]) -> Summary:
        """Shapes, parameters and multiply-adds of every layer for one input of `input_shape` (without the batch): print it."""
        from .summary import summary

        return summary(self, input_shape)

    # --- looking at it

    def extra_repr(self) -> str:
        """What stands between the parentheses of a layer's repr."""
        return ""

    def __repr__(self) -> str:
        if not self._modules:
            return f"{type(self).__name__}({self.extra_repr()})"
        lines = [*self.extra_repr().splitlines(), *(f"({name}): {m!r}".replace("\n", "\n  ") for name, m in self._modules.items())]
        return "\n  ".join([f"{type(self).__name__}(", *lines]) + "\n)"
