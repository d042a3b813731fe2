"""What a model was fitted on; a model that was fitted on values of the test part is refused."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from st2llm.data.windows.coverage import Coverage, coverage_of, overlap, time_text
from st2llm.errors import ConfigError, DataError
from st2llm.types import Provenance, Sample

INSTRUCTION_MANIFEST = "instruct.json"
"""The file of an instruction set that says what it was made from."""
FITTED_ON_KEY = "st2llm.fitted_on"
"""The key of a parquet file's metadata that holds what the model behind its predictions was fitted on."""
PRE_TRAINING = "the pre-training text of "
"""Begins what is unknown of a pretrained language model."""
_UNKNOWN = "unknown"


@dataclass(frozen=True)
class FittedOn:
    """All that a model was fitted on: known data, and what is unknown, in words ('the weights amazon/chronos-t5-tiny').

    Data that chose its state (validation) count. Nothing of both: the model was not fitted.
    """

    known: tuple[Coverage, ...] = ()
    unknown: tuple[str, ...] = ()

    def __add__(self, other: "FittedOn") -> "FittedOn":
        unknown = dict.fromkeys((*self.unknown, *other.unknown))
        return FittedOn((*self.known, *(c for c in other.known if c not in self.known)), tuple(unknown))

    def summary(self) -> list[dict[str, Any]]:
        """What a record holds: a row for each data set and part, and `{"unknown": ...}` for what is not known."""
        return [
            *(coverage.summary() for coverage in self.known),
            *({_UNKNOWN: what} for what in self.unknown),
        ]

    def to_json(self) -> list[dict[str, Any]]:
        return [
            *(coverage.to_json() for coverage in self.known),
            *({_UNKNOWN: what} for what in self.unknown),
        ]

    @classmethod
    def from_json(cls, content: Any) -> "FittedOn":
        """What `to_json` wrote. Raises DataError for anything else."""
        if not isinstance(content, list) or not all(isinstance(row, Mapping) for row in content):
            raise DataError(
                f"A record of what a model was fitted on should be a list of data sets, but it is {str(content)[:80]}. "
                f"Train the model again."
            )
        known = tuple(Coverage.from_json(row) for row in content if _UNKNOWN not in row)
        return cls(known, tuple(str(row[_UNKNOWN]) for row in content if _UNKNOWN in row))


NOT_FITTED = FittedOn()
"""Of a predictor that was fitted on nothing."""


def fitted_on_parts(parts: Mapping[str, Iterable[Sample]], provenance: Provenance) -> FittedOn:
    """What a model is fitted on that is given these parts of a split, by name. provenance: of their data."""
    found = [coverage_of(samples, provenance, part=name) for name, samples in parts.items()]
    return FittedOn(tuple(coverage for coverage in found if coverage is not None))


def instructions_fitted_on(path: str) -> FittedOn:
    """What a model is fitted on that is trained on an instruction set; unknown for one without manifests.

    path: a folder or hub id. The test rows of a set are not trained on.
    """
    folder = Path(path)
    files = sorted(folder.rglob(INSTRUCTION_MANIFEST)) if folder.is_dir() else []
    covers = [json.loads(file.read_text(encoding="utf-8")).get("covers") for file in files]
    known = [Coverage.from_json(row) for rows in covers for row in rows or ()]
    complete = bool(covers) and None not in covers
    return FittedOn(
        tuple(coverage for coverage in known if coverage.part != "test"),
        () if complete else (f"the instruction set {path}",),
    )


def refuse_overlap(fitted: FittedOn, test: Coverage | None, *, who: str) -> None:
    """Raises ConfigError where a model was fitted on values that the test part asks for.

    test: of the steps to predict; None where there is no test part. who: names the model for the message.
    """
    if test is None:
        return
    for coverage in fitted.known:
        common = overlap(coverage, test)
        if common is None:
            continue
        start, end, begin = (time_text(at, test.kind) for at in (common.start, common.end, test.start))
        raise ConfigError(
            f"{who} should be fitted on data without the test part, but it was fitted on {_description(coverage)}, "
            f"which holds values that the test part of {test.data} asks for, from {start} to {end}, of "
            f"{_listed(common.places)} ({len(common.places)} of {len(test.spans)}). Fit it on data that end before "
            f"{begin}, or on other places, objects or clips."
        )


def _description(coverage: Coverage) -> str:
    start, end = (time_text(at, coverage.kind) for at in (coverage.start, coverage.end))
    part = f"the {coverage.part} part of " if coverage.part else ""
    return f"{part}{coverage.data} ({start} to {end})"


def _listed(places: Sequence[str]) -> str:
    return ", ".join(places[:3]) + (", ..." if len(places) > 3 else "")
