"""Models for pre-training with any objective: an encoder with heads for whole windows or whole sequences."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from st2llm.align.output_head import ValueHead
from st2llm.encode.field import FieldShape
from st2llm.encode.field_batch import FieldBatch
from st2llm.encode.point_batch import PointBatch
from st2llm.encode.trajectory_batch import TrajectoryBatch
from st2llm.errors import ConfigError
from st2llm.model.arm import Arm, ArmSpec, build_encoder, build_head
from st2llm.model.objectives.noise_schedule import NoiseSchedule

_MAX_SAMPLE = 8.0
"""Sampled residuals are clamped to this many standard deviations (of paths, mean steps)."""
_TIME_FREQUENCIES = 8


class Denoiser(nn.Module, ABC):
    """Predicts the noise in hidden entries, and samples them. `level` embeds the diffusion time for the encoder."""

    schedule: NoiseSchedule
    level: nn.Module

    def predict_noise(
        self,
        batch: FieldBatch | TrajectoryBatch,
        noised: Float[Tensor, "batch *entry"],
        t: Float[Tensor, " batch"],
    ) -> Float[Tensor, "batch *entry"]:
        """The prediction for noised entries, given the visible ones."""
        prediction = self.predict_from_noisy(batch.with_noised(noised), self.level(_sinusoids(t)))
        # At low noise the input is nearly the answer; the head predicts the remainder.
        return prediction + noised if self.schedule.prediction_type == "epsilon" else prediction

    @abstractmethod
    def predict_from_noisy(
        self, batch: FieldBatch | TrajectoryBatch, time_embedding: Float[Tensor, "batch d_st"]
    ) -> Float[Tensor, "batch *entry"]:
        """The head's output for samples that contain noise."""

    @torch.inference_mode()
    def sample(
        self, batch: FieldBatch | TrajectoryBatch, *, draws: int, steps: int, generator: torch.Generator
    ) -> Float[Tensor, "draw batch *entry"]:
        """Draws of the hidden entries, standardised (of paths in metres), in `steps` steps of DDIM (of flow:
        Euler).
        """
        self.eval()
        return torch.stack(list(self._sample_draws(batch, draws, steps, generator)))

    def _sample_draws(
        self, batch: FieldBatch | TrajectoryBatch, draws: int, steps: int, generator: torch.Generator
    ) -> Iterator[Float[Tensor, "batch *entry"]]:
        hidden = batch.hidden_mask
        times = torch.linspace(1.0, 0.0, steps + 1, device=hidden.device)
        for _ in range(draws):
            x = torch.randn(hidden.shape, generator=generator).to(hidden.device) * hidden
            for now, until in itertools.pairwise(times):
                t = now.expand(len(batch))
                prediction = self.predict_noise(batch, x, t)
                x = self.schedule.step(x, prediction, t, until.expand(len(batch)), limit=_MAX_SAMPLE) * hidden
            yield batch.add_base(x)


class FieldPretrainingModel(Denoiser):
    """An encoder that reads a whole window, hidden entries as missing, with heads that predict each of its
    entries.

    head: values of hidden entries (regression, masked). project: embeddings for comparison (contrastive).
    denoise: noise in hidden entries (diffusion). The spec's shape is `amid`: a forecast is a window whose last
    steps are hidden.
    """

    def __init__(self, spec: ArmSpec, *, seed: int, schedule: NoiseSchedule | None = None) -> None:
        super().__init__()
        shape, d = spec.shape, spec.encoder.d_st
        if not isinstance(shape, FieldShape) or not shape.amid:
            raise ConfigError("Whole windows are windows of fields: give a FieldShape with amid=True.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = build_encoder(spec)
            self.head = build_head(spec)
            self.project = contrastive_projection(d)
            self.denoise = ValueHead(d, context=0, horizon=shape.horizon, channels=shape.channels)
            self.level = noise_level_embedding(d)
        self.schedule = schedule or NoiseSchedule()

    def embed(self, batch: FieldBatch) -> Float[Tensor, "batch node d_st"]:
        """The embedding of each place."""
        z: Tensor = self.encoder(batch)[:, self.encoder.output_slots]
        return z

    def forward(self, batch: FieldBatch) -> Float[Tensor, "batch time node channel"]:
        answer: Tensor = self.head(self.embed(batch), batch)
        return answer

    def predict_from_noisy(
        self, batch: FieldBatch | TrajectoryBatch, time_embedding: Float[Tensor, "batch d_st"]
    ) -> Float[Tensor, "batch *entry"]:
        prediction: Tensor = self.denoise.correction(
            self.encoder(batch, time_embedding)[:, self.encoder.output_slots]
        )
        return prediction


class SequencePretrainingModel(Arm, Denoiser):
    """The arm of sequences without a backbone, with further heads for whole sequences.

    project: embeddings for comparison (contrastive). denoise: noise in hidden places of a path (diffusion).
    """

    def __init__(self, spec: ArmSpec, *, seed: int, schedule: NoiseSchedule | None = None) -> None:
        super().__init__(spec, seed=seed)
        self.schedule = schedule or NoiseSchedule()

    def _build_modules(self, spec: ArmSpec) -> None:
        super()._build_modules(spec)
        d = spec.encoder.d_st
        self.project, self.level = contrastive_projection(d), noise_level_embedding(d)
        self.denoise = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, d), nn.GELU(), nn.Linear(d, 2))

    def embed(self, batch: PointBatch) -> Float[Tensor, "batch 1 d_st"]:
        """The embedding of each sequence: that of its query."""
        z: Tensor = self.encoder(batch)[:, -1:]
        return z

    def predict_from_noisy(
        self, batch: FieldBatch | TrajectoryBatch, time_embedding: Float[Tensor, "batch d_st"]
    ) -> Float[Tensor, "batch *entry"]:
        prediction: Tensor = self.denoise(self.encoder(batch, time_embedding)[:, :-1])
        return prediction


def contrastive_projection(d_st: int) -> nn.Module:
    """The projection head before contrastive comparison, discarded afterwards (SimCLR, Chen et al. 2020)."""
    return nn.Sequential(nn.Linear(d_st, d_st), nn.GELU(), nn.Linear(d_st, d_st))


def noise_level_embedding(d_st: int) -> nn.Module:
    """The embedding of the diffusion time."""
    return nn.Sequential(nn.Linear(2 * _TIME_FREQUENCIES, d_st), nn.GELU(), nn.Linear(d_st, d_st))


def _sinusoids(t: Float[Tensor, " batch"]) -> Float[Tensor, "batch wave"]:
    angle = t[:, None] * torch.pi * 2.0 ** torch.arange(_TIME_FREQUENCIES, device=t.device)
    return torch.cat([angle.sin(), angle.cos()], dim=1)
