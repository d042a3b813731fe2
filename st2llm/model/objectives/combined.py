"""A weighted sum of objectives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from st2llm.config.objectives import Weighting
from st2llm.encode.batch import Batch
from st2llm.errors import ConfigError
from st2llm.model.objectives.objective import Objective


@dataclass(frozen=True)
class CombinedBatch:
    """The draws of the same samples by each term of a combination."""

    parts: Mapping[str, Batch]

    def __len__(self) -> int:
        return len(next(iter(self.parts.values())))

    def take(self, rows: Sequence[int]) -> "CombinedBatch":
        return replace(self, parts={name: part.take(rows) for name, part in self.parts.items()})

    def to(self, device: torch.device) -> "CombinedBatch":
        return replace(self, parts={name: part.to(device) for name, part in self.parts.items()})


class CombinedObjective:
    """A weighted sum of objectives, each on its own draw of the same samples."""

    def __init__(
        self,
        terms: Mapping[str, tuple[Objective, float]],
        *,
        weighting: Weighting = "fixed",
        selected_by: Sequence[str] = (),
    ) -> None:
        """terms: by name, an objective of one term and its weight. selected_by: the terms by the first of which, where
        the combination has one, the best state is selected; else by the weighted sum of all.

        Raises ConfigError for an empty mapping.
        """
        if not terms:
            raise ConfigError("A combination needs at least one objective: regression, masked, ...")
        self.terms, self.weighting = dict(terms), weighting
        self.selection = next((name for name in selected_by if name in self.terms), None)

    @property
    def term_weights(self) -> dict[str, float]:
        return {
            name: weight * share
            for name, (term, weight) in self.terms.items()
            for share in term.term_weights.values()
        }

    @property
    def whole_batch(self) -> bool:
        return any(term.whole_batch for term, _ in self.terms.values())

    def draw(self, batch: Batch, generator: torch.Generator) -> CombinedBatch:
        return CombinedBatch({name: term.draw(batch, generator) for name, (term, _) in self.terms.items()})

    def counts(self, batch: CombinedBatch) -> dict[str, int]:
        by_name = ((name, term.counts(batch.parts[name])) for name, (term, _) in self.terms.items())
        return {name: next(iter(counts.values())) for name, counts in by_name}

    def totals(self, arm: nn.Module, batch: CombinedBatch) -> dict[str, Tensor]:
        by_name = ((name, term.totals(arm, batch.parts[name])) for name, (term, _) in self.terms.items())
        return {name: next(iter(totals.values())) for name, totals in by_name}

    def selection_score(self, means: Mapping[str, float]) -> float:
        if self.selection is not None:
            return means[self.selection]
        if len(self.terms) == 1:
            return next(iter(means.values()))
        return sum(self.term_weights[name] * mean for name, mean in means.items())
