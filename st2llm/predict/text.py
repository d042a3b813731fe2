"""The text path: write a prompt for each place, let a language model complete it, read the numbers."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from jaxtyping import Float64

from st2llm.errors import ConfigError, DataError
from st2llm.predict.ledger import Category, categorise
from st2llm.serialize.template import Template
from st2llm.types import GREEDY, Answer, Completer, Decoding, Prediction, Prompt, Sample, Scorer

QUANTILES = (0.05, 0.5, 0.95)
"""Which quantiles of several draws a Prediction holds; between two draws they are interpolated."""


@dataclass(frozen=True)
class TextAnswer:
    """One answer of the language model, and what came of it. sample: its id. place: the place's id."""

    sample: str
    place: str
    prompt: Prompt
    answer: Answer
    prediction: Prediction

    @property
    def category(self) -> Category:
        """Where it stands in the ledger."""
        return categorise(self.answer, self.prediction)


@dataclass(frozen=True)
class TextPredictor:
    """Asks `completer` for each place of each sample, `chunk` prompts at a time, each for `decoding.draws` answers.

    Raises ConfigError for a template whose answers cannot be read as numbers.
    """

    name: str
    template: Template
    completer: Completer
    chunk: int = 64
    decoding: Decoding = GREEDY

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
        """A Prediction for each sample, in order (see `stitch`)."""
        return stitch(samples, self.answers(samples))

    def answers(
        self, samples: Sequence[Sample], done: Callable[[int], None] | None = None
    ) -> list[TextAnswer]:
        """The answers for each asked place of each sample: sample by sample, places in its order, draws in theirs.

        done: called after each chunk with the number of answers that there are so far.
        """
        questions = (sample.at(sample.place[node]) for sample in samples for node in sample.asked)
        found: list[TextAnswer] = []
        while chunk := list(islice(questions, self.chunk)):
            found += self._ask(chunk)
            if done is not None:
                done(len(found))
        return found

    def bits_per_value(self, samples: Sequence[Sample]) -> Float64[np.ndarray, " question"]:
        """What the truth of each asked place costs in bits a value: how surprised the model is by it.

        One number for each place of each sample, in the order of `answers`; nan where the truth is unknown, incomplete
        or beyond what the answer can say. The grammar's answers share all probability, so a uniform guess at three
        digits costs about 10 bits (after LLMTime, Gruver et al. 2023). Raises ConfigError for a completer that is no
        Scorer.
        """
        if not isinstance(self.completer, Scorer):
            raise ConfigError(
                f"{type(self.completer).__name__} does not say how likely an answer is. Take a language model on this "
                f"machine."
            )
        questions = [sample.at(sample.place[node]) for sample in samples for node in sample.asked]
        found = []
        for start in range(0, len(questions), self.chunk):
            chunk = questions[start : start + self.chunk]
            nats = self.completer.log_likelihood([self.template.render(question) for question in chunk])
            found += [float(nat) / question.wanted.sum() for nat, question in zip(nats, chunk, strict=True)]
        bits: Float64[np.ndarray, " question"] = -np.array(found, dtype=np.float64) / np.log(2)
        return bits

    def _ask(self, questions: Sequence[Sample]) -> Iterator[TextAnswer]:
        prompts = [self.template.render(question) for question in questions]
        answers = self.completer.complete(prompts, self.decoding)
        draws = self.decoding.draws
        if len(answers) != len(prompts) * draws:
            raise DataError(
                f"{type(self.completer).__name__} was given {len(prompts)} prompts of {draws} draws, but gave "
                f"{len(answers)} answers. A completer gives one answer for each draw of each prompt, in order."
            )
        for i, answer in enumerate(answers):
            question, prompt = questions[i // draws], prompts[i // draws]
            place = question.place[question.asked[0]]
            yield TextAnswer(question.id, place, prompt, answer, self.template.read(answer.text, question))


def stitch(samples: Sequence[Sample], answers: Sequence[TextAnswer]) -> list[Prediction]:
    """The answers for single places put together, one Prediction for each sample.

    value: the median over the draws that could be read. Where there are several draws, samples holds them all (NaN
    where one could not be read) and quantiles those of QUANTILES. A place of which no draw could be read is NaN;
    value is None only where no place of the sample could be read. `raw` holds all answers, each after its place's id.
    Raises DataError for a place without answer.
    """
    said: dict[tuple[str, str], list[TextAnswer]] = defaultdict(list)
    for answer in answers:
        said[answer.sample, answer.place].append(answer)
    return [_stitched(sample, said) for sample in samples]


def _stitched(sample: Sample, said: Mapping[tuple[str, str], list[TextAnswer]]) -> Prediction:
    places = [sample.place[node] for node in sample.asked]
    for place in places:
        if (sample.id, place) not in said:
            raise DataError(
                f"{sample.id} asks for {place!r}, but there is no answer for it. Ask for all places."
            )
    all_of_them = [said[sample.id, place] for place in places]
    raw = "\n".join(f"{answer.place}: {answer.answer.text}" for one in all_of_them for answer in one)
    draws = np.full((max(map(len, all_of_them)), *sample.values.shape), np.nan)
    for node, one in zip(sample.asked, all_of_them, strict=True):
        for draw, answer in enumerate(one):
            if answer.prediction.value is not None:
                draws[draw, :, node] = np.where(sample.wanted, answer.prediction.value, np.nan)[:, node]
    if np.isnan(draws).all():
        return Prediction(value=None, raw=raw, unread_reason="; ".join(map(_why, all_of_them)))
    quantiles = dict(zip(QUANTILES, over_draws(draws, QUANTILES), strict=True))
    if len(draws) == 1:
        return Prediction(value=quantiles[0.5], raw=raw)
    return Prediction(value=quantiles[0.5], samples=draws, quantiles=quantiles, raw=raw)


def over_draws(
    draws: Float64[np.ndarray, "draw time node channel"], shares: Sequence[float]
) -> Float64[np.ndarray, "_ time node channel"]:
    """Quantiles over the draws that are not NaN; NaN where all are."""
    found = np.full((len(shares), *draws.shape[1:]), np.nan)
    some = np.isfinite(draws).any(axis=0)
    found[:, some] = np.nanquantile(draws[:, some], shares, axis=0)
    return found


def _why(answers: Sequence[TextAnswer]) -> str:
    """Why a place is unread: each reason once."""
    reasons = dict.fromkeys(str(answer.prediction.unread_reason) for answer in answers)
    return f"{answers[0].place}: {', '.join(reasons)}"
