"""The serializer of sensor graphs: writes samples as text and reads answers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from st2llm.errors import ConfigError
from st2llm.serialize.answer.formats import AnswerFormat, NumbersFormat
from st2llm.serialize.answer.labels import LabelAnswer
from st2llm.serialize.answer.series import SERIES_TASKS, SeriesAnswer
from st2llm.serialize.graph import anomaly
from st2llm.serialize.graph.variables import GraphVariables, drop_order, target_node, variable_names
from st2llm.serialize.numbers import Notation, Strategy, is_sequential
from st2llm.serialize.template.interface import Example, KindSpec, SerializerOptions
from st2llm.serialize.text.plain_text import plain_text
from st2llm.types import Grammar, Prediction, Sample


@dataclass(frozen=True)
class GraphSerializer:
    """Writes samples of a sensor graph as text and reads answers.

    Series are answered place by place in numbers (see SeriesAnswer). Anomalies, questions and descriptions are about
    the whole graph and answered as labels (see LabelAnswer). neighbours, recent, places: see GraphVariables.
    """

    notation: Notation = field(default_factory=Notation)
    neighbours: int = 0
    recent: int = 0
    places: int = 0
    task: str = "forecast"
    per: str = "place"
    answer: AnswerFormat | None = None

    def variables(self, sample: Sample) -> dict[str, Any]:
        if self.task in SERIES_TASKS:
            return self.place_variables(sample) if self.per == "place" else self._variables.window(sample)
        return self._variables.anomaly(sample) if self.task == "anomaly" else self._variables.table(sample)

    def place_variables(self, sample: Sample) -> dict[str, Any]:
        """The values of PLACE_VARIABLES, for the one place that `sample` asks for."""
        return self._variables.place(sample)

    def numbers(self, sample: Sample) -> Strategy:
        """The notation of the first target series, fitted to visible values alone."""
        return self._series.series(sample)[0].numbers

    def grammar(self, sample: Sample) -> Grammar:
        if self.task in SERIES_TASKS:
            return self._series.grammar(sample)
        return self._label.grammar(self._with_options(sample))

    def truth(self, sample: Sample) -> str:
        if self.task in SERIES_TASKS:
            return self._series.truth(sample)
        return self._label.truth(self._with_options(sample))

    def read(self, text: str, sample: Sample) -> Prediction:
        if self.task in SERIES_TASKS:
            return self._series.read(text, sample)
        return self._label.read(text, self._with_options(sample))

    def precision(self, sample: Sample) -> float | None:
        return self._series.precision(sample) if self.task in SERIES_TASKS else None

    def example(self, solved: Sample, target: Sample) -> Example:
        """The history of a solved sample in the notation of the target sample; or its table and its question."""
        variables = self.variables(solved)
        if self.task in SERIES_TASKS:
            series = self._series.series_like(solved, target)
            same_place = variables["place"] == plain_text(target.side.labels[target_node(target)])
            lines = [] if same_place else [variables["place"]]
            history = self._variables.history(solved, series)
            lines += [f"{line.label}:{line.numbers}" for line in history]
            lines += [f"{variables['asked']}:" if self.task == "forecast" else "Numbers marked ?: "]
            return Example("\n".join(lines), self._series.write_truth(solved, series))
        if self.task == "anomaly":
            lines = [variables["place"], *(f"{line.label} {line.numbers}" for line in variables["day"])]
        else:
            lines = [
                f"{block.label}, {line.label}: {line.numbers}"
                for block in variables["table"]
                for line in block.lines
            ]
            lines += [plain_text(solved.question)] if solved.question else []
        return Example("\n".join([*lines, "Answer: "]), self.truth(solved))

    def drop_order(self, variables: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        return drop_order(variables)

    @property
    def _variables(self) -> GraphVariables:
        return GraphVariables(self._series, self.neighbours, self.recent, self.places, self.answer)

    @property
    def _series(self) -> SeriesAnswer:
        return SeriesAnswer(self.notation, self.task)

    @property
    def _label(self) -> LabelAnswer:
        return LabelAnswer.for_template(self.answer, f"graph/{self.task}")

    def _with_options(self, sample: Sample) -> Sample:
        return anomaly.with_stamp_options(sample) if self.task == "anomaly" else sample


def _make(options: SerializerOptions) -> GraphSerializer:
    if options.answer is not None and (options.per == "place") != (options.task in SERIES_TASKS):
        per = "place" if options.task in SERIES_TASKS else "sample"
        raise ConfigError(
            f"graph/{options.task} is answered per {per}; set `per: {per}` or leave `answer` out."
        )
    numbers = options.answer if isinstance(options.answer, NumbersFormat) else NumbersFormat()
    if options.task in SERIES_TASKS[1:] and is_sequential(numbers.strategy):
        raise ConfigError(
            f"{options.task} cannot be written in {numbers.strategy}, which go on from one value to the next. Choose "
            f"another `strategy` in `answer`."
        )
    return GraphSerializer(
        numbers.notation, task=options.task, per=options.per, answer=options.answer, **options.settings
    )


KIND = KindSpec(
    tasks={
        **dict.fromkeys(SERIES_TASKS, ("numbers",)),
        "anomaly": ("choice", "ranking"),
        "describe": ("text",),
        "question-answer": ("text", "choice", "ranking", "numbers", "time"),
    },
    variables=variable_names,
    make=_make,
    settings={"neighbours": 0, "recent": 0, "places": 0},
)
