"""Denoising diffusion of the target entries."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from st2llm.encode.field_batch import FieldBatch
from st2llm.encode.trajectory_batch import TrajectoryBatch
from st2llm.model.objectives.noise_schedule import NoiseSchedule
from st2llm.model.objectives.objective import SingleTermObjective


@dataclass(frozen=True)
class NoisedBatch:
    """Samples, their residuals noised to the time `t`, and the target of the prediction."""

    batch: FieldBatch | TrajectoryBatch
    noised: Float[Tensor, "batch *entry"]
    target: Float[Tensor, "batch *entry"]
    t: Float[Tensor, " batch"]

    def __len__(self) -> int:
        return len(self.batch)

    def take(self, rows: Sequence[int]) -> "NoisedBatch":
        index = torch.as_tensor(list(rows), dtype=torch.int64)
        return NoisedBatch(self.batch.take(rows), self.noised[index], self.target[index], self.t[index])

    def to(self, device: torch.device) -> "NoisedBatch":
        return NoisedBatch(
            self.batch.to(device), self.noised.to(device), self.target.to(device), self.t.to(device)
        )


class DiffusionObjective(SingleTermObjective):
    """Noise on the target entries only, predicted from the visible ones (CSDI, Tashiro 2021; DiffSTG, Wen 2023).

    The noised quantity is the truth minus the base, standardised (of a path in its mean steps). The loss is the
    mean squared error of the prediction.
    """

    name = "diffusion"

    def __init__(self, schedule: NoiseSchedule) -> None:
        self.schedule = schedule

    def draw(self, batch: FieldBatch | TrajectoryBatch, generator: torch.Generator) -> NoisedBatch:
        x = batch.residual()
        t = torch.rand(len(batch), generator=generator).clamp(min=1e-3).to(x.device)
        noise = torch.randn(x.shape, generator=generator).to(x.device)
        noised = self.schedule.add_noise(x, noise, t) * batch.target_mask
        return NoisedBatch(batch, noised, self.schedule.target(x, noise, t), t)

    def counts(self, batch: NoisedBatch) -> dict[str, int]:
        return {self.name: int(batch.batch.target_mask.sum())}

    def totals(self, arm: nn.Module, batch: NoisedBatch) -> dict[str, Tensor]:
        prediction: Tensor = arm.predict_noise(batch.batch, batch.noised, batch.t)  # type: ignore[operator]
        return {self.name: (((prediction - batch.target) ** 2) * batch.batch.target_mask).sum()}
