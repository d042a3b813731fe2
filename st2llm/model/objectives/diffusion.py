"""Denoising diffusion of the asked entries."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from st2llm.encode.field_batch import FieldBatch
from st2llm.encode.trajectory_batch import TrajectoryBatch
from st2llm.model.objectives.noise_schedule import Schedule
from st2llm.model.objectives.objective import OneTerm


@dataclass(frozen=True)
class Noisy:
    """Samples, the residuals of what they ask, noised to the time `t`, and what an arm should say of these."""

    batch: FieldBatch | TrajectoryBatch
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

    def draw(self, batch: FieldBatch | TrajectoryBatch, generator: torch.Generator) -> Noisy:
        x = batch.residual()
        t = torch.rand(len(batch), generator=generator).clamp(min=1e-3).to(x.device)
        noise = torch.randn(x.shape, generator=generator).to(x.device)
        noised = self.schedule.noised(x, noise, t) * batch.target_mask
        return Noisy(batch, noised, self.schedule.target(x, noise, t), t)

    def counts(self, batch: Noisy) -> dict[str, int]:
        return {self.name: int(batch.batch.target_mask.sum())}

    def totals(self, arm: nn.Module, batch: Noisy) -> dict[str, Tensor]:
        said: Tensor = arm.denoised(batch.batch, batch.noised, batch.t)  # type: ignore[operator]
        return {self.name: (((said - batch.clean) ** 2) * batch.batch.target_mask).sum()}
