"""The field encoder: temporal patches of every place, mixed over time, then over places along the edges."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch_geometric.nn import GATv2Conv, GCNConv, TAGConv

from st2llm.encode.extra_features import place_width, window_width
from st2llm.encode.field_batch import FieldBatch
from st2llm.encode.regions import Partition, RegionMixer
from st2llm.errors import ConfigError, nearest
from st2llm.types import Edges, Sample

GRAPHS = ("gcn", "gat", "diffusion", "regions", "none")
MIXERS = ("transformer", "mlp")


@dataclass(frozen=True)
class FieldShape:
    """The numbers a field encoder is built from.

    history: steps that are read, from the window's first on. horizon: steps that are asked for, up to its last. amid:
    whether these are the same steps (imputation, kriging), rather than one after the other (forecasts).
    steps_per_day: how many steps a local day has at most. classes: there are, where a window's class is asked for.
    """

    history: int
    horizon: int
    nodes: int
    channels: int
    steps_per_day: int
    note_words: int = 0
    amid: bool = False
    classes: int = 0

    @property
    def context(self) -> int:
        """Leading steps that are never asked for."""
        return 0 if self.amid else self.history


def edges_of(sample: Sample) -> Edges:
    """The edges along which a sample's places are neighbours: adjacent cells, joined sensors."""
    pairs = [(j, i, w) for i, near in enumerate(sample.side.neighbours) for j, w in near]
    return Edges(
        source=np.array([source for source, _, _ in pairs], dtype=np.int64),
        target=np.array([target for _, target, _ in pairs], dtype=np.int64),
        weight=np.array([weight for _, _, weight in pairs], dtype=np.float64),
    )


