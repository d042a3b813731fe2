"""A language model's output head, evaluated only on the tokens that the grammar allows."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from st2llm.errors import ConfigError
from st2llm.llm.grammar.automaton import AutomatonState
from st2llm.types import Decoding

MAX_FULL_ROWS = 256
"""Rows for which logits over the whole vocabulary are held at once."""
_MAX_CACHED_SLICES = 256
_SOFTCAPS = ("final_logit_softcapping", "logits_soft_cap")

TokenIds = Int64[np.ndarray, " _"]
HeadSlice = tuple[TokenIds, Tensor, Tensor | None, Tensor]
"""Token ids, the head's rows and biases for them, and a mask of which token set allows which."""


class LMHead:
    """Logits in fp32 from hidden states after the final norm. Raises ConfigError for a model without such a head."""

    def __init__(self, model: PreTrainedModel) -> None:
        layer: nn.Linear | None = model.get_output_embeddings()
        if layer is None:
            raise ConfigError(
                f"{type(model).__name__} has no output head over its vocabulary, so it cannot write. Choose a causal "
                f"language model."
            )
        self._weight, self._bias = layer.weight, getattr(layer, "bias", None)
        config = model.config.get_text_config()
        self._softcap = next((cap for key in _SOFTCAPS if (cap := getattr(config, key, None))), None)
        self._scale = _logit_scale(config)
        self._slices: dict[tuple[int, ...], tuple[HeadSlice, list[TokenIds]]] = {}

    def full_logits(self, hidden: Float[Tensor, "row d_lm"]) -> Float[Tensor, "row vocabulary"]:
        """Logits over the whole vocabulary."""
        return self._finish(F.linear(hidden.to(self._weight.dtype), self._weight, self._bias).float())

    def token_logprobs(
        self, hidden: Float[Tensor, "row d_lm"], rows: Int[Tensor, " asked"], tokens: Int[Tensor, " asked"]
    ) -> Float[Tensor, " asked"]:
        """Log-probability over the whole vocabulary of `tokens` after the states `hidden[rows]`."""
        logprobs = torch.zeros(len(rows), device=hidden.device)
        for start in range(0, len(hidden), MAX_FULL_ROWS):
            selected = torch.nonzero((rows >= start) & (rows < start + MAX_FULL_ROWS)).flatten()
            if len(selected):
                full = self.full_logits(hidden[start : start + MAX_FULL_ROWS]).log_softmax(-1)
                logprobs[selected] = full[rows[selected] - start, tokens[selected]]
        return logprobs

    def allowed_logprobs(
        self, hidden: Float[Tensor, "row d_lm"], states: Sequence[AutomatonState]
    ) -> tuple[Float[Tensor, "row column"], Int64[np.ndarray, " column"] | None]:
        """Log-probabilities among the tokens that each row's state allows (-inf for others), and the token id of
        each column.

        The token ids are None where a state allows the whole vocabulary: the columns are then the vocabulary
        itself.
        """
        token_sets = {id(state.allowed): state.allowed for state in states}
        index_of = {key: i for i, key in enumerate(sorted(token_sets))}
        set_index = torch.tensor([index_of[id(state.allowed)] for state in states], device=hidden.device)
        restricted = [ids for key in index_of if (ids := token_sets[key]) is not None]
        if len(restricted) < len(index_of):
            logits = self.full_logits(hidden)
            allowed = self._allowed_mask([token_sets[key] for key in index_of])
            return logits.masked_fill(~allowed[set_index], -torch.inf).log_softmax(-1), None
        columns, weight, bias, allowed = self._head_slice(tuple(index_of), restricted)
        logits = self._finish(F.linear(hidden.float(), weight, bias))
        return logits.masked_fill_(~allowed[set_index], -torch.inf).log_softmax(-1), columns

    def path_logprob(
        self, states: Float[Tensor, "token d_lm"], path: Sequence[tuple[AutomatonState, tuple[int, ...]]]
    ) -> float:
        """Log-probability in nats of an answer under its grammar.

        states: hidden states from the last token of the prompt on. path: see `grammar_path`.
        """
        choices = [
            (i, step) for i, step in enumerate(path) if step[0].allowed is None or len(step[0].allowed) > 1
        ]
        if not choices:
            return 0.0
        rows = states[torch.tensor([i for i, _ in choices], device=states.device)]
        logprobs, columns = self.allowed_logprobs(rows, [step[0] for _, step in choices])
        total = 0.0
        for row, (_, (_, tokens)) in zip(logprobs, choices, strict=True):
            index = (
                torch.from_numpy(np.searchsorted(columns, np.array(tokens)))
                if columns is not None
                else torch.tensor(tokens)
            )
            total += float(row[index].logsumexp(0))
        return total

    def choose(
        self,
        hidden: Float[Tensor, "row d_lm"],
        states: Sequence[AutomatonState],
        uniforms: Sequence[float],
        decoding: Decoding,
    ) -> tuple[list[int], list[float]]:
        """A token for each row and its log-probability among the allowed tokens, before temperature and nucleus.

        uniforms: a number in [0, 1) for each row, which selects the token by the inverse cumulative
        distribution.
        """
        logprobs, columns = self.allowed_logprobs(hidden, states)
        if decoding.temperature == 0:
            best, column = logprobs.max(-1)
        else:
            column = _sample(logprobs, torch.tensor(list(uniforms), dtype=torch.float64), decoding)
            best = logprobs.gather(1, column[:, None])[:, 0]
        picked = column.cpu().numpy()
        return (picked if columns is None else columns[picked]).tolist(), best.tolist()

    def _finish(self, logits: Tensor) -> Tensor:
        if self._scale != 1:
            logits = logits * self._scale
        return logits if self._softcap is None else torch.tanh(logits / self._softcap) * self._softcap

    def _head_slice(self, key: tuple[int, ...], token_sets: list[TokenIds]) -> HeadSlice:
        """The head's rows for all tokens that any of the token sets allows, cached by the identity of the sets'
        arrays.
        """
        if key not in self._slices:
            if len(self._slices) >= _MAX_CACHED_SLICES:
                self._slices.clear()
            columns = np.unique(np.concatenate(token_sets)).astype(np.int64)
            index = torch.from_numpy(columns).to(self._weight.device)
            allowed = torch.from_numpy(np.stack([np.isin(columns, ids) for ids in token_sets]))
            bias = None if self._bias is None else self._bias[index].float()
            head_slice = (columns, self._weight[index].float(), bias, allowed.to(self._weight.device))
            self._slices[key] = (head_slice, token_sets)
        return self._slices[key][0]

    def _allowed_mask(self, token_sets: Sequence[TokenIds | None]) -> Tensor:
        allowed = torch.zeros(len(token_sets), len(self._weight), dtype=torch.bool)
        for row, ids in zip(allowed, token_sets, strict=True):
            row[slice(None) if ids is None else torch.from_numpy(ids)] = True
        return allowed.to(self._weight.device)


