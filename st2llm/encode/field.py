"""The field encoder: temporal patches of every place, mixed over time, then over places along the edges."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from st2llm.encode.batch import Encoder
from st2llm.encode.extra_features import place_feature_size, window_feature_size
from st2llm.encode.field_batch import FieldBatch
from st2llm.encode.layers.graph_layers import GraphLayer
from st2llm.encode.layers.linear import Linear
from st2llm.encode.layers.transformer import Transformer
from st2llm.encode.regions import RegionMixer, RegionPartition
from st2llm.errors import ConfigError, nearest
from st2llm.types import Edges, Sample

GRAPHS = ("gcn", "gat", "diffusion", "regions", "none")
MIXERS = ("transformer", "mlp", "none")
TOKENS = ("place", "patch")
READOUTS = ("query", "flatten", "next-patch")


@dataclass(frozen=True)
class FieldShape:
    """The sizes a field encoder is built for.

    history: steps that are read, from the first of the window on. horizon: steps that are predicted, up to the
    last. amid: whether both are the same steps (imputation, kriging) rather than consecutive (forecasts).
    steps_per_day: the most steps of a local day. classes: number of classes, where a window's class is
    predicted. ahead: indices of the covariates whose values are known at the steps of the horizon.
    """

    history: int
    horizon: int
    nodes: int
    channels: int
    steps_per_day: int
    note_words: int = 0
    amid: bool = False
    classes: int = 0
    ahead: tuple[int, ...] = ()

    @property
    def context(self) -> int:
        """Number of leading steps that are never predicted."""
        return 0 if self.amid else self.history


@dataclass(frozen=True)
class FieldEncoderOptions:
    """Sizes and choices of a field encoder.

    d_st: width of the embeddings. patch: steps in a temporal patch. patch_stride: steps between the starts of patches;
    None means `patch`. layers: layers of the temporal mixer. graph: the layer over places, one of GRAPHS. tokens:
    'place' for one token a place, 'patch' to keep all patches. mixer: the temporal mixer, one of MIXERS ('none' for
    tokens='patch' alone). readout: the tokens that heads read, one of READOUTS. drop_embeddings: embeddings that are
    left out (attribute names of PatchEmbedding). center_windows: subtract the mean of each place's visible values.
    instance_norm: and divide by their standard deviation. extra_features: see `encode.extra_features`. region_size: the
    most places of a region (graph='regions'). fusion: 'add' adds the embedding of time and place to that of the values,
    'scale' multiplies it (feature-wise modulation without a shift, Perez et al. 2018).

    Raises ConfigError for an unknown `tokens`, `mixer` or `graph`.
    """

    d_st: int
    patch: int
    layers: int
    graph: str
    tokens: str
    mixer: str = "transformer"
    drop_embeddings: Sequence[str] = ()
    center_windows: bool = False
    extra_features: Sequence[str] = ()
    region_size: int = 16
    fusion: str = "add"
    patch_stride: int | None = None
    readout: str = "query"
    instance_norm: bool = False

    def __post_init__(self) -> None:
        if self.readout not in READOUTS:
            raise ConfigError(f"There is no readout {self.readout!r}. {nearest(self.readout, READOUTS)}")
        if self.tokens not in TOKENS:
            raise ConfigError(f"There is no token layout {self.tokens!r}. {nearest(self.tokens, TOKENS)}")
        if self.tokens == "place" and (self.mixer == "none" or self.readout != "query"):
            raise ConfigError(f"mixer {self.mixer!r} and readout {self.readout!r} need tokens='patch'.")
        if self.mixer not in MIXERS:
            raise ConfigError(f"There is no mixer {self.mixer!r}. {nearest(self.mixer, MIXERS)}")
        if self.graph not in GRAPHS:
            raise ConfigError(f"There is no graph layer {self.graph!r}. {nearest(self.graph, GRAPHS)}")


def patch_count(history: int, patch: int, stride: int | None = None) -> int:
    """Patches of a history, the last of which ends with it; the first one may begin before it."""
    return max(0, -(-(history - patch) // (stride or patch))) + 1


def edges_of(sample: Sample) -> Edges:
    """The edges between a sample's neighbouring places: adjacent cells, connected sensors."""
    pairs = [(j, i, w) for i, near in enumerate(sample.side.neighbours) for j, w in near]
    return Edges(
        source=np.array([source for source, _, _ in pairs], dtype=np.int64),
        target=np.array([target for _, target, _ in pairs], dtype=np.int64),
        weight=np.array([weight for _, _, weight in pairs], dtype=np.float64),
    )


