"""A simulated accelerator: its tensors are in the memory of the CPU, but report another device and refuse to mix."""

import functools
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

DEVICE = torch.device("cuda", 0)
_MOVES = (
    "to",
    "cpu",
    "cuda",
    "copy_",
    "__setitem__",
    "__getitem__",
    "index_put_",
    "index_put",
    "_index_put_impl_",
)
_TO_HOST = ("numpy", "__array__")


class SimulatedDevice(TorchFunctionMode):
    """In this mode a tensor is on DEVICE where it was created or moved there, or computed from tensors that are.

    As on a GPU, a function of tensors on both devices raises RuntimeError, where the one on the CPU has dimensions;
    indices may stay on the CPU, and copies are explicit (`to`, `cpu`, `copy_`, an assignment). A tensor on DEVICE has
    no numpy array. Nothing is known of what happens inside one call of torch.

    pinned: how many tensors were copied to pinned memory.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ids: dict[int, weakref.ref[Tensor]] = {}
        self.pinned = 0

    def mark(self, value: Any) -> Any:
        """Places tensors, also those in tuples, lists and dicts, on DEVICE."""
        for tensor in _tensors(value):
            key = id(tensor)
            self._ids[key] = weakref.ref(tensor, functools.partial(self._forget, key))
        return value

    def _forget(self, key: int, reference: weakref.ref[Tensor]) -> None:
        if self._ids.get(key) is reference:
            del self._ids[key]

    def holds(self, tensor: Tensor) -> bool:
        reference = self._ids.get(id(tensor))
        return reference is not None and reference() is tensor

    def mark_module(self, module: nn.Module) -> None:
        for tensor in (*module.parameters(), *module.buffers()):
            self.mark(tensor)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        owner = getattr(func, "__self__", None)
        if name == "__get__" and owner is Tensor.device:
            return DEVICE if self.holds(args[0]) else func(*args, **kwargs)
        if name == "__get__" and owner is Tensor.is_cuda:
            return self.holds(args[0])
        given = list(_tensors((args, kwargs)))
        if name == "pin_memory":  # needs an accelerator
            self.pinned += 1
            return args[0].clone()
        inside = any(self.holds(tensor) for tensor in given)
        if name in _TO_HOST and inside:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
        target, args, kwargs = self._target(name, args, kwargs)
        if target is not None:
            result = func(*args, **kwargs)
            same = (target.type != "cpu" and not inside) or (target.type == "cpu" and inside)
            if isinstance(result, Tensor) and same and given and any(result is tensor for tensor in given):
                result = result.clone()
            return self.mark(result) if target.type == DEVICE.type else result
        if inside and name not in _MOVES:
            outside = [t for t in given if t.dim() and not self.holds(t)]
            if outside:
                raise RuntimeError(
                    f"Expected all tensors to be on the same device, but {name} got tensors on {DEVICE} and cpu "
                    f"(shapes {[tuple(t.shape) for t in outside]})."
                )
        result = func(*args, **kwargs)
        stays = name in ("copy_", "__setitem__", "index_put_")
        first_inside = bool(given) and self.holds(given[0])
        return self.mark(result) if (first_inside if stays or name == "__getitem__" else inside) else result

    def _target(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[torch.device | None, tuple[Any, ...], dict[str, Any]]:
        """The device that a call names, and its arguments with the CPU in place of it."""
        if name == "cpu":
            return torch.device("cpu"), args, kwargs
        if name == "to" and len(args) > 1 and isinstance(args[1], Tensor):
            target = DEVICE if self.holds(args[1]) else torch.device("cpu")
            return target, args, kwargs
        places = [a for a in (*args, kwargs.get("device")) if isinstance(a, torch.device)]
        if name == "to":
            places += [torch.device(a) for a in args[1:] if isinstance(a, str)]
        if isinstance(kwargs.get("device"), str):
            places.append(torch.device(kwargs["device"]))
        if not places:
            return None, args, kwargs
        cpu = torch.device("cpu")
        swapped = tuple(
            cpu if isinstance(a, torch.device) or (name == "to" and isinstance(a, str)) else a for a in args
        )
        if kwargs.get("device") is not None:
            kwargs["device"] = cpu
        return places[0], swapped, kwargs


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part)


@contextmanager
def simulated_device(*modules: nn.Module) -> Iterator[SimulatedDevice]:
    """A context in which these modules are on DEVICE."""
    mode = SimulatedDevice()
    for module in modules:
        mode.mark_module(module)
    with mode:
        yield mode