def _logit_scale(config: PreTrainedConfig) -> float:
    """The factor of the logits, by its name in the configs of Granite, HyperCLOVA, Cohere and Falcon-H1."""
    if (scaling := getattr(config, "logits_scaling", None)) is not None:
        return float(scaling) if config.model_type == "hyperclovax" else 1 / float(scaling)
    if config.model_type.startswith("cohere"):
        return float(config.logit_scale)
    return float(getattr(config, "lm_head_multiplier", 1.0))


def _sample(logprobs: Tensor, uniforms: Tensor, decoding: Decoding) -> Int[Tensor, " row"]:
    """Inverse-CDF sampling in order of token id, at a temperature, within the nucleus of mass `top_p`."""
    probability = (logprobs.double() / decoding.temperature).softmax(-1)
    if decoding.top_p < 1:
        ordered, order = probability.sort(dim=-1, descending=True, stable=True)
        outside = ordered.cumsum(-1) - ordered >= decoding.top_p
        probability = probability.masked_fill(torch.zeros_like(outside).scatter(1, order, outside), 0.0)
    total = probability.cumsum(-1)
    threshold = uniforms.to(probability.device)[:, None] * total[:, -1:]
    column = (total <= threshold).sum(-1)
    last = probability.shape[-1] - 1 - (probability.flip(-1) > 0).double().argmax(-1)
    return torch.minimum(column, last)
