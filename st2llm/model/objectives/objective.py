"""What an arm is trained for: totals and counts, so that parts of a batch add up to the whole.

`Regression` and `Likelihood` train an arm for the question that its windows ask. The others are for whole windows and
sequences (`model.pretraining`): `Masked`, `MaskedTracks`, `Diffusion`, `Contrastive` (`model.objectives.contrastive`),
and `Combined`, a weighted sum of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from st2llm.align.sequence_head import DRAWS, WAVES
from st2llm.encode.batch import Batch, FieldBatch
from st2llm.encode.field import FieldShape
from st2llm.encode.points import PointBatch
from st2llm.encode.sequence import SequenceShape
from st2llm.encode.trajectory import TrackBatch
from st2llm.errors import ConfigError
from st2llm.model.objectives.diffusion import Schedule
from st2llm.model.objectives.masks import draw_mask
from st2llm.types import NO_EDGES, Edges

TRACK_POLICIES = ("random", "span", "future")
"""How points of a path are hidden."""


@runtime_checkable
class Objective(Protocol):
    """What is minimised: the sum over its terms of `share * total / count`."""

    @property
    def shares(self) -> Mapping[str, float]:
        """By term: its weight, divided by what is usual of it where its unit is large."""
        ...

    @property
    def whole_batch(self) -> bool:
        """Whether windows of a batch are compared with each other, so that it must not be cut."""
        ...

    def draw(self, batch: Any, generator: torch.Generator) -> Any:
        """The batch with all that is random about a step: what is hidden, which noise is added."""
        ...

    def counts(self, batch: Any) -> dict[str, int]:
        """How many entries each term of a drawn batch has."""
        ...

    def totals(self, arm: nn.Module, batch: Any) -> dict[str, Tensor]:
        """The sum of each term over a drawn batch, or over part of one."""
        ...

    def value(self, means: Mapping[str, float]) -> float:
        """One number to choose the best state by, lower is better, from the mean of each term."""
        ...


class OneTerm:
    """An objective of a single term, without random choices."""

    name = "loss"
    usual = 1.0
    whole_batch = False

    @property
    def shares(self) -> dict[str, float]:
        return {self.name: 1 / self.usual}

    def draw(self, batch: Any, generator: torch.Generator) -> Any:
        return batch

    def value(self, means: Mapping[str, float]) -> float:
        return means[self.name]


def absolute_error(
    got: Float[Tensor, "batch time node channel"], batch: FieldBatch, scale: Float[Tensor, "node channel"]
) -> tuple[Float[Tensor, ""], int]:
    """Sum of absolute errors in raw units over valid entries, and their count.

    scale: raw units per standardised unit. The sum, not a mean of batch means, so that pooling is exact.
    """
    error = (got - batch.target).abs() * scale.to(got.device)
    return (error * batch.valid).sum(), int(batch.valid.sum())


class Regression(OneTerm):
    """Mean absolute (or squared) error in raw units of what the windows ask: the next steps, a span, whole places."""

    name = "regression"

    def __init__(self, scale: Float[Tensor, "node channel"], *, squared: bool = False) -> None:
        self.scale, self.squared = scale, squared
        self.usual = float((scale**2 if squared else scale).mean())

    def counts(self, batch: FieldBatch) -> dict[str, int]:
        return {self.name: int(batch.valid.sum())}

    def totals(self, arm: nn.Module, batch: FieldBatch) -> dict[str, Tensor]:
        got = arm(batch)
        if self.squared:
            error = (got - batch.target) * self.scale.to(got.device)
            return {self.name: (error**2 * batch.valid).sum()}
        return {self.name: absolute_error(got, batch, self.scale)[0]}


class Likelihood(OneTerm):
    """The loss of the arm's own head: a proper score of what it predicts (nats, or an energy score)."""

    name = "likelihood"

    def draw(self, batch: Any, generator: torch.Generator) -> Any:
        is_drawn = isinstance(batch, PointBatch) and batch.is_drawn
        return batch.with_noise(DRAWS, WAVES, generator) if is_drawn else batch

    def counts(self, batch: Batch) -> dict[str, int]:
        return {self.name: len(batch)}

    def totals(self, arm: nn.Module, batch: Batch) -> dict[str, Tensor]:
        head: nn.Module = arm.head  # type: ignore[assignment]
        return {self.name: head.loss(arm(batch), batch).sum()}  # type: ignore[operator]


