"""Fracast-0, a pretrained time-series foundation model of 85,001 parameters: one dilated filter used at ten scales.

The weights are read from their PyPI wheel (Apache-2.0) without importing it; the forward pass is implemented here.
The significance-tested periodogram and the seasonal fill are those of TinyCast (arXiv:2608.15767), as the wheel says.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from st2llm.data import fetch
from st2llm.data.windows.fitted_on import FittedOn
from st2llm.predict.external.series import target_series
from st2llm.types import Prediction, Sample

REQUIREMENT = "fracast==0.1.0"
WEIGHTS_FILE = "fracast/weights/model.safetensors"
SHA256 = "0d678f123f3d1f91c5065cca2b5d40eccc469360afc2381b27290486011ded2c"

CONTEXT_LENGTH = 2048
BLOCK_LENGTH = 48
"""Steps forecast at once; longer horizons continue from the medians."""
MIN_READINGS = 8
"""Number of values that a series must have."""
QUANTILE_LEVELS = tuple(round(0.1 * i, 1) for i in range(1, 10))
_WIDTH, _STAGES, _PERIODS, _PHASES, _TAIL, _ROWS = 64, 10, 4, 16, 128, 64


def position_features(position: Float[Tensor, "batch time"]) -> Float[Tensor, "batch time 5"]:
    """Position of a step relative to the last visible one: distance in contexts, its logarithm, and three decays."""
    delta = (position - (CONTEXT_LENGTH - 1)) / CONTEXT_LENGTH
    far = delta.abs()
    decays = [torch.exp(-rate * far) for rate in (0.5, 2.0, 8.0)]
    return torch.stack([delta, delta.sign() * torch.log1p(far) / math.log(2), *decays], dim=-1)


def significant_periods(
    x: Float[Tensor, "batch time"], visible: Bool[Tensor, "batch time"]
) -> Int64[Tensor, "batch period"]:
    """The periods of the four highest significant peaks of each periodogram, 0 where there are fewer.

    Missing values are set to the mean. A peak is significant where its share of the power exceeds the 95 % quantile of
    the largest share of as many bins of white noise.
    """
    count = visible.sum(dim=1, keepdim=True).clamp(min=1)
    mean = (x * visible).sum(dim=1, keepdim=True) / count
    filled = torch.where(visible, x, mean)
    power = torch.fft.rfft(filled - filled.mean(dim=1, keepdim=True)).abs().square()[:, 1:]
    share = power / power.sum(dim=1, keepdim=True).clamp(min=1e-12)
    bins = share.shape[1]
    longest = x.shape[1] // 2
    peak = torch.zeros_like(share, dtype=torch.bool)
    peak[:, 1:-1] = (share[:, 1:-1] > share[:, :-2]) & (share[:, 1:-1] > share[:, 2:])
    peak[:, : x.shape[1] // longest - 1] = False
    peaks = torch.where(peak & (share >= math.log(bins / 0.05) / bins), share, -torch.inf)
    score, at = peaks.topk(_PERIODS, dim=1)
    length = torch.round(x.shape[1] / (at + 1).float()).long()
    return torch.where(torch.isfinite(score), length, 0)


def phase_features(position: Float[Tensor, "batch time"], period: Int64[Tensor, "batch period"]) -> Tensor:
    """Sine and cosine of each step's phase in each period; 0 for a period of 0."""
    turn = 2 * math.pi * position[..., None] / period.clamp(min=1)[:, None]
    both = torch.stack([turn.sin(), turn.cos()], dim=-1) * (period > 0)[:, None, :, None]
    return both.flatten(2)


def seasonal_fill(
    x: Float[Tensor, "batch time"],
    visible: Bool[Tensor, "batch time"],
    ahead: Float[Tensor, "batch horizon"],
    period: Int64[Tensor, "batch period"],
) -> Float[Tensor, "batch horizon"]:
    """The mean of the values at the same phase, in 16 bins of the first period; of all values for an empty bin."""
    first = period[:, :1].clamp(min=1).float()

    def phase(position: Tensor) -> Tensor:
        return (position % first / first * _PHASES).clamp(max=_PHASES - 1).long()

    steps = torch.arange(x.shape[1], device=x.device).float()[None]
    bins = functional.one_hot(phase(steps), _PHASES).to(x.dtype) * visible[..., None]
    count, total = bins.sum(dim=1), (bins * x[..., None]).sum(dim=1)
    mean = (x * visible).sum(dim=1, keepdim=True) / visible.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.where(count > 0, total / count.clamp(min=1), mean).gather(1, phase(ahead))


