"""Hidden states of texts in a frozen language model, as features of other models."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from st2llm.llm.architecture.base_model import base_of
from st2llm.llm.local import LanguageModel

CHUNK_TOKENS = 256
"""Longer texts are read in parts of so many tokens, each without those before."""
MAX_TOKENS = 1024
"""Tokens of a text that are read; what follows is left out."""
_BATCH_TOKENS = 4096


class TextStates:
    """The states of the last layer of a frozen language model for a text.

    Without an ending, it is the mean over the tokens of the text; with one, such as a question, it is the state of the
    last token of the ending behind the text (as PromptEOL, Jiang et al. 2024). The depth to read at is that of the
    model (`load_llm(depth=...)`). States are kept by the hash of the text. The mean of an empty text is 0.
    """

    def __init__(self, llm: LanguageModel, ending: str | None = None) -> None:
        self.llm = llm
        self.ending = ending
        self.tokens_read = 0
        self._cache: dict[str, Float32[np.ndarray, " d_lm"]] = {}

    @property
    def width(self) -> int:
        """The length of a vector."""
        return self.llm.d_lm

    def encode(self, texts: Sequence[str]) -> Float32[np.ndarray, "text d_lm"]:
        """A vector for each text, in order."""
        keys = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._cache}
        self._read(new)
        if not keys:
            return np.zeros((0, self.width), dtype=np.float32)
        return np.stack([self._cache[key] for key in keys])

    def _read(self, texts: dict[str, str]) -> None:
        tokens = {key: self._tokens(text) for key, text in texts.items()}
        parts = CHUNK_TOKENS if self.ending is None else MAX_TOKENS
        chunks = [
            (key, ids[start : start + parts])
            for key, ids in tokens.items()
            for start in range(0, len(ids), parts)
        ]
        chunks.sort(key=lambda chunk: len(chunk[1]))
        totals = {key: np.zeros(self.width) for key in texts}
        for batch in _batches(chunks):
            states = self._states([ids for _, ids in batch])
            for (key, _), state in zip(batch, states, strict=True):
                totals[key] += state
        for key, total in totals.items():
            count = max(1, len(tokens[key])) if self.ending is None else 1
            self._cache[key] = (total / count).astype(np.float32)
        self.tokens_read += sum(map(len, tokens.values()))

    def _tokens(self, text: str) -> list[int]:
        """The tokens that are read; the ending is never cut."""
        encode = self.llm.tokenizer.encode
        if self.ending is None:
            return encode(text)[:MAX_TOKENS]
        ending = encode(self.ending)
        return [*encode(text)[: max(0, MAX_TOKENS - len(ending))], *ending]

    @torch.inference_mode()
    def _states(self, rows: list[list[int]]) -> Float32[np.ndarray, "row d_lm"]:
        """The sum of the states of each row, or the last one; rows are padded at the end, which causal attention does
        not see.
        """
        length = max(map(len, rows))
        ids = torch.zeros(len(rows), length, dtype=torch.long)
        mask = torch.zeros(len(rows), length, dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
        device = self.llm.device
        output = base_of(self.llm.model)(input_ids=ids.to(device), attention_mask=mask.to(device))
        states: Tensor = output.last_hidden_state.float()
        if self.ending is not None:
            picked = states[torch.arange(len(rows), device=device), mask.sum(dim=1).to(device) - 1]
            return np.asarray(picked.cpu().numpy())
        return np.asarray((states * mask.to(device)[..., None]).sum(dim=1).cpu().numpy())


def _batches(chunks: Sequence[tuple[str, list[int]]]) -> list[list[tuple[str, list[int]]]]:
    """Chunks, shortest first, in batches of at most _BATCH_TOKENS tokens with padding."""
    batches: list[list[tuple[str, list[int]]]] = []
    for chunk in chunks:
        if not batches or (len(batches[-1]) + 1) * len(chunk[1]) > _BATCH_TOKENS:
            batches.append([])
        batches[-1].append(chunk)
    return batches
