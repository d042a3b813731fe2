"""Projections from encoder embeddings up to a language model's width (soft tokens), and from its states back down."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from st2llm.align.prototypes import EmbeddingVocabulary, Prototypes, build_prototypes
from st2llm.config.model import Projection
from st2llm.encode.layers.linear import Linear
from st2llm.errors import ConfigError

_HEADS = 4


class LinearProjection(nn.Module):
    """One linear layer, normed to the LLM's own token scale (UrbanGPT, Li et al. 2024, projects so).

    token_rms: root mean square of soft tokens: that of the LLM's embedding table, or a multiple of it. The norm is our
    addition.
    """

    def __init__(self, d_st: int, d_lm: int, *, token_rms: float) -> None:
        super().__init__()
        self.d_st, self.d_lm, self.token_rms = d_st, d_lm, token_rms
        self.net = nn.Sequential(Linear(d_st, d_lm), nn.RMSNorm(d_lm))

    def forward(self, z: Float[Tensor, "batch slot {self.d_st}"]) -> Float[Tensor, "batch slot {self.d_lm}"]:
        tokens: Tensor = self.net(z)
        return self.token_rms * tokens


class MLPProjection(LinearProjection):
    """Two linear layers with a GELU between (LLaVA-1.5, Liu et al. 2023), normed as LinearProjection is."""

    def __init__(self, d_st: int, d_lm: int, *, token_rms: float) -> None:
        super().__init__(d_st, d_lm, token_rms=token_rms)
        self.net = nn.Sequential(Linear(d_st, d_lm), nn.GELU(), Linear(d_lm, d_lm), nn.RMSNorm(d_lm))


class Resampler(nn.Module):
    """`tokens` learned queries read all slots by cross-attention: a fixed number of soft tokens for any number of
    slots.

    Q-Former (BLIP-2, Li et al. 2023) and Perceiver resampler (Flamingo, Alayrac et al. 2022), in one layer.
    """

    def __init__(self, d_st: int, d_lm: int, *, token_rms: float, tokens: int) -> None:
        super().__init__()
        self.d_st, self.d_lm, self.tokens = d_st, d_lm, tokens
        self.queries = nn.Parameter(0.02 * torch.randn(tokens, d_st))
        self.norm = nn.LayerNorm(d_st)
        self.attention = nn.MultiheadAttention(d_st, _HEADS, batch_first=True)
        self.up = MLPProjection(d_st, d_lm, token_rms=token_rms)

    def forward(
        self, z: Float[Tensor, "batch slot {self.d_st}"]
    ) -> Float[Tensor, "batch {self.tokens} {self.d_lm}"]:
        keys = self.norm(z)
        queries = self.queries.expand(len(z), -1, -1)
        attended, _ = self.attention(queries, keys, keys, need_weights=False)
        tokens: Tensor = self.up(queries + attended)
        return tokens


class ReprogrammingProjection(nn.Module):
    """Each slot attends over text prototypes, rows of the LLM's vocabulary or combinations of them, and becomes
    their mixture.

    Time-LLM (Jin et al. 2024): queries from the slots, keys and values from the prototypes, multi-head. token_rms: root
    mean square of the LLM's embedding table. token_scale: of soft tokens, as a multiple of it.
    """

    def __init__(
        self, d_st: int, d_lm: int, *, token_rms: float, prototypes: Prototypes, token_scale: float = 1.0
    ) -> None:
        super().__init__()
        self.d_st, self.d_lm, self.token_rms, self.token_scale = d_st, d_lm, token_rms, token_scale
        self.prototypes = prototypes
        self.width = max(8, d_st // _HEADS)
        self.query = Linear(d_st, _HEADS * self.width)
        self.key = Linear(d_lm, _HEADS * self.width)
        self.value = Linear(d_lm, _HEADS * self.width)
        self.out = nn.Sequential(Linear(_HEADS * self.width, d_lm), nn.RMSNorm(d_lm))

    def forward(self, z: Float[Tensor, "batch slot {self.d_st}"]) -> Float[Tensor, "batch slot {self.d_lm}"]:
        b, s, _ = z.shape
        prototypes = self.prototypes() / self.token_rms
        query = self.query(z).reshape(b, s, _HEADS, self.width).transpose(1, 2)
        key, value = (
            part(prototypes).reshape(-1, _HEADS, self.width).transpose(0, 1).expand(b, -1, -1, -1)
            for part in (self.key, self.value)
        )
        attended = nn.functional.scaled_dot_product_attention(query, key, value)
        tokens: Tensor = self.out(attended.transpose(1, 2).reshape(b, s, -1))
        return self.token_rms * self.token_scale * tokens


def build_up_projection(
    settings: Projection,
    d_st: int,
    d_lm: int,
    *,
    token_rms: float,
    vocabulary: EmbeddingVocabulary | None = None,
) -> nn.Module:
    """A newly initialised up projection. vocabulary: the embedding table from which a reprogramming head takes its
    prototypes.

    Raises ConfigError where a reprogramming head has no vocabulary, and for `none` before a language model.
    """
    if settings.head == "none":
        if d_lm != d_st:
            raise ConfigError(
                f"up.head: none passes {d_st} numbers a slot to a model that reads {d_lm}. It is only for suites of "
                f"native arms; take linear or mlp."
            )
        return nn.Identity()
    rms = token_rms * settings.token_scale
    if settings.head == "linear":
        return LinearProjection(d_st, d_lm, token_rms=rms)
    if settings.head == "mlp":
        return MLPProjection(d_st, d_lm, token_rms=rms)
    if settings.head == "resampler":
        return Resampler(d_st, d_lm, token_rms=rms, tokens=settings.tokens)
    if vocabulary is None:
        raise ConfigError(
            "A reprogramming head uses the rows of a language model's vocabulary, but there is no language model. "
            "Give `llm: {name: ...}`, or take another head."
        )
    prototypes = build_prototypes(settings, vocabulary)
    return ReprogrammingProjection(
        d_st, d_lm, token_rms=token_rms, prototypes=prototypes, token_scale=settings.token_scale
    )


class PromptNorm(nn.Module):
    """Standardises mean prompt states by the statistics of training prompts; the identity until `fit`.

    Mean states of different prompts differ by a few percent of their size, so that a layer behind them would hardly see
    which prompt was read. The statistics are not part of the state dict; checkpoints of arms hold them beside it.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, d_lm: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(d_lm), persistent=False)
        self.register_buffer("scale", torch.ones(d_lm), persistent=False)

    @torch.no_grad()
    def fit(self, states: Float[Tensor, "prompt d_lm"]) -> None:
        """Takes mean and standard deviation of each feature; one prompt alone is mapped to zero.

        Features that vary by less than a tenth of the root mean square deviation of all are not enlarged further.
        """
        deviation = states.std(dim=0, unbiased=False)
        usual = float(deviation.square().mean().sqrt())
        self.mean.copy_(states.mean(dim=0))
        if usual <= _SAME_PROMPT * float(states.square().mean().sqrt()):
            self.scale.zero_()
        else:
            self.scale.copy_(1 / deviation.clamp(min=0.1 * usual))

    def forward(self, state: Float[Tensor, "batch d_lm"]) -> Float[Tensor, "batch d_lm"]:
        return (state - self.mean) * self.scale


