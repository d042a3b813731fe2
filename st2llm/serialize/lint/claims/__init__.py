"""What a description claims, checked against the visible values: supported, contradicted or uncheckable.

A text is cut into sentences and these into clauses; in each clause the patterns below are looked for, and all else is
no claim, but for a number that no pattern explains, which is uncheckable. So is a claim whose subject is not clear
(two places, or one of several channels not named), that the data give no clear answer to, and a clause that denies or
guesses (`not`, `will`, `likely`, ...). A clause without a place speaks of the one named before or of all that is
shown: it is right where either reading is, and wrong only where both are.

- graph and grid: `highest | maximum | peak ... 140`, `lowest ... 60`, `average ... 100`; `ranges from 60 to 140`;
  `starts at 80`, `ends at 90`; `peaks at 17:00` (the clock of the extreme, or of the extreme of the mean day); `80 at
  08:00` where one such moment is shown; `rises | falls | stays flat`, of the whole that is shown alone (last quarter
  against first, in whole days where two are shown: a quarter of a standard deviation is clear, a tenth is flat);
  `A is busier than B`.
- grid: `the south is warmest` (against the other half), `the north-west is coldest` (among the quarters).
- trajectory: `walks 35 metres` (along the way, or straight), `average speed 1.2 m/s`, `heads north-east` (from the
  first position to the last: right within 34 degrees, wrong beyond 67), `5 stays`, `3 different places`, `longest at
  Home`, `most visited: Home`.
- event: `30 events`, `10 thefts`, `12 events in the last week`, `the last event is a theft`, `longest gap 23 hours`,
  `largest magnitude 3.9`, `theft is the most frequent`.
- video: `a cut | no cut`, `moves left`, `brighter at the end`, `most motion in the top left`, `10 frames`, `lasts 2 s`.

A number is right within half a unit of its last decimal; within 5 % after `about`, `around`, `roughly`, ...
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from st2llm.errors import DataError, nearest
from st2llm.serialize.lint.claims import event, field, trajectory, video
from st2llm.serialize.lint.claims.clause import Claim, Clause, Verdict, split_clauses
from st2llm.types import Sample

__all__ = ["Claim", "Verdict", "check"]


@dataclass(frozen=True)
class _KindChecker:
    names: Callable[[Sample], list[str]]
    check: Callable[[Clause, Sample], Iterator[Claim]]


_FIELD = _KindChecker(field.known_names, field.check)
_CHECKERS: Mapping[str, _KindChecker] = {
    "graph": _FIELD,
    "grid": _FIELD,
    "video": _KindChecker(video.known_names, video.check),
    "trajectory": _KindChecker(trajectory.known_names, trajectory.check),
    "event": _KindChecker(event.known_names, event.check),
}


def check(text: str, sample: Sample) -> list[Claim]:
    """The claims of a description of what a sample shows, in the order of the text, each with its verdict.

    Only visible values are used, so a true word about what is hidden is not called supported. Never raises on words.
    """
    if sample.kind not in _CHECKERS:
        raise DataError(
            f"Descriptions of {sample.kind!r} cannot be checked. {nearest(sample.kind, _CHECKERS)}"
        )
    kind, asked = _CHECKERS[sample.kind], sample.without_truth()
    found: list[Claim] = []
    for clause in split_clauses(text, kind.names(asked)):
        found += kind.check(clause, asked)
        found += [
            Claim(clause.words, "number", f"{number.value:g}", "uncheckable")
            for number in clause.numbers
            if number.start not in clause.used
        ]
    return found
