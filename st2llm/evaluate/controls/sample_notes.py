"""Planted data: each sample has a level, a note that states it, and a truth that depends on it."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from st2llm.data.windows.splits import Splits
from st2llm.evaluate.controls.effects import Effect
from st2llm.evaluate.controls.notes import LEVELS, level_note
from st2llm.predict.baselines import BaselinePredictor
from st2llm.types import Prediction, Sample, SampleSequence, SampleView, seed_from


@dataclass(frozen=True)
class Planting:
    """How samples are planted. What is visible stays as it was.

    rule: the forecast that untrained arms start from, fitted on real training windows. amount: size of the effect.
    seed: determines, with the id of a sample, all draws. common: every sample has the effect of the highest level,
    whatever its note says, so that training can learn the effect and the notes carry no information.
    """

    rule: BaselinePredictor
    effect: Effect
    amount: float
    seed: int
    common: bool = False

    def plant(self, sample: Sample, part: str) -> Sample:
        """The sample with a note in words of its part (train, validation, test) and, where it has one, a new truth."""
        planted, _ = self.plant_from(sample, self.forecast(sample), part)
        return planted

    def forecast(self, sample: Sample) -> Prediction:
        """The forecast of the rule, which knows no note."""
        return self.rule.predict([sample.without_truth()])[0]

    def plant_from(self, sample: Sample, forecast: Prediction, part: str) -> tuple[Sample, Prediction]:
        """The planted sample, and the forecast of a perfect use of its note. forecast: that of the rule."""
        rng = np.random.default_rng(seed_from(f"{self.seed} {sample.id}"))
        level = self.effect.draw_level(0.0 if self.common else self.amount, rng)
        planted = replace(sample, side=replace(sample.side, notes=(level_note(part, level, rng),)))
        level = LEVELS[-1] if self.common else level
        if planted.truth is not None:
            planted = self.effect.without_effect(planted, forecast, rng)
            planted = self.effect.plant(planted, level, self.amount)
        return planted, self.effect.informed(sample, forecast, level, self.amount)


@dataclass(frozen=True, eq=False)
class PlantedPart(SampleView):
    """A part of a split whose samples are planted on access. name: train, validation or test."""

    source: SampleSequence
    name: str
    planting: Planting

    def sample(self, position: int) -> Sample:
        return self.planting.plant(self.source[position], self.name)

    def select(self, positions: Iterable[int]) -> "PlantedPart":
        return replace(self, source=self.source.select(positions))

    @property
    def sha256(self) -> str:
        planting = self.planting
        identity = f"{self.source.sha256} {self.name} {planting.rule.name} {planting.amount} {planting.seed}"
        if planting.common:
            identity += " common"
        return hashlib.sha256(identity.encode()).hexdigest()


def plant_splits(splits: Splits, planting: Planting) -> Splits:
    """The same splits with planted samples."""
    return Splits(
        splits.train.map(lambda part: PlantedPart(part, "train", planting)),
        splits.validation.map(lambda part: PlantedPart(part, "validation", planting)),
        splits.test.map(lambda part: PlantedPart(part, "test", planting)),
    )