class GatedMLP(nn.Module):
    """A gated SiLU between two linear layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 3 * width), nn.Linear(3 * width // 2, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.up(x).chunk(2, dim=-1)
        output: Tensor = self.down(functional.silu(gate) * value)
        return output


class CausalConv(nn.Module):
    """A causal depthwise convolution with three taps, at 0, `dilation` and twice `dilation` steps back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dw_weight = nn.Parameter(torch.zeros(width, 1, 3))
        self.dw_bias = nn.Parameter(torch.zeros(width))

    def convolve(
        self, x: Float[Tensor, "batch time width"], dilation: int
    ) -> Float[Tensor, "batch time width"]:
        padded = functional.pad(x.transpose(1, 2), (2 * dilation, 0))
        groups = len(self.dw_bias)
        output = functional.conv1d(padded, self.dw_weight, self.dw_bias, dilation=dilation, groups=groups)
        return output.transpose(1, 2)


class ConvBlock(CausalConv):
    """The block of all scales: a depthwise convolution, a linear layer and a gated MLP, with residuals and norms."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.pw, self.ffn = nn.Linear(width, width), GatedMLP(width)
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)

    def forward(self, x: Tensor, dilation: int) -> Tensor:
        x = self.norm1(x + self.pw(self.convolve(x, dilation)))
        output: Tensor = self.norm2(x + self.ffn(x))
        return output


class ForecastConv(CausalConv):
    """A convolution along the forecast steps, with residual and norm."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.norm = nn.RMSNorm(width)

    def forward(self, x: Tensor, dilation: int) -> Tensor:
        output: Tensor = self.norm(x + self.convolve(x, dilation))
        return output


class ContextEncoder(nn.Module):
    """Encodes values, missing-value flags, positions and phases with the block at dilations 1, 2, 4, ... 512."""

    def __init__(self) -> None:
        super().__init__()
        self.in_proj = nn.Linear(7, _WIDTH)
        self.periodic = nn.ModuleDict({"proj": nn.Linear(2 * _PERIODS, _WIDTH)})
        self.scale = nn.ModuleDict({"to_gb": nn.Linear(8, 2 * _WIDTH)})
        self.block, self.norm = ConvBlock(_WIDTH), nn.RMSNorm(_WIDTH)

    def forward(self, x: Tensor, visible: Tensor, period: Tensor) -> Float[Tensor, "batch time width"]:
        steps = torch.arange(CONTEXT_LENGTH, device=x.device).float().expand(len(x), -1)
        z = self.in_proj(
            torch.cat([x[..., None], visible[..., None].to(x.dtype), position_features(steps)], dim=-1)
        )
        z = z + self.periodic["proj"](phase_features(steps, period))
        for stage in range(_STAGES):
            angle = stage * math.pi / 2.0 ** torch.arange(4, device=x.device, dtype=torch.float32)
            gain, shift = self.scale["to_gb"](torch.cat([angle.sin(), angle.cos()])).chunk(2, dim=-1)
            z = self.block(z * (1 + gain) + shift, 2**stage)
        output: Tensor = self.norm(z)
        return output


class FutureStates(nn.Module):
    """States of the forecast steps: convolutions over the last visible states and the seasonal fill."""

    def __init__(self) -> None:
        super().__init__()
        self.in_proj, self.block, self.out_proj = (
            nn.Linear(6, _WIDTH),
            ConvBlock(_WIDTH),
            nn.Linear(_WIDTH, _WIDTH),
        )

    def forward(self, hidden: Tensor, fill: Tensor, where: Tensor) -> Tensor:
        z = torch.cat([hidden[:, -_TAIL:], self.in_proj(torch.cat([fill[..., None], where], dim=-1))], dim=1)
        for stage in range(6):
            z = self.block(z, 2**stage)
        output: Tensor = self.out_proj(z[:, -BLOCK_LENGTH:])
        return output


