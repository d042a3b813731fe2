"""The sequence encoder: one token per point, mixed by attention with rotary positions in space and time."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from st2llm.encode.batch import Encoder
from st2llm.encode.layers.linear import Linear, linear
from st2llm.encode.layers.short_attention import attend, softmax_of_few
from st2llm.encode.point_batch import DAY_PARTS, PointBatch
from st2llm.errors import ConfigError, nearest

MIXERS = ("transformer", "mlp")
_HEADS = 4


@dataclass(frozen=True)
class SequenceShape:
    """The sizes a sequence encoder and its head are built for.

    task: forecast (a path), next-place, next-event (its gap, perhaps its location), next-mark, classify (a path), or
    track (recovery of hidden parts of a path). points: the most points that are read. features: numbers of a point.
    codes: number of places, marks or classes (of a track, visibility states of a point). horizon, channels: size of
    the prediction. gaps: quantiles of the logarithm of the training gaps in hours. metres: size of one unit of space.
    query: numbers that tell what is known of the event to predict.
    """

    task: str
    points: int
    features: int
    codes: int
    horizon: int
    channels: int
    gaps: tuple[float, ...] = ()
    metres: float = 1.0
    query: int = 0


@dataclass(frozen=True)
class SequenceEncoderOptions:
    """Sizes and choices of a sequence encoder.

    d_st: width of the embeddings. layers: transformer blocks. mixer: 'transformer' (rotary attention over points) or
    'mlp' (all points at once into the query). causal: a point attends to earlier points only. dropout: in training.

    Raises ConfigError for an unknown mixer, and for a width that rotary attention cannot divide.
    """

    d_st: int
    layers: int
    mixer: str = "transformer"
    causal: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.mixer not in MIXERS:
            raise ConfigError(f"There is no mixer {self.mixer!r}. {nearest(self.mixer, MIXERS)}")
        if self.mixer == "transformer" and self.d_st % (2 * _HEADS):
            raise ConfigError(
                f"encoder.d_st must be a multiple of {2 * _HEADS} for rotary attention, not {self.d_st}."
            )


class RotaryPositions(nn.Module):
    """Rotates queries and keys by angles proportional to x, y and time, so that attention depends on differences
    only.

    RoPE (Su et al. 2021) on real coordinates, as in TrajFM (Lin et al. 2024): a third of the pairs of each head
    turns with each coordinate, at frequencies from 4 down to 1/64 of a turn per unit.
    """

    turns: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        pairs = width // 2
        axis = torch.arange(pairs) % 3
        rank = torch.arange(pairs) // 3
        speed = 4.0 * 2.0 ** (-8.0 * rank / max(1, int(rank.max())))
        turns = torch.zeros((3, pairs))
        turns[axis, torch.arange(pairs)] = speed
        self.register_buffer("turns", turns, persistent=False)

    def forward(
        self, x: Float[Tensor, "*part batch head slot width"], position: Float[Tensor, "batch slot 3"]
    ) -> Float[Tensor, "*part batch head slot width"]:
        """x: queries and keys."""
        angle = (position @ self.turns)[:, None]
        even, odd = x[..., 0::2], x[..., 1::2]
        cos, sin = angle.cos(), angle.sin()
        return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)


class RotaryBlock(nn.Module):
    """A pre-norm transformer block with rotary attention."""

    def __init__(self, d_st: int, *, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(d_st), nn.LayerNorm(d_st)])
        self.qkv, self.out = Linear(d_st, 3 * d_st), Linear(d_st, d_st)
        self.rotary = RotaryPositions(d_st // _HEADS)
        self.feed = nn.Sequential(
            Linear(d_st, 2 * d_st), nn.GELU(), nn.Dropout(dropout), Linear(2 * d_st, d_st)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        z: Float[Tensor, "batch slot d_st"],
        position: Float[Tensor, "batch slot 3"],
        mask: Bool[Tensor, "batch 1 slot slot"],
    ) -> Float[Tensor, "batch slot d_st"]:
        b, s, _ = z.shape
        qkv = self.qkv(self.norms[0](z)).reshape(b, s, 3, _HEADS, -1).permute(2, 0, 3, 1, 4)
        mixed = attend(torch.cat([self.rotary(qkv[:2], position), qkv[2:]]), mask)
        z = z + self.dropout(self.out(mixed))
        return self._feed(z)

    def last_slot(
        self,
        z: Float[Tensor, "batch slot d_st"],
        position: Float[Tensor, "batch slot 3"],
        mask: Bool[Tensor, "batch 1 slot slot"],
    ) -> Float[Tensor, "batch 1 d_st"]:
        """The last slot of what `forward` returns, without dropout: one query, and keys and values of all slots."""
        b, s, d = z.shape
        normed, weight, bias = self.norms[0](z), self.qkv.weight, self.qkv.bias
        query = linear(normed[:, -1:], weight[:d], bias[:d]).reshape(b, 1, _HEADS, -1).transpose(1, 2)
        key, value = linear(normed, weight[d:], bias[d:]).reshape(b, s, 2, _HEADS, -1).permute(2, 0, 3, 1, 4)
        turned = self.rotary(query, position[:, -1:]) * query.shape[-1] ** -0.5
        scores = turned @ self.rotary(key, position).transpose(2, 3)
        share = softmax_of_few(scores.masked_fill(~mask[:, :, -1:], -torch.inf))
        mixed = (share @ value).transpose(1, 2).reshape(b, 1, d)
        return self._feed(z[:, -1:] + self.out(mixed))

    def _feed(self, z: Float[Tensor, "batch slot d_st"]) -> Float[Tensor, "batch slot d_st"]:
        fed: Tensor = self.dropout(self.feed(self.norms[1](z)))
        return z + fed


class SequenceEncoder(Encoder):
    """Encodes a batch of sequences as `slots` embeddings: one per point, then that of the query.

    Padding is masked. code_features: [code, feature], features of each place or mark
    (`encode.extra_features.code_features`). Raises ConfigError where their number differs from the shape's
    codes.
    """

    output_slots = slice(None)
    known: Tensor | None

    def __init__(
        self,
        shape: SequenceShape,
        options: SequenceEncoderOptions,
        *,
        code_features: Float[Tensor, "code feature"] | None = None,
    ) -> None:
        super().__init__()
        if code_features is not None and len(code_features) != shape.codes:
            raise ConfigError(
                f"encoder.extra_features describe {len(code_features)} places or marks, but the sequences have "
                f"{shape.codes}. Take the data that the encoder was built for."
            )
        d_st, dropout = options.d_st, options.dropout
        self.causal, self.slots = options.causal, shape.points + 1
        self.numbers = Linear(shape.features, d_st)
        self.code = nn.Embedding(shape.codes + 1, d_st, padding_idx=0)
        self.latest = nn.Embedding(shape.codes + 1, d_st, padding_idx=0)
        self.part, self.day = nn.Embedding(DAY_PARTS, d_st), nn.Embedding(7, d_st)
        self.question = nn.Parameter(0.02 * torch.randn(d_st))
        for table in (self.part, self.day, self.code, self.latest):
            nn.init.normal_(table.weight, std=0.02)
        # Code 0 stands for no code and has no features.
        known = None if code_features is None else nn.functional.pad(code_features, (0, 0, 1, 0))
        self.register_buffer("known", known, persistent=False)
        self.of_code = None if code_features is None else Linear(code_features.shape[1], d_st, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList()
        self.whole: nn.Module | None = None
        if options.mixer == "mlp":
            wide = 2 * d_st
            self.whole = nn.Sequential(
                Linear(self.slots * d_st, wide),
                nn.GELU(),
                Linear(wide, wide),
                nn.GELU(),
                Linear(wide, d_st),
            )
        else:
            self.blocks.extend(RotaryBlock(d_st, dropout=dropout) for _ in range(options.layers))
        self.of_query = Linear(shape.query, d_st, bias=False) if shape.query else None

    def forward(
        self, batch: PointBatch, condition: Float[Tensor, "batch d_st"] | None = None
    ) -> Float[Tensor, "batch slot d_st"]:
        """condition: an embedding that is added to all slots of a sequence."""
        z, mask = self._embed(batch, condition)
        if self.whole is not None:
            return torch.cat([z[:, :-1], self.whole(z.flatten(1))[:, None]], dim=1)
        for block in self.blocks:
            z = block(z, batch.position, mask)
        return z

    def query(self, batch: PointBatch) -> Float[Tensor, "batch 1 d_st"]:
        """The slot of the query, the last of those that `forward` returns.

        The last block computes no more than that slot needs, unless it draws random numbers for all slots (dropout).
        """
        last = self.blocks[-1] if len(self.blocks) else None
        if not isinstance(last, RotaryBlock) or (self.training and self.dropout.p):
            every: Tensor = self(batch)
            return every[:, -1:]
        z, mask = self._embed(batch, None)
        for block in self.blocks[:-1]:
            z = block(z, batch.position, mask)
        slot: Tensor = last.last_slot(z, batch.position, mask)
        return slot

    def _embed(
        self, batch: PointBatch, condition: Float[Tensor, "batch d_st"] | None
    ) -> tuple[Float[Tensor, "batch slot d_st"], Bool[Tensor, "batch 1 slot slot"]]:
        """The slots before any mixing, and which slots each one attends to."""
        b, p, _ = batch.numbers.shape
        calendar = self.part(batch.calendar[..., 0]) + self.day(batch.calendar[..., 1])
        points = self.numbers(batch.numbers) + self.code(batch.codes)
        query = self.question + self.latest(batch.codes[:, -1:])  # the next code depends on the last one
        if self.of_code is not None and self.known is not None:
            known_codes = self.of_code(self.known[batch.codes])
            points, query = points + known_codes, query + known_codes[:, -1:]
        if self.of_query is not None:
            query = query + self.of_query(batch.query)[:, None]
        z = torch.cat([points, query], dim=1) + calendar
        if condition is not None:
            z = z + condition[:, None]
        real = torch.cat([batch.real, batch.real.new_ones(b, 1)], dim=1)
        z = self.dropout(z) * real[..., None]
        mask = real[:, None, None] | torch.eye(p + 1, dtype=torch.bool, device=z.device)
        if self.causal:
            mask = mask & torch.ones((p + 1, p + 1), dtype=torch.bool, device=z.device).tril()
        return z, mask
