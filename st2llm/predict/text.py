"""Predicts with prompts: one prompt for each place or sample, completed by a language model and read back."""

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
from st2llm.types.axes import FIELD_KINDS
from st2llm.types.sample import quantiles_over_draws

QUANTILES = (0.05, 0.5, 0.95)
"""Probabilities of the quantiles that a prediction of several draws holds; they are interpolated between draws."""


@dataclass(frozen=True)
class TextAnswer:
    """One answer of the language model, and the prediction that was read from it.

    sample: id of the sample. place: id of the place, '' where the prompt asks for several.
    """

    sample: str
    place: str
    prompt: Prompt
    answer: Answer
    prediction: Prediction

    @property
    def category(self) -> AnswerCategory:
        """The category by which answers are counted; see `answer_counts`."""
        return categorise(self.answer, self.prediction)


@dataclass(frozen=True)
class PromptOptions:
    """What prompts hold beside the sample.

    examples: selects solved samples to show. budget: maximal number of tokens of a prompt, counted by the tokenizer.
    """

    examples: ExampleSelector | None = None
    budget: int | None = None
    tokenizer: Tokenizer | None = None


DEFAULT_OPTIONS = PromptOptions()
"""The sample alone, without a token budget."""


@dataclass(frozen=True)
class TextPredictor:
    """Prompts a language model for each wanted place of each sample, or once a sample (templates with `per: sample`).

    chunk_size: number of prompts that are completed at once, each with `decoding.draws` answers. Raises ConfigError for
    a template without an `answer` in its head, and for a chunk size below 1.
    """

    name: str
    template: Template
    completer: Completer
    chunk_size: int = 64
    decoding: Decoding = GREEDY
    options: PromptOptions = DEFAULT_OPTIONS

    def __post_init__(self) -> None:
        if self.template.head.answer is None:
            raise ConfigError(
                f"Predictor {self.name!r} reads answers, but the head of template {self.template.id} has no "
                f"`answer`. Choose another template, for instance graph/forecast."
            )
        if self.chunk_size < 1:
            raise ConfigError(
                f"Predictor {self.name!r} needs a chunk_size of at least 1 prompt, not {self.chunk_size}."
            )

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        """A Prediction for each sample, in order (see `stitch`)."""
        return merge_answers(samples, self.answers(samples))

    def answers(
        self, samples: Sequence[Sample], on_chunk: Callable[[int], None] | None = None
    ) -> list[TextAnswer]:
        """The answers for each wanted place of each sample: by sample, then place, then draw.

        on_chunk: called after each chunk with the number of answers so far.
        """
        queries = (query for sample in samples for query in self.queries(sample))
        answers: list[TextAnswer] = []
        while chunk := list(islice(queries, self.chunk_size)):
            answers += self._complete(chunk)
            if on_chunk is not None:
                on_chunk(len(answers))
        return answers

    def queries(self, sample: Sample) -> list[Sample]:
        """What one prompt each is written for: the sample itself, or the sample narrowed to each wanted place."""
        if self.template.head.per == "sample":
            return [sample]
        return [sample.at(sample.place[node]) for node in sample.wanted_nodes]

    def render(self, query: Sample) -> Prompt:
        """The prompt of a query, with its examples and within its token budget."""
        options = self.options
        examples = options.examples(query) if options.examples is not None else []
        if options.budget is None:
            return self.template.render(query, examples=examples)
        return self.template.render(
            query, examples=examples, budget=options.budget, tokenizer=options.tokenizer
        )

    def bits_per_value(self, samples: Sequence[Sample]) -> Float64[np.ndarray, " query"]:
        """Negative log-likelihood of the truth of each wanted place, in bits per value.

        One number for each place of each sample, in the order of `answers`. Probabilities are normalised over the
        answers of the grammar, so a uniform distribution over three digits has about 10 bits (after LLMTime, Gruver et
        al. 2023). Raises ConfigError for a completer that is no Scorer, and DataError where a truth is unknown,
        incomplete, or not an answer that the grammar allows.
        """
        if not isinstance(self.completer, Scorer):
            raise ConfigError(
                f"{type(self.completer).__name__} cannot compute the likelihood of an answer. Take a language model "
                f"on this machine."
            )
        queries = [query for sample in samples for query in self.queries(sample)]
        _check_complete_truths(queries)
        nats_per_value = []
        for start in range(0, len(queries), self.chunk_size):
            chunk = queries[start : start + self.chunk_size]
            nats = self.completer.log_likelihood([self.render(query) for query in chunk])
            _check_likelihoods(nats, chunk)
            nats_per_value += [
                float(nat) / max(1, query.wanted.sum()) for nat, query in zip(nats, chunk, strict=True)
            ]
        bits: Float64[np.ndarray, " query"] = -np.array(nats_per_value, dtype=np.float64) / np.log(2)
        return bits

    def _complete(self, queries: Sequence[Sample]) -> Iterator[TextAnswer]:
        prompts = [self.render(query) for query in queries]
        answers = self.completer.complete(prompts, self.decoding)
        draws = self.decoding.draws
        if len(answers) != len(prompts) * draws:
            raise DataError(
                f"{type(self.completer).__name__} was given {len(prompts)} prompts of {draws} draws, but returned "
                f"{len(answers)} answers. A completer returns one answer for each draw of each prompt, in order."
            )
        for i, answer in enumerate(answers):
            query, prompt = queries[i // draws], prompts[i // draws]
            yield TextAnswer(
                query.id, place_id(query), prompt, answer, self.template.read(answer.text, query)
            )


def _check_complete_truths(queries: Sequence[Sample]) -> None:
    """Raises DataError where the truth of a query lacks a wanted value."""
    incomplete = [
        query.id
        for query in queries
        if query.kind in FIELD_KINDS
        and (query.truth is None or not np.isfinite(query.truth[query.wanted]).all())
    ]
    if incomplete:
        raise DataError(
            f"The likelihood of a truth needs all of its values, but those of {len(incomplete)} of {len(queries)} "
            f"queries are incomplete, the first of {incomplete[0]}. Leave these samples out."
        )


def _check_likelihoods(nats: Float64[np.ndarray, " query"], queries: Sequence[Sample]) -> None:
    """Raises DataError where the scorer gave no likelihood."""
    unknown = np.flatnonzero(np.isnan(nats))
    if unknown.size:
        raise DataError(
            f"The truths of {unknown.size} of {len(queries)} queries have no likelihood under the grammar of the "
            f"template, the first of {queries[int(unknown[0])].id}. Leave these samples out."
        )


def place_id(query: Sample) -> str:
    """The id of the one place that a query asks for; '' where it asks for several."""
    nodes = query.wanted_nodes or tuple(range(len(query.place)))
    return query.place[nodes[0]] if len(nodes) == 1 else ""


def merge_answers(samples: Sequence[Sample], answers: Sequence[TextAnswer]) -> list[Prediction]:
    """Combines the answers into one prediction for each sample.

    value: the median over the draws that could be read; NaN for a place without one, and None where no place of the
    sample has one. Of several draws, `samples` holds all (NaN where one could not be read) and `quantiles` those of
    QUANTILES. ranking: see `vote`; value is then the code of its first option. raw: all answers, each after the id of
    its place. Raises DataError for a place without an answer.
    """
    by_place: dict[tuple[str, str], list[TextAnswer]] = defaultdict(list)
    for answer in answers:
        by_place[answer.sample, answer.place].append(answer)
    return [_merge(sample, by_place) for sample in samples]


def vote(rankings: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Merges rankings: by the number of first places of an option, then by its mean rank, then by first occurrence.

    An option that a ranking lacks ranks one after its last.
    """
    options = list(dict.fromkeys(option for ranking in rankings for option in ranking))
    first = {option: sum(ranking[0] == option for ranking in rankings) for option in options}
    ranks = {
        option: sum(r.index(option) if option in r else len(r) for r in map(list, rankings))
        for option in options
    }
    return tuple(sorted(options, key=lambda option: (-first[option], ranks[option])))


def _merge(sample: Sample, by_place: Mapping[tuple[str, str], list[TextAnswer]]) -> Prediction:
    answers_by_place = _answers_of(sample, by_place)
    raw = "\n".join(
        f"{answer.place}: {answer.answer.text}" for answers in answers_by_place for answer in answers
    )
    draws = np.full((max(map(len, answers_by_place)), *sample.values.shape), np.nan)
    for answers in answers_by_place:
        for draw, answer in enumerate(answers):
            value = answer.prediction.value
            if value is not None:
                draws[draw] = np.where(sample.wanted & np.isfinite(value), value, draws[draw])
    rankings = [a.prediction.ranking for answers in answers_by_place for a in answers if a.prediction.ranking]
    if rankings:
        return _ranked(sample, vote(rankings), draws, raw)
    if np.isnan(draws).all():
        return Prediction(
            value=None, raw=raw, unread_reason="; ".join(map(_unread_reasons, answers_by_place))
        )
    quantiles = dict(zip(QUANTILES, quantiles_over_draws(draws, QUANTILES), strict=True))
    if len(draws) == 1:
        return Prediction(value=quantiles[0.5], raw=raw)
    return Prediction(value=quantiles[0.5], samples=draws, quantiles=quantiles, raw=raw)


def _answers_of(
    sample: Sample, by_place: Mapping[tuple[str, str], list[TextAnswer]]
) -> list[list[TextAnswer]]:
    """The draws of each query of a sample. Raises DataError for a wanted place without an answer."""
    if answers := by_place.get((sample.id, place_id(sample))):
        return [answers]
    places = [sample.place[node] for node in sample.wanted_nodes]
    for place in places:
        if (sample.id, place) not in by_place:
            raise DataError(
                f"{sample.id} asks for {place!r}, but there is no answer for it. Pass the answers of all places."
            )
    return [by_place[sample.id, place] for place in places]


def _ranked(
    sample: Sample,
    ranking: tuple[str, ...],
    draws: Float64[np.ndarray, "draw time node channel"],
    raw: str,
) -> Prediction:
    """A ranking, with the code of its first option where a code is wanted, and the medians of numbers."""
    value = quantiles_over_draws(draws, (0.5,))[0]
    if ranking[0] in sample.side.options:
        value[wanted_codes(sample)] = float(sample.side.options.index(ranking[0]))
    return Prediction(value=value if sample.wanted.any() else None, raw=raw, ranking=ranking)


def _unread_reasons(answers: Sequence[TextAnswer]) -> str:
    """Why the answers of a place could not be read, each reason once."""
    reasons = dict.fromkeys(str(answer.prediction.unread_reason) for answer in answers)
    return f"{answers[0].place}: {', '.join(reasons)}"
