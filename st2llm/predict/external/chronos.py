"""Chronos-T5: a language model trained on tokenised time series (Ansari et al. 2024, arXiv:2403.07815).

A series is divided by the mean of its absolute values and quantised into equal bins, a token each. T5 samples the next
tokens several times; the bin centres are the draws. The model comes from transformers, the tokenizer is defined here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor
from transformers import AutoConfig, T5ForConditionalGeneration

from st2llm.data.windows.fitted_on import FittedOn
from st2llm.errors import ArtefactError, ConfigError
from st2llm.predict.external.series import target_series
from st2llm.types import Prediction, Sample, seed_from

MIN_READINGS = 2
_TOKENIZER = "MeanScaleUniformBins"
_ROWS = 512


@dataclass(frozen=True)
class Bins:
    """Equal bins of scaled values. The first `special` tokens (0 is padding, 1 is end) and the one after are no bins.

    low, high: centres of the outermost bins, which also hold all values beyond them.
    """

    low: float
    high: float
    tokens: int
    special: int
    pad: int = 0
    end: int = 1

    @property
    def first(self) -> int:
        """The token of the lowest bin."""
        return self.special + 1

    @property
    def centres(self) -> Float[Tensor, " bin"]:
        return torch.linspace(self.low, self.high, self.tokens - self.special - 1)

    def encode(
        self, past: Float[Tensor, "row time"]
    ) -> tuple[Int64[Tensor, "row token"], Bool[Tensor, "row token"], Float[Tensor, " row"]]:
        """Tokens with an end token, the attention mask (false where a value is NaN), and the scale of each row."""
        observed = ~past.isnan()
        size = torch.nan_to_num(past).abs().sum(dim=1) / observed.sum(dim=1).clamp(min=1)
        scale = torch.where(size > 0, size, torch.ones_like(size))
        edges = (self.centres[1:] + self.centres[:-1]) / 2
        ids = torch.bucketize(past / scale[:, None], edges, right=True) + self.first
        ids = ids.clamp(0, self.tokens - 1).masked_fill(~observed, self.pad)
        last = torch.full((len(past), 1), self.end)
        return torch.cat([ids, last], dim=1), torch.cat([observed, last == self.end], dim=1), scale

    def decode(self, ids: Int64[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Centres of the bins, on the scale of 1."""
        centres: Tensor = self.centres[(ids - self.first).clamp(0, len(self.centres) - 1)]
        return centres


@dataclass(frozen=True)
class ChronosPredictor:
    """Forecasts each wanted series from its own visible past; the value is the median of `draws` draws.

    context: number of last steps that are read. block: steps forecast at once; longer horizons continue from the
    medians, as in the authors' code. The draws of a sample depend on its id alone, not on the other samples.
    """

    name: str
    model: T5ForConditionalGeneration
    bins: Bins
    context: int
    block: int
    draws: int
    temperature: float
    top_k: int
    top_p: float
    fitted_on: FittedOn

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        """Raises DataError where wanted entries are not a sample's suffix, or a series has fewer than 2 values."""
        return [self._one(sample) for sample in samples]

    def _one(self, sample: Sample) -> Prediction:
        series = target_series(sample, name=self.name, min_readings=MIN_READINGS)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_from(sample.id, bits=32))
            draws = self.sample(series.past, series.horizon)
        values = series.to_sample_shape(sample, draws)
        return Prediction(np.median(values, axis=0), samples=values)

    def sample(
        self, past: Float64[np.ndarray, "row time"], horizon: int
    ) -> Float64[np.ndarray, "row horizon draw"]:
        """Draws of the next steps of each series, in its own units; NaN in `past` is a missing value."""
        blocks: list[np.ndarray] = []
        rows = max(1, _ROWS // self.draws)
        while (left := horizon - sum(block.shape[1] for block in blocks)) > 0:
            parts = [
                self._block(past[i : i + rows], min(left, self.block)) for i in range(0, len(past), rows)
            ]
            blocks.append(np.concatenate(parts))
            past = np.concatenate([past, np.median(blocks[-1], axis=2)], axis=1)
        return np.concatenate(blocks, axis=1)

    @torch.inference_mode()
    def _block(
        self, past: Float64[np.ndarray, "row time"], steps: int
    ) -> Float64[np.ndarray, "row horizon draw"]:
        ids, observed, scale = self.bins.encode(torch.from_numpy(past[:, -self.context :]).float())
        device = self.model.device
        tokens = self.model.generate(
            input_ids=ids.to(device),
            attention_mask=observed.to(device),
            do_sample=True,
            num_return_sequences=self.draws,
            min_new_tokens=steps,
            max_new_tokens=steps,
            eos_token_id=self.bins.end,
            pad_token_id=self.bins.pad,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
        )
        values = self.bins.decode(tokens[:, 1:].cpu()).reshape(len(past), self.draws, steps)
        return (values * scale[:, None, None]).transpose(1, 2).numpy().astype(np.float64)


def load(name: str, weights: str) -> ChronosPredictor:
    """A Chronos-T5 as a predictor of that name. weights: a hub id, or a folder of `save_pretrained` (safetensors).

    Raises ArtefactError where the weights cannot be read, ConfigError where they are of another kind of model.
    """
    try:
        config = AutoConfig.from_pretrained(weights)
        settings = getattr(config, "chronos_config", None)
        if not settings or settings.get("tokenizer_class") != _TOKENIZER or config.model_type != "t5":
            raise ConfigError(
                f"chronos:{weights} should be a Chronos-T5 (model_type t5, with a chronos_config whose tokenizer_class "
                f"is {_TOKENIZER}), but it is a {config.model_type} "
                f"{'with another chronos_config' if settings else 'without chronos_config'}. Name one of the "
                f"chronos-t5 models."
            )
        model = T5ForConditionalGeneration.from_pretrained(weights, use_safetensors=True)
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise ArtefactError(
            f"The Chronos weights {weights!r} cannot be read: {first} Give a hub id, or a folder that "
            f"`save_pretrained` wrote."
        ) from error
    kwargs = settings["tokenizer_kwargs"]
    return ChronosPredictor(
        name=name,
        model=model.eval().requires_grad_(False),
        bins=Bins(
            low=kwargs["low_limit"],
            high=kwargs["high_limit"],
            tokens=settings["n_tokens"],
            special=settings["n_special_tokens"],
            pad=settings["pad_token_id"],
            end=settings["eos_token_id"],
        ),
        context=settings["context_length"],
        block=settings["prediction_length"],
        draws=settings["num_samples"],
        temperature=settings["temperature"],
        top_k=settings["top_k"],
        top_p=settings["top_p"],
        fitted_on=FittedOn(unknown=(f"the weights {weights}",)),
    )
