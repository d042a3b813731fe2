"""Projection heads up to the language model's width and back down."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from st2llm.encode.batch import FieldBatch


class UpHead(nn.Module):
    """Two linear layers with a GELU between, normed to the LLM's own token scale.

    token_rms: root mean square of the LLM's embedding table, so that a fresh head speaks at the volume the frozen
    model is used to. The MLP projector is that of LLaVA-1.5 (Liu et al. 2023); the norm is ours.
    """

    def __init__(self, d_st: int, d_lm: int, *, token_rms: float) -> None:
        super().__init__()
        self.d_st, self.d_lm, self.token_rms = d_st, d_lm, token_rms
        self.net = nn.Sequential(nn.Linear(d_st, d_lm), nn.GELU(), nn.Linear(d_lm, d_lm), nn.RMSNorm(d_lm))

    def forward(self, z: Float[Tensor, "batch slot {self.d_st}"]) -> Float[Tensor, "batch slot {self.d_lm}"]:
        tokens: Tensor = self.net(z)
        return self.token_rms * tokens


class DownHead(nn.Module):
    """Reads the encoder's width back out of the backbone: each slot's state, and the mean state of the words.

    The words' part is zero for backbones that read no words. Norms first, because hidden states of different
    backbones differ in scale by orders of magnitude.
    """

    def __init__(self, d_lm: int, d_st: int) -> None:
        super().__init__()
        self.d_lm, self.d_st = d_lm, d_st
        self.slot = nn.Sequential(nn.RMSNorm(d_lm), nn.Linear(d_lm, d_st))
        self.word = nn.Sequential(nn.RMSNorm(d_lm), nn.Linear(d_lm, d_st))

    def forward(
        self, slots: Float[Tensor, "batch slot {self.d_lm}"], words: Float[Tensor, "batch {self.d_lm}"]
    ) -> Float[Tensor, "batch slot {self.d_st}"]:
        total: Tensor = self.slot(slots) + self.word(words)[:, None]
        return total


class NumberHead(nn.Module):
    """Numbers from place embeddings: all asked steps of a window at once, in standardised units.

    context: leading steps of the window that are never asked for; 0 is added there. The last layer starts at zero,
    so an untrained arm is exactly the closed-form base of its batch.
    """

    def __init__(self, d_st: int, *, context: int, horizon: int, channels: int) -> None:
        super().__init__()
        self.d_st, self.context, self.horizon, self.channels = d_st, context, horizon, channels
        self.net = nn.Sequential(nn.LayerNorm(d_st), nn.Linear(d_st, d_st), nn.GELU())
        self.out = nn.Linear(d_st, horizon * channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, z: Float[Tensor, "batch node {self.d_st}"], batch: FieldBatch
    ) -> Float[Tensor, "batch time node channel"]:
        return batch.base + self.correction(z)

    def correction(
        self, z: Float[Tensor, "batch node {self.d_st}"]
    ) -> Float[Tensor, "batch time node channel"]:
        """What is added to the base."""
        b, n, _ = z.shape
        flat: Tensor = self.out(self.net(z))
        asked = torch.movedim(flat.reshape(b, n, self.horizon, self.channels), 2, 1)
        return nn.functional.pad(asked, (0, 0, 0, 0, self.context, 0))
