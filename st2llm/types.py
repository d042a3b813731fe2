"""The nouns that modules hand each other: containers, samples, prompts and predictions, checked at birth."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from beartype import BeartypeConf, beartype
from jaxtyping import Bool, Float64, Int64, jaxtyped

from st2llm.errors import DataError, nearest

T = TypeVar("T")
_check = beartype(conf=BeartypeConf(is_pep484_tower=True))


def checked(cls: type[T]) -> type[T]:
    """Checks field types and array shapes whenever an instance is made (about 13 µs)."""
    decorate: Callable[[type[T]], type[T]] = jaxtyped(typechecker=_check)
    return decorate(cls)


def slug(name: str) -> str:
    """The id of a place: its name in lower case, words joined by hyphens (`30 Queen Street` -> `30-queen-street`)."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


@checked
@dataclass(frozen=True)
class Calendar:
    """Local calendar of each time step, in the data set's own time zone."""

    step_of_day: Int64[np.ndarray, " time"]
    day_of_week: Int64[np.ndarray, " time"]
    holiday: tuple[str, ...]
    """The name of the public holiday at each step, or ''."""


@checked
@dataclass(frozen=True)
class Edges:
    """Directed weighted edges between nodes, by index."""

    source: Int64[np.ndarray, " edge"]
    target: Int64[np.ndarray, " edge"]
    weight: Float64[np.ndarray, " edge"]

    def of(self, node: int) -> list[tuple[int, float]]:
        """Neighbours that send to `node`, heaviest first, without itself."""
        rows = np.flatnonzero((self.target == node) & (self.source != node))
        pairs = [(int(self.source[i]), float(self.weight[i])) for i in rows]
        return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


@checked
@dataclass(frozen=True)
class Note:
    """A sentence that is known in advance for the time from `start` (int seconds UTC) until `end`."""

    start: int
    end: int
    text: str


@checked
@dataclass(frozen=True)
class SplitPlan:
    """Shares of the time axis, in order. `align='day'` moves each boundary back to local midnight."""

    train: float
    validation: float
    test: float
    align: str = "step"

    def __post_init__(self) -> None:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6 or min(self.train, self.validation, self.test) < 0 or not self.train:
            raise DataError(
                f"A split's train, validation and test shares must be >= 0, train > 0, and add up to 1, "
                f"but they are {self.train}, {self.validation}, {self.test}. Correct `split` in the data card."
            )


@checked
@dataclass(frozen=True)
class Provenance:
    """Where data came from and what was done to it."""

    source: str = ""
    sha256: str = ""
    licence: str = ""
    citation: str = ""
    leakage: str = ""
    """What is known about the data being in the pre-training text of language models."""
    steps: tuple[str, ...] = ()
    """Each harmonisation step, in words, in order."""


@checked
@dataclass(frozen=True)
class SensorGraph:
    """Regular readings at fixed places that are joined by edges.

    values: NaN where a reading is missing. time: int64 seconds UTC, one constant step `freq_s` apart.
    lonlat: degrees. xy: metres east and north of the centre of the places.

    Raises DataError where time does not advance by freq_s or a place has no reading at all.
    """

    name: str
    unit: str
    timezone: str
    freq_s: int
    values: Float64[np.ndarray, "time node channel"]
    time: Int64[np.ndarray, " time"]
    places: tuple[str, ...]
    labels: tuple[str, ...]
    channels: tuple[str, ...]
    edges: Edges
    calendar: Calendar
    split: SplitPlan
    lonlat: Float64[np.ndarray, "node 2"] | None = None
    xy: Float64[np.ndarray, "node 2"] | None = None
    description: str = ""
    quantity: str = "values"
    """What is counted or measured, in words for a prompt: 'pedestrians an hour'."""
    notes: tuple[Note, ...] = ()
    default_task: dict[str, Any] = field(default_factory=dict)
    provenance: Provenance = Provenance()

    def __post_init__(self) -> None:
        wrong = np.flatnonzero(np.diff(self.time) != self.freq_s)
        if wrong.size:
            i = int(wrong[0])
            raise DataError(
                f"{self.name}: time must advance by {self.freq_s} s, but t[{i}]={self.time[i]} is followed by "
                f"t[{i + 1}]={self.time[i + 1]}. Sort the stamps, drop duplicates and reindex to the step."
            )
        empty = np.flatnonzero(~np.isfinite(self.values).any(axis=(0, 2)))
        if empty.size:
            raise DataError(
                f"{self.name}: place {self.places[int(empty[0])]!r} has no reading at all ({empty.size} such "
                f"of {len(self.places)}). Leave it out of `nodes` or mend the values file."
            )

    @property
    def kind(self) -> str:
        return "graph"


