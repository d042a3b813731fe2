"""Output heads on embeddings: values of places, and the class of a sample."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from st2llm.encode.field_batch import FieldBatch
from st2llm.encode.linear import Linear
from st2llm.encode.point_batch import PointBatch


class ValueHead(nn.Module):
    """Predicts the values of all horizon steps from place embeddings, in standardised units.

    context: leading steps of the window that are never predicted; 0 is added there. The last layer starts at
    zero, so an untrained arm predicts exactly its batch's base. linear: omits the hidden layer, so that the
    scale of an embedding matters.
    """

    def __init__(self, d_st: int, *, context: int, horizon: int, channels: int, linear: bool = False) -> None:
        super().__init__()
        self.d_st, self.context, self.horizon, self.channels = d_st, context, horizon, channels
        self.net = (
            nn.Identity() if linear else nn.Sequential(nn.LayerNorm(d_st), Linear(d_st, d_st), nn.GELU())
        )
        self.out = Linear(d_st, horizon * channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, z: Float[Tensor, "batch node {self.d_st}"], batch: FieldBatch
    ) -> Float[Tensor, "batch time node channel"]:
        return batch.base + self.correction(z)

    def correction(
        self, z: Float[Tensor, "batch node {self.d_st}"]
    ) -> Float[Tensor, "batch time node channel"]:
        """The correction that is added to the base."""
        b, n, _ = z.shape
        flat: Tensor = self.out(self.net(z))
        steps = torch.movedim(flat.reshape(b, n, self.horizon, self.channels), 2, 1)
        return nn.functional.pad(steps, (0, 0, 0, 0, self.context, 0))


class ClassificationHead(nn.Module):
    """Class scores from the pooled embedding of a sample: the mean over places of a field, the query of a
    sequence.
    """

    def __init__(self, d_st: int, classes: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.LayerNorm(d_st), Linear(d_st, d_st), nn.GELU())
        self.out = Linear(d_st, classes)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, z: Float[Tensor, "batch slot d_st"], batch: FieldBatch | PointBatch
    ) -> Float[Tensor, "batch class"]:
        """The log-probability of each class."""
        pooled = z[:, -1] if isinstance(batch, PointBatch) else z.mean(dim=1)
        return torch.log_softmax(self.out(self.net(pooled)), dim=1)

    def loss(
        self, log_probs: Float[Tensor, "batch class"], batch: FieldBatch | PointBatch
    ) -> Float[Tensor, " batch"]:
        """Cross-entropy in nats for each sample; 0 where the class is not known."""
        return nn.functional.nll_loss(log_probs, batch.label, ignore_index=-1, reduction="none")
