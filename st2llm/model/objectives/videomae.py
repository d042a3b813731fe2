"""VideoMAE (Tong et al. 2022): an encoder of the visible tubelets of a clip alone, and a small decoder of all."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from st2llm.encode.field import FieldShape
from st2llm.encode.field_batch import FieldBatch
from st2llm.errors import ConfigError

_HEADS = 4


@dataclass(frozen=True)
class VideoMaeSizes:
    """Widths and layers of encoder and decoder. tubelet: frames of a token, which holds the pixels of one region."""

    width: int
    layers: int
    tubelet: int = 2
    decoder_width: int = 64
    decoder_layers: int = 1


class VideoMae(nn.Module):
    """Predicts the pixels of the hidden regions of a clip from those of the visible ones.

    A token is a region over `tubelet` frames. The encoder reads the tokens all of whose pixels are visible; the decoder
    reads their states and, at all other positions, one learned token. Unlike the authors' model, positions are learned.
    Raises ConfigError where the frames of a window are no multiple of `tubelet`.
    """

    def __init__(self, shape: FieldShape, sizes: VideoMaeSizes, *, seed: int) -> None:
        super().__init__()
        if shape.history % sizes.tubelet:
            raise ConfigError(
                f"A window of {shape.history} frames cannot be cut into tokens of {sizes.tubelet}. Correct "
                f"objectives.videomae.tubelet or the length of the task."
            )
        self.tubelet, inner = sizes.tubelet, sizes.decoder_width
        pixels, tokens = sizes.tubelet * shape.channels, shape.history // sizes.tubelet * shape.nodes
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.enter = nn.Linear(pixels, sizes.width)
            self.position = nn.Parameter(0.02 * torch.randn(tokens, sizes.width))
            self.encoder = _layers(sizes.width, sizes.layers)
            self.bridge = nn.Linear(sizes.width, inner)
            self.hidden = nn.Parameter(0.02 * torch.randn(inner))
            self.decoder_position = nn.Parameter(0.02 * torch.randn(tokens, inner))
            self.decoder = _layers(inner, sizes.decoder_layers)
            self.leave = nn.Linear(inner, pixels)
            nn.init.zeros_(self.leave.weight)
            nn.init.zeros_(self.leave.bias)

    def forward(self, batch: FieldBatch) -> Float[Tensor, "batch time node channel"]:
        """All pixels, standardised."""
        pixels, seen = self._tokens(batch.values), self._tokens(batch.visible).all(dim=-1)
        index, padding = _visible_first(seen)
        z = (self.enter(pixels) + self.position).gather(1, _wide(index, self.position.shape[1]))
        states = self.bridge(self.encoder(z, src_key_padding_mask=padding))
        # Padding repeats the positions of hidden tokens, which keep the learned token.
        states = torch.where(padding[..., None], self.hidden, states)
        placed = self.hidden.expand(*seen.shape, -1).scatter(1, _wide(index, states.shape[-1]), states)
        decoded = self.leave(self.decoder(placed + self.decoder_position))
        b, t, n, c = batch.values.shape
        split = decoded.reshape(b, t // self.tubelet, n, self.tubelet, c)
        whole: Tensor = split.transpose(2, 3).reshape(b, t, n, c)
        return whole

    def _tokens(self, x: Tensor) -> Tensor:
        """[batch, time, node, channel] as [batch, token, tubelet x channel], regions within steps."""
        b, t, n, c = x.shape
        split = x.reshape(b, t // self.tubelet, self.tubelet, n, c).transpose(2, 3)
        return split.reshape(b, t // self.tubelet * n, self.tubelet * c)


def _layers(width: int, count: int) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(
        width, _HEADS, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, count, norm=nn.LayerNorm(width), enable_nested_tensor=False)


def _visible_first(
    seen: Bool[Tensor, "batch token"],
) -> tuple[Int64[Tensor, "batch kept"], Bool[Tensor, "batch kept"]]:
    """The positions of visible tokens, and which of them are padding, where another window has more of them."""
    count = max(1, int(seen.sum(dim=1).max()))
    index = (~seen).to(torch.uint8).argsort(dim=1, stable=True)[:, :count]
    padding = ~seen.gather(1, index)
    padding[:, 0] = False  # a window without a visible token: attention needs one
    return index, padding


def _wide(index: Int64[Tensor, "batch kept"], width: int) -> Int64[Tensor, "batch kept width"]:
    return index[..., None].expand(*index.shape, width)