@checked
@dataclass(frozen=True)
class Side:
    """What is known beside the values, the same for every path."""

    dataset: str
    unit: str
    timezone: str
    freq_s: int
    calendar: Calendar
    labels: tuple[str, ...]
    neighbours: tuple[tuple[tuple[int, float], ...], ...]
    description: str = ""
    quantity: str = "values"
    notes: tuple[str, ...] = ()


@checked
@dataclass(frozen=True)
class Sample:
    """One problem: values with positions, what may be seen, what is asked, and (where known) the answer.

    values: NaN wherever `visible` is False, so that no path can see more. wanted: the entries asked for.
    truth: NaN outside `wanted` and where the truth is missing; None where it is not known at all.
    time: int64 seconds UTC. place: ids along the node axis.
    """

    id: str
    kind: str
    values: Float64[np.ndarray, "time node channel"]
    visible: Bool[np.ndarray, "time node channel"]
    wanted: Bool[np.ndarray, "time node channel"]
    time: Int64[np.ndarray, " time"]
    place: tuple[str, ...]
    side: Side
    truth: Float64[np.ndarray, "time node channel"] | None

    @property
    def origin(self) -> int:
        """Index of the first wanted step."""
        return int(np.flatnonzero(self.wanted.any(axis=(1, 2)))[0])

    @property
    def asked(self) -> tuple[int, ...]:
        """Indices of the places that are asked for."""
        return tuple(int(i) for i in np.flatnonzero(self.wanted.any(axis=(0, 2))))

    def at(self, place: str) -> "Sample":
        """The same sample asked for one place alone; all that is visible stays visible.

        Raises DataError for a place that is not there.
        """
        name = place if place in self.place else slug(place)
        if name not in self.place:
            raise DataError(f"{self.id} has no place {place!r}. {nearest(name, self.place)}")
        only = np.zeros_like(self.wanted)
        only[:, self.place.index(name)] = True
        wanted = self.wanted & only
        truth = None if self.truth is None else np.where(wanted, self.truth, np.nan)
        return replace(self, wanted=wanted, truth=truth)

    def without_truth(self) -> "Sample":
        """The same question without its answer: what a predictor is given."""
        return replace(self, truth=None)


@checked
@dataclass(frozen=True)
class Prediction:
    """An answer in raw units. `value` has the sample's shape, NaN outside `wanted`; None where unreadable."""

    value: Float64[np.ndarray, "time node channel"] | None
    samples: Float64[np.ndarray, "draw time node channel"] | None = None
    quantiles: dict[float, np.ndarray] | None = None
    raw: str = ""
    unread_reason: str | None = None

    def __post_init__(self) -> None:
        if (self.value is None) != (self.unread_reason is not None):
            raise DataError(
                f"A Prediction holds either a value or the reason why it could not be read, but value is "
                f"{'None' if self.value is None else 'given'} and unread_reason is {self.unread_reason!r}."
            )


@checked
@dataclass(frozen=True)
class Numbers:
    """`count` numbers with `separator` between them, each of 1 to `digits` digits before the point.

    fixed: always `digits` digits, zeros in front. decimals: digits after the point, always so many; 0 for none.
    signed: a number may begin with '-'. low, high: the least and the greatest number; None for no bound.
    """

    count: int
    digits: int
    separator: str = ","
    fixed: bool = False
    decimals: int = 0
    signed: bool = False
    low: float | None = None
    high: float | None = None


@checked
@dataclass(frozen=True)
class Choice:
    """One of these words, exactly as they stand."""

    options: tuple[str, ...]


@checked
@dataclass(frozen=True)
class Ranking:
    """`count` different candidates, the best first, `separator` between them."""

    candidates: tuple[str, ...]
    count: int
    separator: str = ", "


@checked
@dataclass(frozen=True)
class Pair:
    """Two coordinates as `(x, y)`, each written as one of `Numbers` of count 1."""

    x: Numbers
    y: Numbers


@checked
@dataclass(frozen=True)
class Clock:
    """A time that exists: form 'time' is HH:MM, 'date' is YYYY-MM-DD, 'datetime' is both with a blank between."""

    form: str = "time"


@checked
@dataclass(frozen=True)
class Json:
    """A JSON value that a JSON schema (its text) allows."""

    schema: str


