"""Checks the claims of a description against the visible values: supported, contradicted or uncheckable.

The text is split into sentences and clauses, and each clause is searched for the patterns below. Other text makes no
claim, except that a number which no pattern explains is uncheckable. A claim is also uncheckable if its subject is
ambiguous (two places, or several channels and none named), if the data give no clear answer, or if the clause is
negated or hedged (`not`, `will`, `likely`, ...). A clause that names no place is about the place named last or about
everything shown: it is supported if either interpretation is, and contradicted only if both are.

- graph and grid: `highest | maximum | peak ... 140`, `lowest ... 60`, `average ... 100`; `ranges from 60 to 140`;
  `starts at 80`, `ends at 90`; `peaks at 17:00` (the time of the extreme, or of the extreme of the mean day); `80 at
  08:00` if that time is shown once; `rises | falls | stays flat`, for the whole period only (the last quarter against
  the first, in whole days if two are shown: a quarter of a standard deviation is clear, a tenth is flat);
  `A is busier than B`.
- grid: `the south is warmest` (against the other half), `the north-west is coldest` (among the quarters).
- trajectory: `walks 35 metres` (along the way, or straight), `average speed 1.2 m/s`, `heads north-east` (from the
  first position to the last: right within 34 degrees, wrong beyond 67), `5 stays`, `3 different places`, `longest at
  Home`, `most visited: Home`.
- event: `30 events`, `10 thefts`, `12 events in the last week`, `the last event is a theft`, `longest gap 23 hours`,
  `largest magnitude 3.9`, `theft is the most frequent`.
- video: `a cut | no cut`, `moves left`, `brighter at the end`, `most motion in the top left`, `10 frames`, `lasts 2 s`.

A number matches within half a unit of its last decimal, and within 5 % after `about`, `around`, `roughly`, ...
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
    """Returns the claims of a description of a sample, in the order of the text, each with its verdict.

    Only visible values are used, so a statement about hidden values is never called supported. Raises DataError for a
    kind of data that has no checker; never raises because of the text.
    """
    if sample.kind not in _CHECKERS:
        raise DataError(
            f"Descriptions of {sample.kind!r} cannot be checked. {nearest(sample.kind, _CHECKERS)}"
        )
    checker, visible = _CHECKERS[sample.kind], sample.without_truth()
    claims: list[Claim] = []
    for clause in split_clauses(text, checker.names(visible)):
        claims += checker.check(clause, visible)
        claims += [
            Claim(clause.text, "number", f"{number.value:g}", "uncheckable")
            for number in clause.numbers
            if number.start not in clause.used
        ]
    return claims