class QuantileHead(nn.Module):
    """Nine quantiles of 48 steps from the mean and the last state of the context."""

    def __init__(self) -> None:
        super().__init__()
        self.summary_proj = nn.Linear(2 * _WIDTH + 5, _WIDTH)
        self.queries = nn.Parameter(torch.zeros(BLOCK_LENGTH, _WIDTH))
        self.decoder_ffns = nn.ModuleList([GatedMLP(_WIDTH)])
        self.decoder_norms = nn.ModuleList([nn.RMSNorm(_WIDTH)])
        self.fc_blocks = nn.ModuleList([ForecastConv(_WIDTH), ForecastConv(_WIDTH)])
        self.future_conv = FutureStates()
        self.out_proj = nn.Linear(_WIDTH, len(QUANTILE_LEVELS))

    def forward(
        self, hidden: Tensor, x: Tensor, visible: Tensor, period: Tensor
    ) -> Float[Tensor, "batch horizon quantile"]:
        ahead = (
            torch.arange(CONTEXT_LENGTH, CONTEXT_LENGTH + BLOCK_LENGTH, device=x.device)
            .float()
            .expand(len(x), -1)
        )
        where = position_features(ahead)
        summary = torch.cat([hidden.mean(dim=1), hidden[:, -1]], dim=-1)[:, None].expand(-1, BLOCK_LENGTH, -1)
        z = self.summary_proj(torch.cat([where, summary], dim=-1)) + self.queries
        z = self.decoder_norms[0](z + self.decoder_ffns[0](z))
        for i, block in enumerate(self.fc_blocks):
            z = block(z, 2**i)
        z = z + self.future_conv(hidden, seasonal_fill(x, visible, ahead, period), where)
        output: Tensor = self.out_proj(z)
        return output


class Fracast(nn.Module):
    """From contexts scaled to 0..1 to quantiles on that scale."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.head = ContextEncoder(), QuantileHead()

    def forward(
        self, x: Float[Tensor, "batch time"], visible: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch horizon quantile"]:
        period = significant_periods(x, visible)
        output: Tensor = self.head(self.core(x, visible, period), x, visible, period)
        return output


@dataclass(frozen=True)
class FracastPredictor:
    """Forecasts each wanted series from its own visible past: the median is the value, with nine quantiles.

    At most the last 2048 steps are read. Values are scaled by their minimum and maximum, for each block of 48 steps.
    """

    name: str
    model: Fracast
    fitted_on = FittedOn(unknown=(f"the weights of {REQUIREMENT}",))

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        """Raises DataError where wanted entries are not a sample's suffix, or a series has fewer than 8 values."""
        return [self._one(sample) for sample in samples]

    def _one(self, sample: Sample) -> Prediction:
        series = target_series(sample, name=self.name, min_readings=MIN_READINGS)
        quantiles = series.to_sample_shape(sample, self.quantiles(series.past, series.horizon))
        return Prediction(quantiles[4].copy(), quantiles=dict(zip(QUANTILE_LEVELS, quantiles, strict=True)))

    def quantiles(
        self, past: Float64[np.ndarray, "row time"], horizon: int
    ) -> Float64[np.ndarray, "row horizon quantile"]:
        """Nine quantiles of the next steps of each series, in its own units; NaN in `past` is a missing value."""
        blocks: list[np.ndarray] = []
        while sum(block.shape[1] for block in blocks) < horizon:
            blocks.append(
                np.concatenate([self._block(past[i : i + _ROWS]) for i in range(0, len(past), _ROWS)])
            )
            past = np.concatenate([past, blocks[-1][:, :, 4]], axis=1)
        return np.concatenate(blocks, axis=1)[:, :horizon]

    @torch.inference_mode()
    def _block(self, past: Float64[np.ndarray, "row time"]) -> Float64[np.ndarray, "row horizon quantile"]:
        tail = past[:, -CONTEXT_LENGTH:]
        low = np.nanmin(tail, axis=1, keepdims=True)
        span = np.nanmax(tail, axis=1, keepdims=True) - low
        visible = np.zeros((len(tail), CONTEXT_LENGTH), dtype=bool)
        scaled = np.zeros((len(tail), CONTEXT_LENGTH), dtype=np.float32)
        visible[:, -tail.shape[1] :] = np.isfinite(tail)
        scaled[:, -tail.shape[1] :] = np.where(
            np.isfinite(tail), (tail - low) / np.where(span > 0, span, 1.0), 0.0
        )
        device = self.model.head.queries.device
        quantiles = self.model(torch.from_numpy(scaled).to(device), torch.from_numpy(visible).to(device))
        return np.asarray(quantiles.cpu().numpy() * span[:, :, None] + low[:, :, None], dtype=np.float64)


@functools.lru_cache(maxsize=1)
def load_weights() -> Fracast:
    """The model with its pretrained weights, fetched once. Raises ArtefactError where they cannot be fetched."""
    model = Fracast()
    model.load_state_dict(load_file(fetch.pypi_file(REQUIREMENT, WEIGHTS_FILE, SHA256)))
    return model.eval().requires_grad_(False)


def load(name: str, _: str) -> FracastPredictor:
    """The pretrained model as a predictor of that name."""
    return FracastPredictor(name, load_weights())
