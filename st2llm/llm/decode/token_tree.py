"""Candidates as a tree of tokens, so that a beginning which many share is read once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from st2llm.errors import ConfigError


@dataclass(frozen=True)
class Part:
    """Nodes that are read in one pass: their tokens, who is whose ancestor (or itself), and what is asked of them.

    asked: pairs of a node of this part and a token after it. owner: the candidate that each pair counts for.
    """

    ids: tuple[int, ...]
    seen: Bool[Tensor, "node node"]
    asked: tuple[tuple[int, int], ...]
    owner: Int64[np.ndarray, " asked"]


class Tree:
    """The beginnings of candidates, each once. first: each candidate's first token. height: the longest candidate.

    Raises ConfigError for no candidates, or an empty one.
    """

    def __init__(self, candidates: Sequence[Sequence[int]]) -> None:
        if not candidates or not all(candidates):
            raise ConfigError("Scoring needs candidates of at least one token each. Leave empty words out.")
        self.candidates = [tuple(candidate) for candidate in candidates]
        self.first = [candidate[0] for candidate in self.candidates]
        self.height = max(map(len, self.candidates))

    def parts(self, most: int) -> Iterator[Part]:
        """The tree cut between first tokens into parts of at most `most` nodes, or one first token's nodes."""
        order = sorted(range(len(self.candidates)), key=lambda i: self.candidates[i])
        grown = _Branch()
        begun: int | None = None
        for i in order:
            candidate = self.candidates[i]
            if candidate[0] != begun and len(grown.node) >= most:
                yield grown.part()
                grown = _Branch()
            begun = candidate[0]
            grown.add(i, candidate)
        if grown.node:
            yield grown.part()


class _Branch:
    def __init__(self) -> None:
        self.node: dict[tuple[int, ...], int] = {}
        self.asked: list[tuple[int, int]] = []
        self.owner: list[int] = []

    def add(self, owner: int, candidate: tuple[int, ...]) -> None:
        for length in range(1, len(candidate)):
            node = self.node.setdefault(candidate[:length], len(self.node))
            self.asked.append((node, candidate[length]))
            self.owner.append(owner)

    def part(self) -> Part:
        seen = torch.eye(len(self.node), dtype=torch.bool)
        for words, node in self.node.items():
            if len(words) > 1:
                seen[node] |= seen[self.node[words[:-1]]]
        ids = tuple(words[-1] for words in self.node)
        return Part(ids, seen, tuple(self.asked), np.array(self.owner, dtype=np.int64))