class PatchEmbedding(nn.Module):
    """Embeds patches of each place's history: values, missing entries, time and place.

    A history that is not a multiple of the patch length is padded with hidden steps at its old end. One more token, the
    query, carries the calendar of the horizon, the notes and covariates known ahead; it is last. place_features: [node,
    feature], required by some extra features (`encode.extra_features.place_features`). Raises ConfigError where they
    are missing or of another shape.
    """

    def __init__(
        self,
        shape: FieldShape,
        options: FieldEncoderOptions,
        *,
        place_features: Float[Tensor, "node feature"] | None = None,
    ) -> None:
        super().__init__()
        d_st, patch, drop_embeddings = options.d_st, options.patch, options.drop_embeddings
        self.center_windows, self.instance_norm = options.center_windows, options.instance_norm
        self.patch, self.history, self.context = patch, shape.history, shape.context
        self.stride = options.patch_stride or patch
        self.patches = patch_count(shape.history, patch, self.stride)
        self.values = Linear(2 * patch * shape.channels, d_st)
        self.position = nn.Embedding(self.patches + 1, d_st)
        self.step_of_day = nn.Embedding(shape.steps_per_day, d_st)
        self.day_of_week = nn.Embedding(7, d_st)
        self.holiday = nn.Embedding(2, d_st)
        # Without place embeddings, the weights apply to any number of places.
        self.node = nn.Embedding(1 if "node" in drop_embeddings else shape.nodes, d_st)
        self.notes = nn.EmbeddingBag(shape.note_words + 2, d_st, mode="mean", padding_idx=0)
        for table in (self.position, self.step_of_day, self.day_of_week, self.holiday, self.node, self.notes):
            nn.init.normal_(table.weight, std=0.02)
        for name in drop_embeddings:  # a table that stays 0
            table = getattr(self, name)
            nn.init.zeros_(table.weight)
            table.weight.requires_grad_(False)
        self._add_feature_layers(shape, options, place_features)
        self.gate: nn.Module | None = None
        if options.fusion == "scale":
            last = Linear(d_st, d_st)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.gate = nn.Sequential(nn.GELU(), Linear(d_st, d_st), nn.GELU(), last)
        self.channels_ahead = list(shape.ahead)
        self.ahead = Linear(2 * shape.horizon * len(shape.ahead), d_st) if shape.ahead else None

    def _add_feature_layers(
        self,
        shape: FieldShape,
        options: FieldEncoderOptions,
        place_features: Float[Tensor, "node feature"] | None,
    ) -> None:
        """Creates the layers that embed extra features."""
        d_st, extra_features = options.d_st, options.extra_features
        place_size = place_feature_size(extra_features)
        if place_size and (place_features is None or place_features.shape != (shape.nodes, place_size)):
            received = "nothing" if place_features is None else f"{tuple(place_features.shape)}"
            raise ConfigError(
                f"encoder.extra_features: {', '.join(extra_features)} takes {place_size} numbers about each of "
                f"{shape.nodes} places, but {received} came. Give `place_features(sample, edges, extra_features)`."
            )
        self.register_buffer("places", place_features if place_size else None, persistent=False)
        self.of_place = Linear(place_size, d_st, bias=False) if place_size else None
        window_size = window_feature_size(extra_features)
        self.of_window = (
            nn.Sequential(nn.LayerNorm(window_size), Linear(window_size, d_st)) if window_size else None
        )
        bins = shape.channels * (shape.history // 2 + 1)
        self.frequency = Linear(bins, d_st) if "frequency" in extra_features else None
        self.month = nn.Embedding(12, d_st) if "month" in extra_features else None
        if self.month is not None:
            nn.init.normal_(self.month.weight, std=0.02)

    def forward(self, batch: FieldBatch) -> Float[Tensor, "batch node patch d_st"]:
        b, _, n, _ = batch.values.shape
        values, visible = batch.values[:, : self.history], batch.visible[:, : self.history]
        mask = visible.to(values.dtype)
        if self.center_windows or self.instance_norm:
            level, spread = batch.instance_statistics(self.history)
            values = (values - level) * mask
            values = values / spread if self.instance_norm else values
        values_and_mask = torch.cat([values, mask], dim=-1)
        padding = (self.patches - 1) * self.stride + self.patch - self.history
        values_and_mask = nn.functional.pad(values_and_mask, (0, 0, 0, 0, padding, 0))
        patches = values_and_mask.unfold(1, self.patch, self.stride).permute(0, 2, 1, 4, 3).flatten(3)
        first_steps = torch.arange(self.patches, device=patches.device) * self.stride - padding
        history_time = self._embed_calendar(batch.calendar[:, first_steps.clamp(min=0)])
        horizon_time = self._embed_calendar(batch.calendar[:, self.context :]).mean(dim=1, keepdim=True)
        query = horizon_time + self.notes(batch.notes)[:, None]
        time_embedding = torch.cat([history_time, query], dim=1)[:, None]
        context = time_embedding + self.position.weight + self.node.weight[:, None]
        if self.of_place is not None:
            context = context + self.of_place(self.places)[:, None]
        if self.of_window is not None:
            context = context + self.of_window(batch.features)[:, None, None]
        if self.frequency is not None:
            context = context + self.frequency(_log_spectrum(values * mask))[:, :, None]
        if self.ahead is not None:
            context = context + nn.functional.pad(self._embed_ahead(batch), (0, 0, self.patches, 0))
        embedded = self.values(patches)
        if self.gate is None:
            return context + nn.functional.pad(embedded, (0, 0, 0, 1))
        scaled = embedded * (1 + self.gate(context[:, :, :-1] + context[:, :, -1:]))
        query_position = self.position.weight[-1].expand(b, n, 1, -1)
        return torch.cat([scaled, query_position], dim=2)

    def _embed_ahead(self, batch: FieldBatch) -> Float[Tensor, "batch node 1 d_st"]:
        """The covariates that are known at the steps of the horizon, for the query token of each place."""
        values = batch.values[:, self.context :, :, self.channels_ahead]
        visible = batch.visible[:, self.context :, :, self.channels_ahead].to(values.dtype)
        known = torch.cat([values, visible], dim=-1).permute(0, 2, 1, 3).flatten(2)
        embedded: Tensor = self.ahead(known)  # type: ignore[misc]
        return embedded[:, :, None]

    def _embed_calendar(self, calendar: Int64[Tensor, "batch patch 4"]) -> Float[Tensor, "batch patch d_st"]:
        step, day, holiday, month = calendar.unbind(dim=-1)
        total: Tensor = self.step_of_day(step) + self.day_of_week(day) + self.holiday(holiday)
        return total if self.month is None else total + self.month(month)


def _log_spectrum(
    values: Float[Tensor, "batch time node channel"],
) -> Float[Tensor, "batch node bin"]:
    """The logarithm of 1 plus the amplitude of each frequency of a place's history."""
    amplitude = torch.fft.rfft(values.float(), dim=1, norm="ortho").abs()
    return torch.log1p(amplitude).permute(0, 2, 1, 3).flatten(2)


class ResidualMLP(nn.Module):
    """Mixes all tokens of a place by residual layers, as in STID (Shao et al. 2022); the result replaces the last
    token.

    Without layers it is linear.
    """

    def __init__(self, tokens: int, *, d_st: int, layers: int) -> None:
        super().__init__()
        self.enter = Linear(tokens * d_st, 2 * d_st)
        self.layers = nn.ModuleList(
            nn.Sequential(Linear(2 * d_st, 2 * d_st), nn.ReLU(), Linear(2 * d_st, 2 * d_st))
            for _ in range(layers)
        )
        self.leave = Linear(2 * d_st, d_st)

    def forward(self, z: Float[Tensor, "row patch d_st"]) -> Float[Tensor, "row patch d_st"]:
        return torch.cat([z[:, :-1], self.last_token(z)[:, None]], dim=1)

    def last_token(self, z: Float[Tensor, "row patch d_st"]) -> Float[Tensor, "row d_st"]:
        """The mixed token alone."""
        hidden: Tensor = self.enter(z.flatten(1))
        for layer in self.layers:
            hidden = hidden + layer(hidden)
        mixed: Tensor = self.leave(hidden)
        return mixed


class FieldEncoder(Encoder):
    """Encodes a batch of windows as `slots` embeddings of width d_st; the same class for every arm of a
    comparison.

    Patches and a query token for each place -> a mixer over time (transformer, or mlp) -> a layer over places:
    along edges, or through the regions of `partition` (graph='regions'). tokens='place' keeps one token per
    place (its query token); tokens='patch' keeps all. place_features: [node, feature], for extra features that
    need them.
    """

    def __init__(
        self,
        shape: FieldShape,
        edges: Edges,
        options: FieldEncoderOptions,
        *,
        place_features: Float[Tensor, "node feature"] | None = None,
        partition: RegionPartition | None = None,
    ) -> None:
        super().__init__()
        d_st, layers = options.d_st, options.layers
        self.tokens = options.tokens
        self.embed = PatchEmbedding(shape, options, place_features=place_features)
        self.time: ResidualMLP | Transformer | nn.Identity
        if options.mixer == "none":
            self.time = nn.Identity()
        elif options.mixer == "mlp":
            self.time = ResidualMLP(self.embed.patches + 1, d_st=d_st, layers=layers)
        else:
            self.time = Transformer(d_st, heads=4, feedforward=2 * d_st, layers=layers)
        self.space: nn.Module | None = None
        if options.graph == "regions":
            self.space = RegionMixer(partition, d_st=d_st, max_size=options.region_size)
        elif options.graph != "none":
            self.space = GraphLayer(options.graph, d_st=d_st)
        index = torch.stack([torch.from_numpy(edges.source), torch.from_numpy(edges.target)])
        self.register_buffer("edges", index, persistent=False)
        self.register_buffer("weight", torch.from_numpy(edges.weight).float(), persistent=False)
        per_place = 1 if options.tokens == "place" else self.embed.patches + 1
        self.slots = shape.nodes * per_place
        self.output_slots = (
            slice(per_place - 1, None, per_place) if options.readout == "query" else slice(None)
        )
        """The slots that heads read: the query token of each place, or all."""

    def forward(
        self, batch: FieldBatch, condition: Float[Tensor, "batch d_st"] | None = None
    ) -> Float[Tensor, "batch slot d_st"]:
        """condition: an embedding that is added to all tokens of a window."""
        tokens = self.embed(batch)
        if condition is not None:
            tokens = tokens + condition[:, None, None]
        b, n, p, d = tokens.shape
        rows = tokens.reshape(b * n, p, d)
        if self.tokens == "place" and not isinstance(self.time, nn.Identity):
            return self._mix_places(self.time.last_token(rows).reshape(b, n, d))
        z: Tensor = self.time(rows).reshape(b, n, p, d)
        query = self._mix_places(z[:, :, -1])
        return torch.cat([z[:, :, :-1], query[:, :, None]], dim=2).reshape(b, n * p, d)

    def _mix_places(self, query: Float[Tensor, "batch node d_st"]) -> Float[Tensor, "batch node d_st"]:
        if self.space is None:
            return query
        graph = () if isinstance(self.space, RegionMixer) else (self.edges, self.weight)
        mixed: Tensor = self.space(query, *graph)
        return mixed
