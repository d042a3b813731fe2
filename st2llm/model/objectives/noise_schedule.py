"""Noise schedules of diffusion models: adding noise, prediction targets, and sampling steps.

Sources: DDPM (Ho et al. 2020: linear), improved DDPM (Nichol and Dhariwal 2021: cosine), CSDI (Tashiro et al.
2021: quadratic, noise on the hidden entries only), DDIM (Song et al. 2021), v-prediction (Salimans and Ho
2022), flow matching and rectified flow (Lipman et al. 2023; Liu et al. 2023).
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
_DISCRETE_STEPS = 1000


@dataclass(frozen=True)
class NoiseSchedule:
    """x_t = a(t) x + s(t) noise for t from 0 (data) to 1 (noise).

    prediction_type: what the model predicts: the noise ('epsilon') or the velocity. For 'flow', where a = 1 - t
    and s = t, it is always the velocity noise - x; for the others the velocity is a noise - s x. Raises
    ConfigError for unknown names, and for 'flow' with 'epsilon'.
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

    def signal_and_noise(
        self, t: Float[Tensor, " batch"]
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """The factors a (signal) and s (noise) at these times."""
        if self.name == "flow":
            return 1 - t, t
        if self.name == "cosine":
            angle = (t + 0.008) / 1.008 * math.pi / 2
            signal = (torch.cos(angle) / math.cos(0.008 / 1.008 * math.pi / 2)).clamp(min=1e-3, max=1.0)
            return signal, (1 - signal**2).clamp(min=0).sqrt()
        low, high = 1e-4, 0.02
        fractions = torch.linspace(0, 1, _DISCRETE_STEPS, dtype=torch.float64)
        if self.name == "quadratic":
            beta = (low**0.5 + fractions * (high**0.5 - low**0.5)) ** 2
        else:
            beta = low + fractions * (high - low)
        signal_squared = torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - beta, dim=0)])
        position = t.double().cpu() * _DISCRETE_STEPS
        below = position.floor().clamp(max=_DISCRETE_STEPS - 1).long()
        squared = torch.lerp(signal_squared[below], signal_squared[below + 1], position - below).to(t)
        return squared.sqrt(), (1 - squared).clamp(min=0).sqrt()

    def add_noise(
        self,
        x: Float[Tensor, "batch *entry"],
        noise: Float[Tensor, "batch *entry"],
        t: Float[Tensor, " batch"],
    ) -> Float[Tensor, "batch *entry"]:
        a, s = (_per_sample(part, x) for part in self.signal_and_noise(t))
        return a * x + s * noise

    def target(
        self,
        x: Float[Tensor, "batch *entry"],
        noise: Float[Tensor, "batch *entry"],
        t: Float[Tensor, " batch"],
    ) -> Float[Tensor, "batch *entry"]:
        """The training target for `add_noise(x, noise, t)`."""
        if self.prediction_type == "epsilon":
            return noise
        if self.name == "flow":
            return noise - x
        a, s = (_per_sample(part, x) for part in self.signal_and_noise(t))
        return a * noise - s * x

    def data_and_noise(
        self,
        noisy: Float[Tensor, "batch *entry"],
        prediction: Float[Tensor, "batch *entry"],
        t: Float[Tensor, " batch"],
    ) -> tuple[Float[Tensor, "batch *entry"], Float[Tensor, "batch *entry"]]:
        """The data and the noise that make up `noisy`, if the prediction is correct."""
        a, s = (_per_sample(part, noisy) for part in self.signal_and_noise(t))
        if self.prediction_type == "epsilon":
            return (noisy - s * prediction) / a, prediction
        if self.name == "flow":
            return noisy - s * prediction, noisy + a * prediction
        return a * noisy - s * prediction, s * noisy + a * prediction

    def step(
        self,
        noisy: Float[Tensor, "batch *entry"],
        prediction: Float[Tensor, "batch *entry"],
        t: Float[Tensor, " batch"],
        until: Float[Tensor, " batch"],
        *,
        limit: float,
    ) -> Float[Tensor, "batch *entry"]:
        """One step of DDIM from t to a smaller time (for 'flow' equal to an Euler step).

        limit: bound on the predicted data, because prediction errors are magnified at high noise.
        """
        x, _ = self.data_and_noise(noisy, prediction, t)
        x = x.clamp(-limit, limit)
        a, s = (_per_sample(part, noisy) for part in self.signal_and_noise(t))
        noise = (noisy - a * x) / s.clamp(min=1e-6)
        return self.add_noise(x, noise, until)


def _per_sample(part: Float[Tensor, " batch"], like: Float[Tensor, "batch *entry"]) -> Tensor:
    return part.reshape(-1, *([1] * (like.ndim - 1)))
