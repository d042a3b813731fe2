"""The encoder with heads for whole windows: what `st2llm pretrain` trains, for any mask and any objective."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from st2llm.align.head import NumberHead
from st2llm.encode.batch import FieldBatch
from st2llm.encode.field import FieldShape
from st2llm.encode.points import PointBatch
from st2llm.errors import ConfigError
from st2llm.model.arm import Arm, Blueprint, encoder_of, head_of
from st2llm.model.diffusion import Schedule

_LIMIT = 8.0
"""Standard deviations that a sampled residual is held within."""


class Windowed(nn.Module):
    """One encoder that reads a whole window, hidden entries as unseen, and heads that speak of each of its entries.

    head: what hidden entries are (regression, masked). project: where windows are compared (contrastive). denoise:
    what noise there is (diffusion); `level` tells the encoder the time of the noise.
    Its blueprint's shape is `amid`: a forecast is a window whose last steps are hidden.
    """

    def __init__(self, blueprint: Blueprint, *, seed: int, schedule: Schedule | None = None) -> None:
        super().__init__()
        shape, d = blueprint.shape, blueprint.encoder.d_st
        if not isinstance(shape, FieldShape) or not shape.amid:
            raise ConfigError("Whole windows are windows of fields: give a FieldShape with amid=True.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = encoder_of(blueprint)
            self.head = head_of(blueprint)
            self.project = comparison_head(d)
            self.denoise = NumberHead(d, context=0, horizon=shape.horizon, channels=shape.channels)
            self.level = nn.Sequential(nn.Linear(2 * _WAVES, d), nn.GELU(), nn.Linear(d, d))
        self.schedule = schedule or Schedule()

    def embedded(self, batch: FieldBatch) -> Float[Tensor, "batch node d_st"]:
        """The embedding of each place."""
        z: Tensor = self.encoder(batch)[:, self.encoder.asked]
        return z

    def forward(self, batch: FieldBatch) -> Float[Tensor, "batch time node channel"]:
        answer: Tensor = self.head(self.embedded(batch), batch)
        return answer

    def denoised(
        self, batch: FieldBatch, noised: Float[Tensor, "batch time node channel"], t: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch time node channel"]:
        """What the model says of the noised entries, given the visible ones."""
        seen = torch.where(batch.visible, batch.values, noised)
        z = self.encoder(replace(batch, values=seen), self.level(_waves(t)))[:, self.encoder.asked]
        said: Tensor = self.denoise.correction(z)
        # What is hardly noised is nearly known: the head says what is left.
        return said + noised if self.schedule.says == "epsilon" else said

    @torch.inference_mode()
    def sampled(
        self, batch: FieldBatch, *, draws: int, steps: int, generator: torch.Generator
    ) -> Float[Tensor, "draw batch time node channel"]:
        """Draws of the hidden entries, standardised: from noise, in so many steps of DDIM (of flow: Euler)."""
        self.eval()
        return torch.stack(list(self._draws(batch, draws, steps, generator)))

    def _draws(
        self, batch: FieldBatch, draws: int, steps: int, generator: torch.Generator
    ) -> Iterator[Float[Tensor, "batch time node channel"]]:
        device, hidden = batch.values.device, ~batch.visible
        times = torch.linspace(1.0, 0.0, steps + 1, device=device)
        for _ in range(draws):
            x = torch.randn(batch.values.shape, generator=generator).to(device) * hidden
            for now, until in itertools.pairwise(times):
                t = now.expand(len(batch))
                said = self.denoised(batch, x, t)
                x = self.schedule.stepped(x, said, t, until.expand(len(batch)), limit=_LIMIT) * hidden
            yield batch.base + x


class Sequenced(Arm):
    """The arm of sequences without a backbone, with a head where they are compared (contrastive)."""

    def _make(self, b: Blueprint) -> None:
        super()._make(b)
        self.project = comparison_head(b.encoder.d_st)

    def embedded(self, batch: PointBatch) -> Float[Tensor, "batch 1 d_st"]:
        """The embedding of each sequence: of its question."""
        z: Tensor = self.encoder(batch)[:, -1:]
        return z


def comparison_head(d_st: int) -> nn.Module:
    """Between embeddings and what is compared of them; thrown away afterwards (SimCLR, Chen et al. 2020)."""
    return nn.Sequential(nn.Linear(d_st, d_st), nn.GELU(), nn.Linear(d_st, d_st))


_WAVES = 8


def _waves(t: Float[Tensor, " batch"]) -> Float[Tensor, "batch wave"]:
    angle = t[:, None] * torch.pi * 2.0 ** torch.arange(_WAVES, device=t.device)
    return torch.cat([angle.sin(), angle.cos()], dim=1)