_SAME_PROMPT = 1e-5
"""Mean states that deviate by a smaller share of their size are of one prompt, up to rounding."""


class DownProjection(nn.Module):
    """Maps backbone states back to the encoder's width: each slot's state plus the mean state of the prompt.

    The prompt's part is zero for backbones that read no text. Norms come first, because hidden states of
    different backbones differ in scale by orders of magnitude.
    """

    def __init__(self, d_lm: int, d_st: int) -> None:
        super().__init__()
        self.d_lm, self.d_st = d_lm, d_st
        self.slot = nn.Sequential(nn.RMSNorm(d_lm), Linear(d_lm, d_st))
        self.word = nn.Sequential(nn.RMSNorm(d_lm), Linear(d_lm, d_st))
        self.prompt_norm = PromptNorm(d_lm)

    @torch.no_grad()
    def fit_prompts(self, states: Float[Tensor, "prompt d_lm"]) -> None:
        """Standardises what is read of prompts by the mean states of training prompts."""
        self.prompt_norm.fit(self.word[0](states))

    def read_prompt(self, state: Float[Tensor, "batch d_lm"]) -> Float[Tensor, "batch d_st"]:
        """The part of the output that depends on the prompt."""
        projected: Tensor = self.word[1](self.prompt_norm(self.word[0](state)))
        return projected

    def forward(
        self,
        z: Float[Tensor, "batch slot {self.d_st}"],
        states: Float[Tensor, "batch soft {self.d_lm}"],
        prompt_state: Float[Tensor, "batch {self.d_lm}"],
        output_slots: slice,
    ) -> Float[Tensor, "batch output {self.d_st}"]:
        """The input of the output head for each output slot. z: the encoder's output, before the up projection."""
        total: Tensor = self.slot(states[:, output_slots]) + self.read_prompt(prompt_state)[:, None]
        return total


