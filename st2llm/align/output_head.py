"""Output heads on embeddings: values of places, and the class of a sample."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from st2llm.encode.field_batch import FieldBatch
from st2llm.encode.layers.linear import Linear
from st2llm.encode.point_batch import PointBatch


class ValueHead(nn.Module):
    """Predicts the values of all horizon steps from place embeddings, in standardised units.

    context: leading steps of the window that are never predicted; 0 is added there. The last layer starts at
    zero, so an untrained arm predicts exactly its batch's base. linear: omits the hidden layer, so that the
    scale of an embedding matters. instance_norm: corrections are in standard deviations of each window.
    """

    def __init__(
        self,
        d_st: int,
        *,
        context: int,
        horizon: int,
        channels: int,
        linear: bool = False,
        instance_norm: bool = False,
    ) -> None:
        super().__init__()
        self.d_st, self.context, self.horizon, self.channels = d_st, context, horizon, channels
        self.instance_norm = instance_norm
        self.net = (
            nn.Identity() if linear else nn.Sequential(nn.LayerNorm(d_st), Linear(d_st, d_st), nn.GELU())
        )
        self.out = Linear(d_st, horizon * channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, z: Float[Tensor, "batch node {self.d_st}"], batch: FieldBatch
    ) -> Float[Tensor, "batch time node channel"]:
        correction = self.correction(z)
        if self.instance_norm:
            correction = correction * batch.instance_statistics(self.context or None)[1]
        return batch.base + correction

    def correction(
        self, z: Float[Tensor, "batch node {self.d_st}"]
    ) -> Float[Tensor, "batch time node channel"]:
        """The correction that is added to the base."""
        b, n, _ = z.shape
        flat: Tensor = self.out(self.net(z))
        steps = torch.movedim(flat.reshape(b, n, self.horizon, self.channels), 2, 1)
        return nn.functional.pad(steps, (0, 0, 0, 0, self.context, 0))


class FlattenHead(nn.Module):
    """Predicts all horizon steps of a place from all its tokens by one linear layer (PatchTST, Nie et al. 2023; GPT4TS,
    Zhou et al. 2023; Time-LLM, Jin et al. 2024).

    values: the head of the joined tokens of a place.
    """

    def __init__(self, tokens: int, values: ValueHead) -> None:
        super().__init__()
        self.tokens, self.values = tokens, values

    @property
    def out(self) -> nn.Module:
        """The last layer."""
        return self.values.out

    def forward(
        self, z: Float[Tensor, "batch slot d_st"], batch: FieldBatch
    ) -> Float[Tensor, "batch time node channel"]:
        b, slots, d = z.shape
        predicted: Tensor = self.values(z.reshape(b, slots // self.tokens, self.tokens * d), batch)
        return predicted


class NextPatchHead(nn.Module):
    """Predicts the patch after each patch of a place from the token of that patch (AutoTimes, Liu et al. 2024).

    While it is trained, each patch of the history counts: see `FieldBatch.with_next_patch_targets`. tokens: of a place,
    with its query token, which is not read. history: a multiple of `patch` steps. Predicts the patch after the history
    and no further: see `roll_out`.
    """

    def __init__(self, d_st: int, *, tokens: int, patch: int, channels: int, instance_norm: bool) -> None:
        super().__init__()
        self.tokens, self.patch, self.channels, self.instance_norm = tokens, patch, channels, instance_norm
        self.out = Linear(d_st, patch * channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, z: Float[Tensor, "batch slot d_st"], batch: FieldBatch
    ) -> Float[Tensor, "batch time node channel"]:
        b, slots, _ = z.shape
        n, patches, time = slots // self.tokens, self.tokens - 1, batch.values.shape[1]
        of_patches: Tensor = self.out(z.reshape(b, n, self.tokens, -1)[:, :, :-1])
        steps = of_patches.reshape(b, n, patches * self.patch, self.channels).movedim(1, 2)
        ahead = nn.functional.pad(steps, (0, 0, 0, 0, self.patch, 0))[:, :time]
        correction = nn.functional.pad(ahead, (0, 0, 0, 0, 0, time - ahead.shape[1]))
        mean, spread = batch.instance_statistics(patches * self.patch)
        return mean + correction * spread if self.instance_norm else batch.base + correction


def roll_out(
    predict: Callable[[FieldBatch], Float[Tensor, "batch time node channel"]],
    batch: FieldBatch,
    *,
    history: int,
    patch: int,
) -> Float[Tensor, "batch time node channel"]:
    """Predicts a horizon patch by patch: what was predicted is read as the end of the next history (Liu et al. 2024).

    predict: predicts the patch after the first `history` steps of windows.
    """
    total, context = batch.values.shape[1], batch
    for start in range(history, total, patch):
        window = context.steps(start - history, min(start + patch, total))
        context = context.continued(start, predict(window)[:, history:])
    return context.values


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