@checked
@dataclass(frozen=True)
class FreeText:
    """At most `tokens` tokens of free text; with `answer`, then a line of `cue` and an answer in that grammar.

    Without `answer` the text ends at its first line break. With it the model may write the cue itself; where it
    has not when the tokens are used up, the cue is written for it, so that the answer is readable in any case.
    """

    tokens: int = 64
    cue: str = "Answer:"
    answer: Numbers | Choice | Ranking | Pair | Clock | Json | None = None


Grammar = Numbers | Choice | Ranking | Pair | Clock | Json | FreeText
"""How an answer may look."""


@checked
@dataclass(frozen=True)
class Decoding:
    """How answers are drawn from a language model.

    draws: answers to each prompt. temperature: 0 takes the most probable token at each step. top_p: nucleus
    sampling (Holtzman et al. 2020) among the allowed tokens. seed: with the prompt's words and the number of the
    draw it fixes an answer, whatever else is asked at the same time.

    Raises DataError for settings without meaning, such as several draws at temperature 0.
    """

    draws: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.draws < 1 or self.temperature < 0 or not 0 < self.top_p <= 1:
            raise DataError(
                f"Decoding needs draws >= 1, temperature >= 0 and 0 < top_p <= 1, but has {self.draws}, "
                f"{self.temperature} and {self.top_p}."
            )
        if self.draws > 1 and self.temperature == 0:
            raise DataError(
                f"{self.draws} draws at temperature 0 would be {self.draws} times the same answer. Set a "
                f"temperature above 0, or ask for one draw."
            )


GREEDY = Decoding()
"""One answer, the most probable token at each step."""


@checked
@dataclass(frozen=True)
class Slot:
    """A place in a prompt that `length` soft tokens fill."""

    name: str
    length: int


@checked
@dataclass(frozen=True)
class TemplateId:
    """Names a template exactly: the hash is that of its source file."""

    id: str
    version: int
    sha256: str


@checked
@dataclass(frozen=True)
class Prompt:
    """What a language model is given. `parts` are words and slots in order; `text` is the words alone.

    truth: what a perfect answer would say, in the grammar's own words ('' where not known).
    dropped: what was left out to keep the budget, in the order it went.
    """

    messages: tuple[dict[str, str], ...]
    parts: tuple[str | Slot, ...]
    truth: str
    template: TemplateId
    grammar: Grammar | None = None
    dropped: tuple[str, ...] = ()
    tokens: int | None = None

    @property
    def text(self) -> str:
        return "".join(part for part in self.parts if isinstance(part, str))

    @property
    def sha256(self) -> str:
        return hashlib.sha256(repr((self.messages, self.parts)).encode()).hexdigest()

    def __str__(self) -> str:
        return self.text


@checked
@dataclass(frozen=True)
class Answer:
    """What a language model said, and what it cost.

    tokens_in: tokens of the prompt; tokens_shared: those of them that were read once for several answers and are
    counted by another. logprob: in nats, summed over the tokens chosen, each among those that the grammar allowed.
    seconds: this answer's share of its batch's time. finish: 'whole'; 'length' where the words ended because their
    number was used up; 'refused' where an endpoint gave none. cached: it was not asked now, but taken from a file.
    """

    text: str
    tokens_in: int
    tokens_out: int
    seconds: float
    logprob: float | None = None
    prompt_sha256: str = ""
    draw: int = 0
    tokens_shared: int = 0
    finish: str = "whole"
    cached: bool = False


@runtime_checkable
class Tokenizer(Protocol):
    """Words to token ids and back; both `tokenizers` and `transformers` tokenizers are wrapped to fit."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


@runtime_checkable
class Completer(Protocol):
    """Any language model that answers: a list of prompts in, a list of answers out.

    The draws of the first prompt come first, then those of the second: `len(prompts) * decoding.draws` answers.
    """

    def complete(self, prompts: Sequence[Prompt], decoding: Decoding = ...) -> list[Answer]: ...


@runtime_checkable
class Scorer(Protocol):
    """A language model that says how likely an answer is, in nats, among all that the prompt's grammar allows.

    answers: the prompts' own truths where not given. nan where the grammar does not allow one.
    """

    def log_likelihood(
        self, prompts: Sequence[Prompt], answers: Sequence[str] | None = ...
    ) -> Float64[np.ndarray, " prompt"]: ...


@runtime_checkable
class Serializer(Protocol):
    """Writes a sample as a prompt and reads the answer.

    `read` never raises on a model's words: what cannot be read is a Prediction whose value is None.
    """

    def render(self, sample: Sample) -> Prompt: ...

    def read(self, text: str, sample: Sample) -> Prediction: ...