class AttentionDownProjection(DownProjection):
    """For soft tokens that do not correspond to slots: each output slot attends over the states.

    The queries are positions of slots (sinusoids, Vaswani et al. 2017, through a learned layer). They hold nothing of
    the sample, so all that the head knows of it came through the backbone.
    """

    def __init__(self, d_lm: int, d_st: int) -> None:
        super().__init__(d_lm, d_st)
        self.query = nn.Sequential(Linear(d_st, d_st), nn.GELU(), Linear(d_st, d_st), nn.LayerNorm(d_st))
        self.attention = nn.MultiheadAttention(d_st, _HEADS, batch_first=True)

    def forward(
        self,
        z: Float[Tensor, "batch slot {self.d_st}"],
        states: Float[Tensor, "batch soft {self.d_lm}"],
        prompt_state: Float[Tensor, "batch {self.d_lm}"],
        output_slots: slice,
    ) -> Float[Tensor, "batch output {self.d_st}"]:
        """z: counted only, for the number of slots."""
        keys = self.slot(states)
        queries = self.query(_sinusoids(z.shape[1], self.d_st).to(z))[output_slots]
        queries = queries.expand(len(z), -1, -1)
        attended, _ = self.attention(queries, keys, keys, need_weights=False)
        total: Tensor = queries + attended + self.read_prompt(prompt_state)[:, None]
        return total


def _sinusoids(count: int, width: int) -> Float[Tensor, "{count} {width}"]:
    """Sines and cosines of the positions 0 to count - 1, at wavelengths from 2 pi to 20,000 pi."""
    rate = 10_000.0 ** (-torch.arange(0, width, 2) / width)
    angle = torch.arange(count)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :width]


class IdentityDownProjection(nn.Module):
    """Returns the backbone's states at the output slots unchanged."""

    def forward(
        self,
        z: Float[Tensor, "batch slot d_st"],
        states: Float[Tensor, "batch slot d_st"],
        prompt_state: Float[Tensor, "batch d_st"],
        output_slots: slice,
    ) -> Float[Tensor, "batch output d_st"]:
        return states[:, output_slots]


def build_down_projection(settings: Projection, d_lm: int, d_st: int) -> nn.Module:
    """A newly initialised down projection that fits the up projection of `settings`."""
    if settings.head == "none":
        return IdentityDownProjection()
    return (AttentionDownProjection if settings.head == "resampler" else DownProjection)(d_lm, d_st)
