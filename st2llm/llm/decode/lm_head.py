"""A language model's head, evaluated on the tokens that may follow and on no others."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn
from transformers import PreTrainedModel

from st2llm.llm.grammar.automaton import State
from st2llm.types import Decoding

WIDE_ROWS = 256
"""Rows whose logits over the whole vocabulary are held at once."""
_MOST_PARTS = 256

Ids = Int64[np.ndarray, " _"]
Part = tuple[Ids, Tensor, Tensor | None, Tensor]
"""Tokens, the head's rows and biases for them, and which kind of place allows which."""


class Head:
    """Logits in fp32 from hidden states after the last norm."""

    def __init__(self, model: PreTrainedModel) -> None:
        layer: nn.Linear = model.get_output_embeddings()
        self._weight, self._bias = layer.weight, getattr(layer, "bias", None)
        self._softcap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
        self._parts: dict[tuple[int, ...], tuple[Part, list[Ids]]] = {}

    def full(self, hidden: Float[Tensor, "row d_lm"]) -> Float[Tensor, "row vocabulary"]:
        """Logits of the whole vocabulary."""
        return self._capped(F.linear(hidden.to(self._weight.dtype), self._weight, self._bias).float())

    def logprob(
        self, hidden: Float[Tensor, "row d_lm"], rows: Int[Tensor, " asked"], tokens: Int[Tensor, " asked"]
    ) -> Float[Tensor, " asked"]:
        """Log-probability over the whole vocabulary of `tokens` after the states `hidden[rows]`."""
        found = torch.zeros(len(rows), device=hidden.device)
        for first in range(0, len(hidden), WIDE_ROWS):
            mine = torch.nonzero((rows >= first) & (rows < first + WIDE_ROWS)).flatten()
            if len(mine):
                logprobs = self.full(hidden[first : first + WIDE_ROWS]).log_softmax(-1)
                found[mine] = logprobs[rows[mine] - first, tokens[mine]]
        return found

    def allowed(
        self, hidden: Float[Tensor, "row d_lm"], states: Sequence[State]
    ) -> tuple[Float[Tensor, "row column"], Int64[np.ndarray, " column"] | None]:
        """Log-probabilities among the tokens that each row's state allows, -inf for others, and the columns' tokens.

        The columns are None where a state allows the whole vocabulary: then they are the vocabulary itself.
        """
        kinds = {id(state.ids): state.ids for state in states}
        place = {key: i for i, key in enumerate(sorted(kinds))}
        kind = torch.tensor([place[id(state.ids)] for state in states], device=hidden.device)
        narrow = [ids for key in place if (ids := kinds[key]) is not None]
        if len(narrow) < len(place):
            logits = self.full(hidden)
            allowed = self._whole([kinds[key] for key in place])
            return logits.masked_fill(~allowed[kind], -torch.inf).log_softmax(-1), None
        columns, weight, bias, allowed = self._part(tuple(place), narrow)
        logits = self._capped(F.linear(hidden.float(), weight, bias))
        return logits.masked_fill_(~allowed[kind], -torch.inf).log_softmax(-1), columns

    def choose(
        self,
        hidden: Float[Tensor, "row d_lm"],
        states: Sequence[State],
        chance: Sequence[float],
        decoding: Decoding,
    ) -> tuple[list[int], list[float]]:
        """A token for each row and its log-probability among those allowed, before temperature and nucleus.

        chance: a uniform number in [0, 1) for each row, which picks the token from the cumulative distribution.
        """
        logprobs, columns = self.allowed(hidden, states)
        if decoding.temperature == 0:
            best, column = logprobs.max(-1)
        else:
            column = _drawn(logprobs, torch.tensor(list(chance), dtype=torch.float64), decoding)
            best = logprobs.gather(1, column[:, None])[:, 0]
        picked = column.cpu().numpy()
        return (picked if columns is None else columns[picked]).tolist(), best.tolist()

    def _capped(self, logits: Tensor) -> Tensor:
        return logits if self._softcap is None else torch.tanh(logits / self._softcap) * self._softcap

    def _part(self, key: tuple[int, ...], kinds: list[Ids]) -> Part:
        """The head's rows for all tokens that any of the kinds allows; a kind's array, kept, is its identity."""
        if key not in self._parts:
            if len(self._parts) >= _MOST_PARTS:
                self._parts.clear()
            columns = np.unique(np.concatenate(kinds)).astype(np.int64)
            at = torch.from_numpy(columns).to(self._weight.device)
            allowed = torch.from_numpy(np.stack([np.isin(columns, ids) for ids in kinds]))
            bias = None if self._bias is None else self._bias[at].float()
            part = (columns, self._weight[at].float(), bias, allowed.to(self._weight.device))
            self._parts[key] = (part, kinds)
        return self._parts[key][0]

    def _whole(self, kinds: Sequence[Ids | None]) -> Tensor:
        allowed = torch.zeros(len(kinds), len(self._weight), dtype=torch.bool)
        for row, ids in zip(allowed, kinds, strict=True):
            row[slice(None) if ids is None else torch.from_numpy(ids)] = True
        return allowed.to(self._weight.device)


def _drawn(logprobs: Tensor, chance: Tensor, decoding: Decoding) -> Int[Tensor, " row"]:
    """Inverse-CDF sampling in order of token, at a temperature, within the nucleus of mass `top_p`."""
    share = (logprobs.double() / decoding.temperature).softmax(-1)
    if decoding.top_p < 1:
        ordered, order = share.sort(dim=-1, descending=True, stable=True)
        outside = ordered.cumsum(-1) - ordered >= decoding.top_p
        share = share.masked_fill(torch.zeros_like(outside).scatter(1, order, outside), 0.0)
    total = share.cumsum(-1)
    point = chance.to(share.device)[:, None] * total[:, -1:]
    column = (total <= point).sum(-1)
    last = share.shape[-1] - 1 - (share.flip(-1) > 0).double().argmax(-1)
    return torch.minimum(column, last)
