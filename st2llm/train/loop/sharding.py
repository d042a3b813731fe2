"""Layers whose weights, gradients and optimiser state are spread over the processes of a run (FSDP2).

By torch's `fully_shard` (Zhao et al. 2023, "PyTorch FSDP"). Each process holds a part of every decoder layer, and
gathers a layer while it computes. The other weights (embeddings, final norm) are whole in each process.
"""

import os
from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from st2llm.errors import TrainingError


def check_launch() -> None:
    """Raises TrainingError where `accelerate launch` was given a config of DeepSpeed."""
    if _is_on("ACCELERATE_USE_DEEPSPEED"):
        raise TrainingError(
            "Training runs on DDP and FSDP, but was launched with a config of DeepSpeed. For the memory that ZeRO-3 "
            "saves, launch it with alignment/accelerate/eight-gpus-fsdp.yaml."
        )


def is_asked_for() -> bool:
    """Whether `accelerate launch` was given a config of `distributed_type: FSDP`."""
    return _is_on("ACCELERATE_USE_FSDP")


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("1", "true")


def shard(base: nn.Module, layers: Iterable[nn.Module], device: torch.device) -> None:
    """Spreads the layers of a language model over all processes, in place.

    fsdp_reshard_after_forward: false of the launch config keeps a layer whole from its forward to its backward pass.
    """
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    reshard = os.environ.get("FSDP_RESHARD_AFTER_FORWARD", "true").lower() != "false"
    inside: set[nn.Parameter] = set()
    for layer in layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=reshard)
        inside |= set(layer.parameters())
    fully_shard(base, mesh=mesh, ignored_params=set(base.parameters()) - inside)


@torch.no_grad()
def gather(tensor: Tensor) -> Tensor:
    """A copy of the whole tensor, in every process; all of them must call this."""
    whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return whole.detach().clone()


def place_like(value: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor, as `gather` returns it, on the device of a parameter and spread as that is."""
    value = value.to(parameter.device)
    if isinstance(parameter, DTensor) and not isinstance(value, DTensor):
        return distribute_tensor(value, parameter.device_mesh, parameter.placements)
    return value


def groups(parameters: Sequence[Tensor]) -> list[list[Tensor]]:
    """Those that are spread and those that are whole, for an optimiser, which cannot take both at once."""
    spread: list[Tensor] = [p for p in parameters if isinstance(p, DTensor)]
    whole = [p for p in parameters if not isinstance(p, DTensor)]
    return [group for group in (spread, whole) if group]


@torch.no_grad()
def average_gradients(parameters: Sequence[Tensor]) -> None:
    """Averages over the processes the gradients of weights that are whole; of the others, FSDP has.

    A weight without a gradient in any process keeps none, so that the optimiser leaves it as it is.
    """
    whole = [p for p in parameters if not isinstance(p, DTensor)]
    if not whole:
        return
    used = torch.tensor([float(p.grad is not None) for p in whole], device=whole[0].device)
    dist.all_reduce(used)
    for parameter in (p for p, count in zip(whole, used.tolist(), strict=True) if count):
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        dist.all_reduce(gradient)
        parameter.grad = gradient / dist.get_world_size()


@torch.no_grad()
def clip_gradients(parameters: Sequence[Tensor], max_norm: float) -> None:
    """As `nn.utils.clip_grad_norm_`, over parameters of which some are spread over the processes."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    spread = [g.to_local() for g in gradients if isinstance(g, DTensor)]
    whole = [g for g in gradients if not isinstance(g, DTensor)]
    squared = torch.zeros((), device=gradients[0].device)
    squared += sum(g.float().square().sum() for g in spread)
    dist.all_reduce(squared)
    squared += sum(g.float().square().sum() for g in whole)
    factor = (max_norm / (squared.sqrt() + 1e-6)).clamp(max=1.0)
    for gradient in (*spread, *whole):
        gradient.mul_(factor)
