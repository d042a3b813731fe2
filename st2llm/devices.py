"""The device that tensors are placed on, and what it can do. No other module asks torch for devices."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from st2llm.errors import ConfigError

CPU = torch.device("cpu")
_PINNED = ("cuda", "xpu")
"""Kinds of devices that copy from pinned memory on their own."""
_chosen: ContextVar[torch.device | None] = ContextVar("st2llm_device", default=None)


def best_device() -> torch.device:
    """The accelerator that torch finds (CUDA, MPS, XPU, ...), otherwise the CPU.

    As accelerate does, it takes the accelerator number $LOCAL_RANK in a process of several, and the CPU where
    $ACCELERATE_USE_CPU is set. In `using`, the device chosen there.
    """
    if (chosen := _chosen.get()) is not None:
        return chosen
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is None or os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes"):
        return CPU
    rank = int(os.environ.get("LOCAL_RANK", "-1"))
    return accelerator if rank < 0 else torch.device(accelerator.type, rank)


@contextmanager
def using(device: torch.device) -> Iterator[None]:
    """A context in which models and encoders are loaded onto this device."""
    token = _chosen.set(device)
    try:
        yield
    finally:
        _chosen.reset(token)


def find_device(name: str | None) -> torch.device:
    """The device of a name such as 'cpu', 'cuda' or 'cuda:1'; None for the best one.

    Raises ConfigError for a name that torch does not know, and for a device that this machine lacks.
    """
    if name is None:
        return best_device()
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            f"{name!r} is not the name of a device. Give cpu, cuda, cuda:1, mps or xpu."
        ) from error
    available = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else CPU
    count = 1 if is_cpu(device) else torch.accelerator.device_count()
    if device.type not in (CPU.type, (available or CPU).type) or (device.index or 0) >= count:
        raise ConfigError(
            f"The device {name!r} was asked for, but torch {torch.__version__} finds {', '.join(device_names())}. "
            f"Install a build of torch for it, or choose one of these."
        )
    return device


def device_names() -> list[str]:
    """The devices of this machine: cpu, and each accelerator by its product name."""
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ["cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]


def is_cpu(device: torch.device) -> bool:
    """Whether a device is the CPU."""
    return device.type == CPU.type


def on_cpu(tensor: Tensor) -> bool:
    """Whether a tensor is in the memory of the CPU."""
    return is_cpu(tensor.device)


def has_avx() -> bool:
    """Whether torch computes with AVX2 or AVX512 on this CPU."""
    return "AVX" in torch.backends.cpu.get_cpu_capability()


def has_native_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 natively."""
    if not is_cpu(device):
        return True
    flags = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(flags.get("avx512_bf16") or flags.get("amx_bf16") or flags.get("bf16"))


def has_onednn_linear() -> bool:
    """Whether this build of torch has oneDNN's linear layers, for tensors on the CPU."""
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def seed_generator(device: torch.device, seed: int) -> None:
    """Seeds the generator that a module on this device draws from.

    `torch.manual_seed` formats the stack of calls for each kind of device that is not in use, 2 ms each time.
    """
    if is_cpu(device):
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def move(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device. A copy to CUDA or XPU goes through pinned memory, and this process does not wait for it.

    What the device does next waits, so no result depends on it.
    """
    if on_cpu(tensor) and device.type in _PINNED:
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def synchronise(device: torch.device) -> None:
    """Waits until the device has done all work that was queued, before time is taken."""
    if not is_cpu(device):
        torch.accelerator.synchronize(device)
