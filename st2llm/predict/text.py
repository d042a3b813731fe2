"""The text path: write a prompt for each place, let a language model complete it, read the numbers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from st2llm.errors import ConfigError, DataError
from st2llm.serialize.template import Template
from st2llm.types import Answer, Completer, Prediction, Prompt, Sample


@dataclass(frozen=True)
class TextAnswer:
    """One question to the language model, and what came of it. sample: its id. place: the place's id."""

    sample: str
    place: str
    prompt: Prompt
    answer: Answer
    prediction: Prediction


@dataclass(frozen=True)
class TextPredictor:
    """Asks `completer` for each place of each sample, `chunk` prompts at a time.

    Raises ConfigError for a template whose answers cannot be read as numbers.
    """

    name: str
    template: Template
    completer: Completer
    chunk: int = 64

    def __post_init__(self) -> None:
        if self.template.head.answer is None:
            raise ConfigError(
                f"Predictor {self.name!r} reads numbers from answers, but the head of template "
                f"{self.template.id} has no `answer`. Choose another template, for instance graph/forecast."
            )
        if self.chunk < 1:
            raise ConfigError(
                f"Predictor {self.name!r} needs a chunk of at least 1 prompt, not {self.chunk}."
            )

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        """A Prediction for each sample, in order; places whose answer could not be read are NaN."""
        return stitch(samples, self.answers(samples))

    def answers(
        self, samples: Sequence[Sample], done: Callable[[int], None] | None = None
    ) -> list[TextAnswer]:
        """An answer for each asked place of each sample, sample by sample, places in the sample's order.

        done: called after each chunk with the number of answers that there are so far.
        """
        questions = (sample.at(sample.place[node]) for sample in samples for node in sample.asked)
        found: list[TextAnswer] = []
        while chunk := list(islice(questions, self.chunk)):
            found += self._ask(chunk)
            if done is not None:
                done(len(found))
        return found

    def _ask(self, questions: Sequence[Sample]) -> Iterator[TextAnswer]:
        prompts = [self.template.render(question) for question in questions]
        answers = self.completer.complete(prompts)
        if len(answers) != len(prompts):
            raise DataError(
                f"{type(self.completer).__name__} was given {len(prompts)} prompts, but gave {len(answers)} "
                f"answers. A completer gives one answer for each prompt, in order."
            )
        for question, prompt, answer in zip(questions, prompts, answers, strict=True):
            place = question.place[question.asked[0]]
            prediction = self.template.read(answer.text, question)
            yield TextAnswer(question.id, place, prompt, answer, prediction)


def stitch(samples: Sequence[Sample], answers: Sequence[TextAnswer]) -> list[Prediction]:
    """The answers for single places put together, one Prediction for each sample.

    Entries whose answer could not be read are NaN; value is None only where no answer of the sample could be
    read. `raw` holds all answers, each after its place's id. Raises DataError for a place without answer.
    """
    said = {(answer.sample, answer.place): answer for answer in answers}
    return [_stitched(sample, said) for sample in samples]


def _stitched(sample: Sample, said: dict[tuple[str, str], TextAnswer]) -> Prediction:
    value = np.full(sample.values.shape, np.nan)
    raw, unread = [], []
    for node in sample.asked:
        place = sample.place[node]
        answer = said.get((sample.id, place))
        if answer is None:
            raise DataError(
                f"{sample.id} asks for {place!r}, but there is no answer for it. Ask for all places."
            )
        raw.append(f"{place}: {answer.answer.text}")
        if answer.prediction.value is None:
            unread.append(f"{place}: {answer.prediction.unread_reason}")
        else:
            wanted = sample.wanted[:, node]
            value[:, node][wanted] = answer.prediction.value[:, node][wanted]
    if len(unread) == len(raw):
        return Prediction(value=None, raw="\n".join(raw), unread_reason="; ".join(unread))
    return Prediction(value=value, raw="\n".join(raw))