def of_task(
    shape: FieldShape | SequenceShape, scale: Float[Tensor, "*node channel"], *, squared: bool = False
) -> Regression | Likelihood:
    """What an arm is trained for: errors of values in raw units (scale: see `Regression`), or its head's own score."""
    if isinstance(shape, SequenceShape) or shape.classes:
        return Likelihood()
    return Regression(scale, squared=squared)


class Masked(OneTerm):
    """Mean absolute error, standardised, of entries of whole windows, hidden anew at each step (and of those alone).

    policies: one is drawn for each step, as in UniST (Yuan et al. 2024). ratio: share of a window that is hidden.
    """

    name = "masked"

    def __init__(self, edges: Edges, *, policies: Sequence[str] = ("random",), ratio: float = 0.5) -> None:
        self.edges, self.policies, self.ratio = edges, tuple(policies), ratio
        for policy in self.policies:  # a wrong one is told at once, not when it is drawn
            draw_mask(policy, ratio, (1, 2, 1), NO_EDGES, torch.Generator())

    def draw(self, batch: FieldBatch, generator: torch.Generator) -> FieldBatch:
        chosen = self.policies[int(torch.randint(len(self.policies), (1,), generator=generator))]
        mask = draw_mask(chosen, self.ratio, _shape(batch), self.edges, generator)
        return batch.reveal().hide(mask.to(batch.visible.device))

    def counts(self, batch: FieldBatch) -> dict[str, int]:
        return {self.name: int(batch.valid.sum())}

    def totals(self, arm: nn.Module, batch: FieldBatch) -> dict[str, Tensor]:
        return {self.name: ((arm(batch) - batch.target).abs() * batch.valid).sum()}


class MaskedTracks(Likelihood):
    """Whole paths, points of which are hidden anew at each step; the loss is of those alone (TrajFM, Lin et al. 2024).

    policies: random points, a span of them, or the last ones (UniTraj, Zhu et al. 2025); one is drawn for each step.
    ratio: share of a path's points. What is hidden of a point, its place, its time or both, is drawn for each point (of
    a span and of the last ones, for each path).
    """

    name = "masked"

    def __init__(self, *, policies: Sequence[str] = ("random",), ratio: float = 0.5) -> None:
        for policy in policies:
            if policy not in TRACK_POLICIES:
                raise ConfigError(
                    f"Points of a path are hidden by {', '.join(TRACK_POLICIES)}, but the policy {policy!r} came: "
                    f"a path has no places beside it. Correct objectives.masked.policies."
                )
        self.policies, self.ratio = tuple(policies), ratio

    def draw(self, batch: TrackBatch, generator: torch.Generator) -> TrackBatch:
        chosen = self.policies[int(torch.randint(len(self.policies), (1,), generator=generator))]
        b, p = batch.real.shape
        points = draw_mask(chosen, self.ratio, (b, p, 1), NO_EDGES, generator)[:, :, 0]
        # 0: place and time, 1: the place alone, 2: the time alone
        part = torch.randint(3, (b, p if chosen == "random" else 1, 1), generator=generator)
        hidden = points & torch.cat([part != 2, part != 1], dim=-1)
        return batch.hide(hidden.to(batch.real.device))


