"""The interface of encoders; `encode.field` and `encode.sequence` have those of st2llm."""

from torch import nn


class Encoder(nn.Module):
    """A module that maps a batch to embeddings: `forward(batch, condition=None)` returns `[batch, slot, d_st]`.

    slots: the number of embeddings of one sample. output_slots: those that heads read. condition: `[batch, d_st]`, is
    added to all embeddings (the noise level in diffusion pretraining).
    """

    slots: int
    output_slots: slice
