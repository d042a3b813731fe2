"""Noise on what is hidden, and back: schedules, what the model says, and the samplers that undo the noise.

Sources: DDPM (Ho et al. 2020: linear), improved DDPM (Nichol and Dhariwal 2021: cosine), CSDI (Tashiro et al. 2021:
quadratic, noise on the hidden entries alone), DDIM (Song et al. 2021), v-prediction (Salimans and Ho 2022), flow
matching and rectified flow (Lipman et al. 2023; Liu et al. 2023).
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from st2llm.errors import ConfigError, nearest

ScheduleName = Literal["linear", "cosine", "quadratic", "flow"]
PredictionType = Literal["epsilon", "velocity"]
_STEPS = 1000


@dataclass(frozen=True)
class Schedule:
    """x_t = a(t) x + s(t) noise for t from 0 (data) to 1 (noise).

    prediction_type: what the model is trained to predict. Of 'flow', where a = 1 - t and s = t, always the velocity
    noise - x; of the others the velocity is a noise - s x.
    """

    name: str = "cosine"
    prediction_type: str = "epsilon"

    def __post_init__(self) -> None:
        if self.name not in get_args(ScheduleName):
            known = get_args(ScheduleName)
            raise ConfigError(f"There is no noise schedule {self.name!r}. {nearest(self.name, known)}")
        if self.prediction_type not in get_args(PredictionType):
            raise ConfigError(
                f"There is no prediction type {self.prediction_type!r}. "
                f"{nearest(self.prediction_type, get_args(PredictionType))}"
            )
        if self.name == "flow" and self.prediction_type != "velocity":
            raise ConfigError("The schedule 'flow' predicts the velocity. Set prediction_type: velocity.")

    def at(self, t: Float[Tensor, " batch"]) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """Signal a and noise s at these times."""
        if self.name == "flow":
            return 1 - t, t
        if self.name == "cosine":
            angle = (t + 0.008) / 1.008 * math.pi / 2
            kept = (torch.cos(angle) / math.cos(0.008 / 1.008 * math.pi / 2)).clamp(min=1e-3, max=1.0)
            return kept, (1 - kept**2).clamp(min=0).sqrt()
        low, high = 1e-4, 0.02
        share = torch.linspace(0, 1, _STEPS, dtype=torch.float64)
        if self.name == "quadratic":
            beta = (low**0.5 + share * (high**0.5 - low**0.5)) ** 2
        else:
            beta = low + share * (high - low)
        kept_squared = torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - beta, dim=0)])
        place = t.double().cpu() * _STEPS
        below = place.floor().clamp(max=_STEPS - 1).long()
        squared = torch.lerp(kept_squared[below], kept_squared[below + 1], place - below).to(t)
        return squared.sqrt(), (1 - squared).clamp(min=0).sqrt()

    def noised(
        self,
        x: Float[Tensor, "batch *entry"],
        noise: Float[Tensor, "batch *entry"],
        t: Float[Tensor, " batch"],
    ) -> Float[Tensor, "batch *entry"]:
        a, s = (_rows(part, x) for part in self.at(t))
        return a * x + s * noise

    def target(
        self,
        x: Float[Tensor, "batch *entry"],
        noise: Float[Tensor, "batch *entry"],
        t: Float[Tensor, " batch"],
    ) -> Float[Tensor, "batch *entry"]:
        """What the model should say of `noised(x, noise, t)`."""
        if self.prediction_type == "epsilon":
            return noise
        if self.name == "flow":
            return noise - x
        a, s = (_rows(part, x) for part in self.at(t))
        return a * noise - s * x

    def undone(
        self,
        noisy: Float[Tensor, "batch *entry"],
        said: Float[Tensor, "batch *entry"],
        t: Float[Tensor, " batch"],
    ) -> tuple[Float[Tensor, "batch *entry"], Float[Tensor, "batch *entry"]]:
        """The data and the noise that make up `noisy`, if what the model said is right."""
        a, s = (_rows(part, noisy) for part in self.at(t))
        if self.prediction_type == "epsilon":
            return (noisy - s * said) / a, said
        if self.name == "flow":
            return noisy - s * said, noisy + a * said
        return a * noisy - s * said, s * noisy + a * said

    def stepped(
        self,
        noisy: Float[Tensor, "batch *entry"],
        said: Float[Tensor, "batch *entry"],
        t: Float[Tensor, " batch"],
        until: Float[Tensor, " batch"],
        *,
        limit: float,
    ) -> Float[Tensor, "batch *entry"]:
        """One step of DDIM from t to a smaller time (of 'flow' the same as a step of Euler).

        limit: data is held within it, for at high noise what the model says is magnified.
        """
        x, _ = self.undone(noisy, said, t)
        x = x.clamp(-limit, limit)
        a, s = (_rows(part, noisy) for part in self.at(t))
        noise = (noisy - a * x) / s.clamp(min=1e-6)
        return self.noised(x, noise, until)


def _rows(part: Float[Tensor, " batch"], like: Float[Tensor, "batch *entry"]) -> Tensor:
    return part.reshape(-1, *([1] * (like.ndim - 1)))
