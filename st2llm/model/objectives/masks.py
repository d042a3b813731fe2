"""Mask policies of masked pre-training, for whole batches of windows.

The survey's mask study and UniST (Yuan et al. 2024) name them; all hide about `ratio` of a window's entries.
"""

from typing import get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from st2llm.config.objectives import MaskPolicy
from st2llm.errors import ConfigError, nearest
from st2llm.types import Edges

POLICIES: tuple[str, ...] = get_args(MaskPolicy)


def draw_mask(
    policy: str,
    ratio: float,
    shape: tuple[int, int, int],
    edges: Edges,
    generator: torch.Generator,
) -> Bool[Tensor, "batch time node 1"]:
    """True where a window is hidden, all channels of an entry alike. shape: windows, steps, places.

    random: single entries. tube: whole places over all steps. span: all places over consecutive steps. future:
    all places over the last steps, the temporal mask of UniST. cluster: neighbouring places over all steps.
    block: neighbouring places over consecutive steps. At least one entry of each window is hidden and one
    remains visible. Raises ConfigError for an unknown policy or a ratio that is not between 0 and 1.
    """
    if policy not in POLICIES:
        raise ConfigError(f"There is no mask policy {policy!r}. {nearest(policy, POLICIES)}")
    if not 0 < ratio < 1:
        raise ConfigError(f"The ratio of a mask lies between 0 and 1, but it is {ratio}.")
    b, t, n = shape
    if policy == "random":
        return _lowest_scores(torch.rand((b, t, n), generator=generator), ratio)[..., None]
    if policy == "tube":
        places = _lowest_scores(torch.rand((b, n), generator=generator), ratio)
        return places[:, None].expand(b, t, n)[..., None].clone()
    if policy in ("span", "future"):
        run = _draw_span(b, t, ratio, generator, at_end=policy == "future")
        return run[:, :, None].expand(b, t, n)[..., None].clone()
    share = ratio if policy == "cluster" else ratio**0.5
    places = _lowest_scores(_hop_distance(b, n, edges, generator), share)
    steps = _draw_span(b, t, share, generator) if policy == "block" else torch.ones((b, t), dtype=torch.bool)
    return (steps[:, :, None] & places[:, None])[..., None]


def _lowest_scores(score: Float[Tensor, "batch *entry"], ratio: float) -> Bool[Tensor, "batch *entry"]:
    """The entries of each row with the lowest scores; their share is the ratio."""
    flat = score.flatten(1)
    count = min(max(1, round(ratio * flat.shape[1])), max(1, flat.shape[1] - 1))
    selected = torch.zeros_like(flat, dtype=torch.bool)
    selected.scatter_(1, flat.argsort(dim=1)[:, :count], True)
    return selected.reshape(score.shape)


def _draw_span(
    b: int, t: int, ratio: float, generator: torch.Generator, *, at_end: bool = False
) -> Bool[Tensor, "batch time"]:
    length = min(max(1, round(ratio * t)), max(1, t - 1))
    first = t - length if at_end else 0
    start = torch.randint(first, t - length + 1, (b, 1), generator=generator)
    step = torch.arange(t)
    return (step >= start) & (step < start + length)


def _hop_distance(b: int, n: int, edges: Edges, generator: torch.Generator) -> Float[Tensor, "batch node"]:
    """Number of edges between each place and a randomly drawn one, for each window, plus a random fraction to
    break ties.
    """
    near = torch.zeros((n, n))
    source, target = torch.from_numpy(edges.source), torch.from_numpy(edges.target)
    near[source, target] = near[target, source] = 1.0
    reached = torch.nn.functional.one_hot(torch.randint(n, (b,), generator=generator), n).float()
    away = torch.full((b, n), float(n))
    away[reached > 0] = 0.0
    for hops in range(1, n):
        next_reached = ((reached + reached @ near) > 0).float()
        if torch.equal(next_reached, reached):
            break
        away[(next_reached > 0) & (reached == 0)] = float(hops)
        reached = next_reached
    return away + 0.5 * torch.rand((b, n), generator=generator)
