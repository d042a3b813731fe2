"""Containers to tokens to embeddings: the encoder that all trained arms share, and the interface of encoders."""

from torch import nn


class Encoder(nn.Module):
    """A module that maps a batch to embeddings: `forward(batch, condition=None)` returns `[batch, slot, d_st]`.

    slots: the number of embeddings of one sample. output_slots: those that heads read. condition: `[batch, d_st]`, is
    added to all embeddings (the noise level in diffusion pretraining).
    """

    slots: int
    output_slots: slice