class PatchEmbedding(nn.Module):
    """Cuts each place's history into patches of `patch` steps and embeds values, gaps, time and place.

    A history that `patch` does not divide is padded at its old end with unseen steps. One more token, the
    question, carries the calendar of the asked steps and the notes; it comes last.
    drop_embeddings: names of embeddings that are left out. center_windows: subtracts the mean of each place's visible
    values. extra_features, places: features that are added to the tokens, and the numbers of each place that they need
    (`encode.extra_features.places_of`). fusion: whether what is known of time and place is added to the embedded values
    or scales them (`scale`: feature-wise modulation without a shift, Perez et al. 2018).
    """

    def __init__(
        self,
        shape: FieldShape,
        *,
        d_st: int,
        patch: int,
        drop_embeddings: Sequence[str] = (),
        center_windows: bool = False,
        extra_features: Sequence[str] = (),
        places: Float[Tensor, "node feature"] | None = None,
        fusion: str = "add",
    ) -> None:
        super().__init__()
        self.center_windows = center_windows
        self.patch, self.history, self.context = patch, shape.history, shape.context
        self.count = -(-shape.history // patch)
        self.values = nn.Linear(2 * patch * shape.channels, d_st)
        self.position = nn.Embedding(self.count + 1, d_st)
        self.step_of_day = nn.Embedding(shape.steps_per_day, d_st)
        self.day_of_week = nn.Embedding(7, d_st)
        self.holiday = nn.Embedding(2, d_st)
        # Without places of their own, weights are for any number of places.
        self.node = nn.Embedding(1 if "node" in drop_embeddings else shape.nodes, d_st)
        self.notes = nn.EmbeddingBag(shape.note_words + 2, d_st, mode="mean", padding_idx=0)
        for table in (self.position, self.step_of_day, self.day_of_week, self.holiday, self.node, self.notes):
            nn.init.normal_(table.weight, std=0.02)
        for name in drop_embeddings:  # a table that is never anything but 0
            table = getattr(self, name)
            nn.init.zeros_(table.weight)
            table.weight.requires_grad_(False)
        self._beside(shape, d_st, extra_features, places)
        self.gate: nn.Module | None = None
        if fusion == "scale":
            last = nn.Linear(d_st, d_st)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.gate = nn.Sequential(nn.GELU(), nn.Linear(d_st, d_st), nn.GELU(), last)

    def _beside(
        self,
        shape: FieldShape,
        d_st: int,
        extra_features: Sequence[str],
        places: Float[Tensor, "node feature"] | None,
    ) -> None:
        """Makes the layers that what is known beside the values goes through."""
        width = place_width(extra_features)
        if width and (places is None or places.shape != (shape.nodes, width)):
            came = "nothing" if places is None else f"{tuple(places.shape)}"
            raise ConfigError(
                f"encoder.extra_features: {', '.join(extra_features)} takes {width} numbers about each of "
                f"{shape.nodes} places, but {came} came. Give `places_of(sample, edges, extra_features)`."
            )
        self.register_buffer("places", places if width else None, persistent=False)
        self.of_place = nn.Linear(width, d_st, bias=False) if width else None
        wide = window_width(extra_features)
        self.of_window = nn.Sequential(nn.LayerNorm(wide), nn.Linear(wide, d_st)) if wide else None
        bins = shape.channels * (shape.history // 2 + 1)
        self.frequency = nn.Linear(bins, d_st) if "frequency" in extra_features else None
        self.month = nn.Embedding(12, d_st) if "month" in extra_features else None
        if self.month is not None:
            nn.init.normal_(self.month.weight, std=0.02)

    def forward(self, batch: FieldBatch) -> Float[Tensor, "batch node patch d_st"]:
        b, _, n, _ = batch.values.shape
        values, visible = batch.values[:, : self.history], batch.visible[:, : self.history]
        shown = visible.to(values.dtype)
        if self.center_windows:
            level = (values * shown).sum(dim=1, keepdim=True) / shown.sum(dim=1, keepdim=True).clamp(min=1)
            values = (values - level) * shown
        both = torch.cat([values, shown], dim=-1)
        missing = self.count * self.patch - self.history
        both = nn.functional.pad(both, (0, 0, 0, 0, missing, 0))
        rows = both.permute(0, 2, 1, 3).reshape(b, n, self.count, -1)
        first = torch.arange(self.count, device=rows.device) * self.patch - missing
        past = self._time(batch.calendar[:, first.clamp(min=0)])
        asked = self._time(batch.calendar[:, self.context :]).mean(dim=1, keepdim=True)
        question = asked + self.notes(batch.notes)[:, None]
        when = torch.cat([past, question], dim=1)[:, None]
        beside = when + self.position.weight + self.node.weight[:, None]
        if self.of_place is not None:
            beside = beside + self.of_place(self.places)[:, None]
        if self.of_window is not None:
            beside = beside + self.of_window(batch.features)[:, None, None]
        if self.frequency is not None:
            beside = beside + self.frequency(_spectrum(values * shown))[:, :, None]
        embedded = self.values(rows)
        if self.gate is None:
            return beside + nn.functional.pad(embedded, (0, 0, 0, 1))
        scaled = embedded * (1 + self.gate(beside[:, :, :-1] + beside[:, :, -1:]))
        asking = self.position.weight[-1].expand(b, n, 1, -1)
        return torch.cat([scaled, asking], dim=2)

    def _time(self, calendar: Int64[Tensor, "batch patch 4"]) -> Float[Tensor, "batch patch d_st"]:
        step, day, holiday, month = calendar.unbind(dim=-1)
        total: Tensor = self.step_of_day(step) + self.day_of_week(day) + self.holiday(holiday)
        return total if self.month is None else total + self.month(month)


def _spectrum(
    values: Float[Tensor, "batch time node channel"],
) -> Float[Tensor, "batch node bin"]:
    """The logarithm of how strong each frequency of a place's history is."""
    strength = torch.fft.rfft(values.float(), dim=1, norm="ortho").abs()
    return torch.log1p(strength).permute(0, 2, 1, 3).flatten(2)


class Diffusion(nn.Module):
    """Random walks of up to two steps along the edges and against them (DCRNN, Li et al. 2018)."""

    def __init__(self, d_st: int) -> None:
        super().__init__()
        self.along = TAGConv(d_st, d_st, K=2, normalize=False)
        self.against = TAGConv(d_st, d_st, K=2, normalize=False, bias=False)

    def forward(
        self,
        z: Float[Tensor, "batch node d_st"],
        edges: Int64[Tensor, "2 edge"],
        weight: Float[Tensor, " edge"],
    ) -> Float[Tensor, "batch node d_st"]:
        back = edges.flip(0)
        walks = [weight / _total(weight, ends[0], z.shape[1])[ends[0]] for ends in (edges, back)]
        mixed: Tensor = self.along(z, edges, walks[0]) + self.against(z, back, walks[1])
        return mixed


def _total(
    weight: Float[Tensor, " edge"], node: Int64[Tensor, " edge"], nodes: int
) -> Float[Tensor, " node"]:
    """What the edges of each node weigh together, a little at least."""
    return (
        torch.zeros(nodes, dtype=weight.dtype, device=weight.device)
        .index_add(0, node, weight)
        .clamp(min=1e-12)
    )


class GraphLayer(nn.Module):
    """One torch-geometric layer over the places of each sample, added to its input."""

    def __init__(self, kind: str, *, d_st: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_st)
        self.weighted = kind != "gat"
        self.layer: nn.Module
        if kind == "gat":
            self.layer = GATv2Conv(d_st, d_st // 4, heads=4, edge_dim=1)
        else:
            self.layer = GCNConv(d_st, d_st) if kind == "gcn" else Diffusion(d_st)

    def forward(
        self,
        z: Float[Tensor, "batch node d_st"],
        edges: Int64[Tensor, "2 edge"],
        weight: Float[Tensor, " edge"],
    ) -> Float[Tensor, "batch node d_st"]:
        b, n, d = z.shape
        if self.weighted:  # all windows on one graph at once
            mixed: Tensor = self.layer(self.norm(z), edges, weight)
            return z + torch.nn.functional.gelu(mixed)
        shift = (torch.arange(b, device=z.device) * n)[:, None, None]
        index = (edges[None] + shift).permute(1, 0, 2).reshape(2, -1)
        flat = self.norm(z).reshape(b * n, d)
        out: Tensor = self.layer(flat, index, weight.repeat(b)[:, None])
        return z + torch.nn.functional.gelu(out.reshape(b, n, d))


class ResidualMLP(nn.Module):
    """All tokens of a place at once through residual layers, as in STID (Shao et al. 2022), into its last token.

    Without a layer it is linear.
    """

    def __init__(self, tokens: int, *, d_st: int, layers: int) -> None:
        super().__init__()
        self.enter = nn.Linear(tokens * d_st, 2 * d_st)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(2 * d_st, 2 * d_st), nn.ReLU(), nn.Linear(2 * d_st, 2 * d_st))
            for _ in range(layers)
        )
        self.leave = nn.Linear(2 * d_st, d_st)

    def forward(self, z: Float[Tensor, "row patch d_st"]) -> Float[Tensor, "row patch d_st"]:
        hidden: Tensor = self.enter(z.flatten(1))
        for layer in self.layers:
            hidden = hidden + layer(hidden)
        return torch.cat([z[:, :-1], self.leave(hidden)[:, None]], dim=1)


class FieldEncoder(nn.Module):
    """Turns a batch of windows into `slots` embeddings of width d_st, the same for every arm of a comparison.

    Patches and a question token a place -> a mixer over time (transformer, or mlp) -> a layer over places, along edges
    or (graph='regions') through regions of at most `region_size` places, as `partition` says. With
    tokens='place' a place becomes one token (its question token); with tokens='patch' all its tokens are kept.
    """

    def __init__(
        self,
        shape: FieldShape,
        edges: Edges,
        *,
        d_st: int,
        patch: int,
        layers: int,
        graph: str,
        tokens: str,
        mixer: str = "transformer",
        drop_embeddings: Sequence[str] = (),
        center_windows: bool = False,
        extra_features: Sequence[str] = (),
        places: Float[Tensor, "node feature"] | None = None,
        partition: Partition | None = None,
        region_size: int = 16,
        fusion: str = "add",
    ) -> None:
        super().__init__()
        if tokens not in ("place", "patch"):
            raise ConfigError(f"There is no token layout {tokens!r}. {nearest(tokens, ('place', 'patch'))}")
        if mixer not in MIXERS:
            raise ConfigError(f"There is no mixer {mixer!r}. {nearest(mixer, MIXERS)}")
        if graph not in GRAPHS:
            raise ConfigError(f"There is no graph layer {graph!r}. {nearest(graph, GRAPHS)}")
        self.tokens = tokens
        self.embed = PatchEmbedding(
            shape,
            d_st=d_st,
            patch=patch,
            drop_embeddings=drop_embeddings,
            center_windows=center_windows,
            extra_features=extra_features,
            places=places,
            fusion=fusion,
        )
        self.time: nn.Module
        if mixer == "mlp":
            self.time = ResidualMLP(self.embed.count + 1, d_st=d_st, layers=layers)
        else:
            block = nn.TransformerEncoderLayer(
                d_st, 4, 2 * d_st, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            self.time = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.space: nn.Module | None = None
        if graph == "regions":
            self.space = RegionMixer(partition, d_st=d_st, cap=region_size)
        elif graph != "none":
            self.space = GraphLayer(graph, d_st=d_st)
        index = torch.stack([torch.from_numpy(edges.source), torch.from_numpy(edges.target)])
        self.register_buffer("edges", index, persistent=False)
        self.register_buffer("weight", torch.from_numpy(edges.weight).float(), persistent=False)
        per_place = 1 if tokens == "place" else self.embed.count + 1
        self.slots = shape.nodes * per_place
        self.asked = slice(per_place - 1, None, per_place)
        """The slots that heads read: the question token of each place."""

    def forward(
        self, batch: FieldBatch, condition: Float[Tensor, "batch d_st"] | None = None
    ) -> Float[Tensor, "batch slot d_st"]:
        """condition: an embedding that is added to all tokens of a window."""
        tokens = self.embed(batch)
        if condition is not None:
            tokens = tokens + condition[:, None, None]
        b, n, p, d = tokens.shape
        z = self.time(tokens.reshape(b * n, p, d)).reshape(b, n, p, d)
        question: Tensor = z[:, :, -1]
        if self.space is not None:
            along = () if isinstance(self.space, RegionMixer) else (self.edges, self.weight)
            question = self.space(question, *along)
        if self.tokens == "place":
            return question
        return torch.cat([z[:, :, :-1], question[:, :, None]], dim=2).reshape(b, n * p, d)
