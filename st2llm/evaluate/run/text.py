"""The text arm of a comparison: what it was asked and said, what came of it, and what it cost."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from st2llm.config.predictors import PredictorSettings
from st2llm.errors import ConfigError
from st2llm.evaluate.run.cost import Cost, count_parameters
from st2llm.evaluate.run.job import Job
from st2llm.evaluate.run.progress import NO_PROGRESS, ProgressReporter
from st2llm.llm.answer_cache import with_answer_cache
from st2llm.llm.endpoint.client import RemoteModel
from st2llm.llm.local import LanguageModel
from st2llm.predict.answer_counts import count_categories
from st2llm.predict.examples import make_example_selector
from st2llm.predict.text import DEFAULT_OPTIONS, PromptOptions, TextAnswer, TextPredictor, merge_answers
from st2llm.serialize.template.template import Template, load_prompt
from st2llm.train.loop.meter import Meter
from st2llm.types import Decoding, Prediction, Sample


@dataclass(frozen=True)
class TextRun:
    """All answers of a text arm, in order, and the predictions made of them."""

    decoding: Decoding
    answers: list[TextAnswer]
    predictions: list[Prediction]
    cost: Cost
    predictor: PredictorSettings

    def facts(self) -> dict[str, Any]:
        """What the arm's facts hold beside those of every arm."""
        own = self.predictor.set
        asked = {
            "template": self.predictor.template,
            "examples": {"by": own.examples.select, "count": own.examples.count} if own.examples else None,
            "budget": own.prompt_budget,
            "answer_set": own.answer,
        }
        ledger = count_categories(a.category for a in self.answers)
        return {"decoding": asdict(self.decoding), "ledger": ledger, **asked}

    def rows(self) -> list[dict[str, Any]]:
        """A line of the answers file for each answer."""
        return [_row(answer) for answer in self.answers]


def decoding_settings(predictor: PredictorSettings, seed: int) -> Decoding:
    """How a suite's text predictor draws its answers."""
    own = predictor.set
    return Decoding(draws=own.draws, temperature=own.temperature, top_p=own.top_p, seed=seed)


def load_template(predictor: PredictorSettings) -> Template:
    """A text predictor's template, its answer as the suite wants it."""
    template = load_prompt(str(predictor.template))
    return template.with_answer(predictor.set.answer) if predictor.set.answer else template


def prompt_writing(
    predictor: PredictorSettings, model: LanguageModel | RemoteModel, train: Sequence[Sample], *, seed: int
) -> PromptOptions:
    """What the suite wants in a text predictor's prompts. train: what examples are taken from.

    Raises ConfigError for a budget where the model's tokens cannot be counted here.
    """
    own = predictor.set
    chosen = (
        make_example_selector(own.examples.select, own.examples.count, train, seed=seed)
        if own.examples
        else None
    )
    if own.prompt_budget is None:
        return PromptOptions(chosen)
    if isinstance(model, RemoteModel):
        raise ConfigError(
            f"The predictor {predictor.name!r} has a budget of tokens, but those of {model.name} cannot be counted "
            f"here. Leave `budget` out, or take a model on this machine."
        )
    return PromptOptions(chosen, own.prompt_budget, model.tokenizer)


def run_text(
    job: Job,
    model: LanguageModel | RemoteModel,
    samples: Sequence[Sample],
    *,
    writing: PromptOptions = DEFAULT_OPTIONS,
    reporter: ProgressReporter = NO_PROGRESS,
) -> TextRun:
    """Asks the model about all samples; what it was asked before is taken from the user's answers."""
    decoding = decoding_settings(job.predictor, job.seed)
    template = load_template(job.predictor)
    with with_answer_cache(model, model.identity) as completer:
        text = TextPredictor(job.predictor.name, template, completer, decoding=decoding, writing=writing)
        reporter.start(job.key, sum(len(text.questions(sample)) for sample in samples) * decoding.draws)
        with Meter() as meter:
            answers = text.answers(samples, done=reporter.update)
    cost = _cost(model, answers, meter, len(samples))
    return TextRun(decoding, answers, merge_answers(samples, answers), cost, job.predictor)


def _cost(
    model: LanguageModel | RemoteModel, answers: Sequence[TextAnswer], meter: Meter, samples: int
) -> Cost:
    """Tokens count as often as they were read. The weights of an endpoint's model are not known."""
    said = [answer.answer for answer in answers]
    tokens_in = sum(answer.tokens_in - answer.tokens_shared for answer in said)
    tokens_out = sum(answer.tokens_out for answer in said)
    total = count_parameters(model.model)[0] if isinstance(model, LanguageModel) else None
    # An answer that was kept from an earlier run costs the seconds that it took when it was asked.
    seconds = meter.seconds + sum(answer.seconds for answer in said if answer.cached)
    return Cost(
        params_total=total,
        params_trained=0,
        # Two operations a weight and token, the usual estimate for a decoder (Kaplan et al. 2020, section 2.1).
        flops=None if total is None else 2.0 * total * (tokens_in + tokens_out) / samples,
        train_s=0.0,
        predict_s_per_sample=seconds / samples,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        peak_mb=meter.peak_mb,
    )


def _row(answer: TextAnswer) -> dict[str, Any]:
    said = answer.answer
    return {
        "sample": answer.sample,
        "place": answer.place,
        "draw": said.draw,
        "prompt": answer.prompt.text,
        "prompt_sha256": answer.prompt.sha256,
        "template": asdict(answer.prompt.template),
        "answer": said.text,
        "category": answer.category,
        "unread_reason": answer.prediction.unread_reason,
        "finish": said.finish,
        "tokens_in": said.tokens_in,
        "tokens_shared": said.tokens_shared,
        "tokens_out": said.tokens_out,
        "logprob": said.logprob,
        "seconds": said.seconds,
        "cached": said.cached,
        "dropped": list(answer.prompt.dropped),
        "ranking": list(answer.prediction.ranking or ()),
    }
