"""Candidates as a token tree, so that each shared prefix is read once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from st2llm.errors import ConfigError


@dataclass(frozen=True)
class TreePass:
    """Nodes that are read in one forward pass.

    ancestor_mask: True where a node attends to another: its ancestors and itself. edges: pairs of a node of
    this pass and a token after it. candidate: the index of the candidate that each edge belongs to.
    """

    ids: tuple[int, ...]
    ancestor_mask: Bool[Tensor, "node node"]
    edges: tuple[tuple[int, int], ...]
    candidate: Int64[np.ndarray, " edges"]


def check_candidates(candidates: Sequence[Sequence[int]]) -> None:
    """Raises ConfigError for an empty list or an empty candidate."""
    if not candidates or not all(candidates):
        raise ConfigError("Scoring needs candidates of at least one token each. Remove empty candidates.")


class CandidateTree:
    """The prefixes of candidates, each once. first_tokens: the first token of each candidate."""

    def __init__(self, candidates: Sequence[Sequence[int]]) -> None:
        self.candidates = [tuple(candidate) for candidate in candidates]
        self.first_tokens = [candidate[0] for candidate in self.candidates]

    def passes(self, max_nodes: int) -> Iterator[TreePass]:
        """Splits the tree between first tokens into passes of at most `max_nodes` nodes, or of one first token."""
        order = sorted(range(len(self.candidates)), key=lambda i: self.candidates[i])
        builder = _TreePassBuilder()
        first_token: int | None = None
        for i in order:
            candidate = self.candidates[i]
            if candidate[0] != first_token and len(builder.node_of_prefix) >= max_nodes:
                yield builder.build()
                builder = _TreePassBuilder()
            first_token = candidate[0]
            builder.add(i, candidate)
        if builder.node_of_prefix:
            yield builder.build()


class _TreePassBuilder:
    def __init__(self) -> None:
        self.node_of_prefix: dict[tuple[int, ...], int] = {}
        self.edges: list[tuple[int, int]] = []
        self.candidate_index: list[int] = []

    def add(self, index: int, candidate: tuple[int, ...]) -> None:
        for length in range(1, len(candidate)):
            node = self.node_of_prefix.setdefault(candidate[:length], len(self.node_of_prefix))
            self.edges.append((node, candidate[length]))
            self.candidate_index.append(index)

    def build(self) -> TreePass:
        ancestor_mask = torch.eye(len(self.node_of_prefix), dtype=torch.bool)
        for prefix, node in self.node_of_prefix.items():
            if len(prefix) > 1:
                ancestor_mask[node] |= ancestor_mask[self.node_of_prefix[prefix[:-1]]]
        ids = tuple(words[-1] for words in self.node_of_prefix)
        return TreePass(ids, ancestor_mask, tuple(self.edges), np.array(self.candidate_index, dtype=np.int64))
