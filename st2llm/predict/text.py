"""The text path: write a prompt for each place or sample, let a language model complete it, read the answer."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from jaxtyping import Float64

from st2llm.errors import ConfigError, DataError
from st2llm.predict.answer_counts import AnswerCategory, categorise
from st2llm.predict.codes import wanted_codes
from st2llm.predict.examples import ExampleSelector
from st2llm.serialize.template.template import Template
from st2llm.types import GREEDY, Answer, Completer, Decoding, Prediction, Prompt, Sample, Scorer, Tokenizer

QUANTILES = (0.05, 0.5, 0.95)
"""Which quantiles of several draws a Prediction holds; between two draws they are interpolated."""


@dataclass(frozen=True)
class TextAnswer:
    """One answer of the language model, and what came of it. sample: its id.

    place: the place's id, '' where it is about several at once.
    """

    sample: str
    place: str
    prompt: Prompt
    answer: Answer
    prediction: Prediction

    @property
    def category(self) -> AnswerCategory:
        """Where it stands in the ledger."""
        return categorise(self.answer, self.prediction)


@dataclass(frozen=True)
class PromptOptions:
    """What goes into prompts beside the sample. examples: chooses solved samples to show.

    budget: tokens that a prompt may take, counted by the tokenizer.
    """

    examples: ExampleSelector | None = None
    budget: int | None = None
    tokenizer: Tokenizer | None = None


DEFAULT_OPTIONS = PromptOptions()
"""The sample alone, however long its prompt."""


@dataclass(frozen=True)
class TextPredictor:
    """Asks `completer` for each place of each sample (once a sample where the template is `per: sample`), `chunk`
    prompts at a time, each for `decoding.draws` answers.

    Raises ConfigError for a template whose answers cannot be read.
    """

    name: str
    template: Template
    completer: Completer
    chunk: int = 64
    decoding: Decoding = GREEDY
    writing: PromptOptions = DEFAULT_OPTIONS

    def __post_init__(self) -> None:
        if self.template.head.answer is None:
            raise ConfigError(
                f"Predictor {self.name!r} reads answers, but the head of template {self.template.id} has no "
                f"`answer`. Choose another template, for instance graph/forecast."
            )
        if self.chunk < 1:
            raise ConfigError(
                f"Predictor {self.name!r} needs a chunk of at least 1 prompt, not {self.chunk}."
            )

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        """A Prediction for each sample, in order (see `stitch`)."""
        return merge_answers(samples, self.answers(samples))

    def answers(
        self, samples: Sequence[Sample], done: Callable[[int], None] | None = None
    ) -> list[TextAnswer]:
        """The answers for each asked place of each sample: sample by sample, places in its order, draws in theirs.

        done: called after each chunk with the number of answers that there are so far.
        """
        questions = (question for sample in samples for question in self.questions(sample))
        found: list[TextAnswer] = []
        while chunk := list(islice(questions, self.chunk)):
            found += self._ask(chunk)
            if done is not None:
                done(len(found))
        return found

    def questions(self, sample: Sample) -> list[Sample]:
        """What is asked about a sample: the sample itself, or one narrowed sample for each place."""
        if self.template.head.per == "sample":
            return [sample]
        return [sample.at(sample.place[node]) for node in sample.wanted_nodes]

    def write(self, question: Sample) -> Prompt:
        """The prompt of a question, with its examples and within its budget."""
        own = self.writing
        chosen = own.examples(question) if own.examples is not None else []
        if own.budget is None:
            return self.template.render(question, examples=chosen)
        return self.template.render(question, examples=chosen, budget=own.budget, tokenizer=own.tokenizer)

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
        questions = [question for sample in samples for question in self.questions(sample)]
        found = []
        for start in range(0, len(questions), self.chunk):
            chunk = questions[start : start + self.chunk]
            nats = self.completer.log_likelihood([self.write(question) for question in chunk])
            found += [
                float(nat) / max(1, question.wanted.sum()) for nat, question in zip(nats, chunk, strict=True)
            ]
        bits: Float64[np.ndarray, " question"] = -np.array(found, dtype=np.float64) / np.log(2)
        return bits

    def _ask(self, questions: Sequence[Sample]) -> Iterator[TextAnswer]:
        prompts = [self.write(question) for question in questions]
        answers = self.completer.complete(prompts, self.decoding)
        draws = self.decoding.draws
        if len(answers) != len(prompts) * draws:
            raise DataError(
                f"{type(self.completer).__name__} was given {len(prompts)} prompts of {draws} draws, but gave "
                f"{len(answers)} answers. A completer gives one answer for each draw of each prompt, in order."
            )
        for i, answer in enumerate(answers):
            question, prompt = questions[i // draws], prompts[i // draws]
            yield TextAnswer(
                question.id, place_id(question), prompt, answer, self.template.read(answer.text, question)
            )


def place_id(question: Sample) -> str:
    """The one place that a question is about; '' where it is about several."""
    nodes = question.wanted_nodes or tuple(range(len(question.place)))
    return question.place[nodes[0]] if len(nodes) == 1 else ""


def merge_answers(samples: Sequence[Sample], answers: Sequence[TextAnswer]) -> list[Prediction]:
    """The answers put together, one Prediction for each sample.

    value: the median over the draws that could be read. Where there are several draws, samples holds them all (NaN
    where one could not be read) and quantiles those of QUANTILES. A place of which no draw could be read is NaN;
    value is None only where no place of the sample could be read. ranking: see `vote`; then value is the code of its
    first. `raw` holds all answers, each after its place's id. Raises DataError for a place without answer.
    """
    said: dict[tuple[str, str], list[TextAnswer]] = defaultdict(list)
    for answer in answers:
        said[answer.sample, answer.place].append(answer)
    return [_stitched(sample, said) for sample in samples]


def vote(rankings: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """One ranking of several: by how many put an option first, then by its mean rank, then as they were first said.

    In a ranking that does not have it, an option ranks one after the last.
    """
    options = list(dict.fromkeys(option for ranking in rankings for option in ranking))
    first = {option: sum(ranking[0] == option for ranking in rankings) for option in options}
    ranks = {
        option: sum(r.index(option) if option in r else len(r) for r in map(list, rankings))
        for option in options
    }
    return tuple(sorted(options, key=lambda option: (-first[option], ranks[option])))


def _stitched(sample: Sample, said: Mapping[tuple[str, str], list[TextAnswer]]) -> Prediction:
    all_of_them = _answers_of(sample, said)
    raw = "\n".join(f"{answer.place}: {answer.answer.text}" for one in all_of_them for answer in one)
    draws = np.full((max(map(len, all_of_them)), *sample.values.shape), np.nan)
    for one in all_of_them:
        for draw, answer in enumerate(one):
            value = answer.prediction.value
            if value is not None:
                draws[draw] = np.where(sample.wanted & np.isfinite(value), value, draws[draw])
    rankings = [a.prediction.ranking for one in all_of_them for a in one if a.prediction.ranking]
    if rankings:
        return _ranked(sample, vote(rankings), draws, raw)
    if np.isnan(draws).all():
        return Prediction(value=None, raw=raw, unread_reason="; ".join(map(_why, all_of_them)))
    quantiles = dict(zip(QUANTILES, quantiles_over_draws(draws, QUANTILES), strict=True))
    if len(draws) == 1:
        return Prediction(value=quantiles[0.5], raw=raw)
    return Prediction(value=quantiles[0.5], samples=draws, quantiles=quantiles, raw=raw)


def _answers_of(sample: Sample, said: Mapping[tuple[str, str], list[TextAnswer]]) -> list[list[TextAnswer]]:
    """The draws of each question about a sample. Raises DataError for a place that was not asked for."""
    if whole := said.get((sample.id, place_id(sample))):
        return [whole]
    places = [sample.place[node] for node in sample.wanted_nodes]
    for place in places:
        if (sample.id, place) not in said:
            raise DataError(
                f"{sample.id} asks for {place!r}, but there is no answer for it. Ask for all places."
            )
    return [said[sample.id, place] for place in places]


def _ranked(
    sample: Sample,
    ranking: tuple[str, ...],
    draws: Float64[np.ndarray, "draw time node channel"],
    raw: str,
) -> Prediction:
    """A ranking, with the code of its first option where a code is asked for, and what else was said of numbers."""
    value = quantiles_over_draws(draws, (0.5,))[0]
    if ranking[0] in sample.side.options:
        value[wanted_codes(sample)] = float(sample.side.options.index(ranking[0]))
    return Prediction(value=value if sample.wanted.any() else None, raw=raw, ranking=ranking)


def quantiles_over_draws(
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