@dataclass(frozen=True)
class Noisy:
    """Samples, the residuals of what they ask, noised to the time `t`, and what an arm should say of these."""

    batch: FieldBatch | TrackBatch
    noised: Float[Tensor, "batch *entry"]
    clean: Float[Tensor, "batch *entry"]
    t: Float[Tensor, " batch"]

    def __len__(self) -> int:
        return len(self.batch)

    def take(self, rows: Sequence[int]) -> "Noisy":
        index = torch.as_tensor(list(rows), dtype=torch.int64)
        return Noisy(self.batch.take(rows), self.noised[index], self.clean[index], self.t[index])

    def to(self, device: torch.device) -> "Noisy":
        return Noisy(self.batch.to(device), self.noised.to(device), self.clean.to(device), self.t.to(device))


class Diffusion(OneTerm):
    """Noise on the asked entries alone, undone by what is visible (CSDI, Tashiro 2021; DiffSTG, Wen 2023).

    What is noised is the truth less the base, standardised (of a path in its mean steps). The mean squared error of
    what the model says of it.
    """

    name = "diffusion"

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def draw(self, batch: FieldBatch | TrackBatch, generator: torch.Generator) -> Noisy:
        x = batch.residual()
        t = torch.rand(len(batch), generator=generator).clamp(min=1e-3).to(x.device)
        noise = torch.randn(x.shape, generator=generator).to(x.device)
        noised = self.schedule.noised(x, noise, t) * batch.asked
        return Noisy(batch, noised, self.schedule.target(x, noise, t), t)

    def counts(self, batch: Noisy) -> dict[str, int]:
        return {self.name: int(batch.batch.asked.sum())}

    def totals(self, arm: nn.Module, batch: Noisy) -> dict[str, Tensor]:
        said: Tensor = arm.denoised(batch.batch, batch.noised, batch.t)  # type: ignore[operator]
        return {self.name: (((said - batch.clean) ** 2) * batch.batch.asked).sum()}


@dataclass(frozen=True)
class Drawn:
    """What each term of a combination has drawn of the same windows."""

    parts: Mapping[str, Batch]

    def __len__(self) -> int:
        return len(next(iter(self.parts.values())))

    def take(self, rows: Sequence[int]) -> "Drawn":
        return replace(self, parts={name: part.take(rows) for name, part in self.parts.items()})

    def to(self, device: torch.device) -> "Drawn":
        return replace(self, parts={name: part.to(device) for name, part in self.parts.items()})


class Combined:
    """A weighted sum of objectives, each on its own draw of the same windows."""

    def __init__(self, terms: Mapping[str, tuple[Objective, float]]) -> None:
        """terms: by name, an objective of one term and its weight. Raises ConfigError where there is none."""
        if not terms:
            raise ConfigError("A combination needs at least one objective: regression, masked, ...")
        self.terms = dict(terms)

    @property
    def shares(self) -> dict[str, float]:
        return {
            name: weight * share
            for name, (term, weight) in self.terms.items()
            for share in term.shares.values()
        }

    @property
    def whole_batch(self) -> bool:
        return any(term.whole_batch for term, _ in self.terms.values())

    def draw(self, batch: Batch, generator: torch.Generator) -> Drawn:
        return Drawn({name: term.draw(batch, generator) for name, (term, _) in self.terms.items()})

    def counts(self, batch: Drawn) -> dict[str, int]:
        found = ((name, term.counts(batch.parts[name])) for name, (term, _) in self.terms.items())
        return {name: next(iter(counts.values())) for name, counts in found}

    def totals(self, arm: nn.Module, batch: Drawn) -> dict[str, Tensor]:
        found = ((name, term.totals(arm, batch.parts[name])) for name, (term, _) in self.terms.items())
        return {name: next(iter(totals.values())) for name, totals in found}

    def value(self, means: Mapping[str, float]) -> float:
        if len(self.terms) == 1:
            return next(iter(means.values()))
        return sum(self.shares[name] * mean for name, mean in means.items())


def _shape(batch: FieldBatch) -> tuple[int, int, int]:
    b, t, n, _ = batch.values.shape
    return b, t, n
