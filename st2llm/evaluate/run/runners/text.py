"""Text arms: a language model is prompted for each sample and its answers are parsed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from st2llm.config.predictors import PredictorSettings
from st2llm.data.windows.fitted_on import NOT_FITTED, FittedOn, refuse_overlap
from st2llm.errors import ConfigError
from st2llm.evaluate.run.cost import Cost, count_parameters
from st2llm.evaluate.run.inputs import Inputs, shown_documents
from st2llm.evaluate.run.job import Job, Outcome
from st2llm.evaluate.run.progress import NO_PROGRESS, ProgressReporter
from st2llm.evaluate.run.samples import without_truth
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.evaluate.scoring.score_table import build_score_table
from st2llm.llm.answer_cache import with_answer_cache
from st2llm.llm.endpoint.client import RemoteModel
from st2llm.llm.local import LanguageModel
from st2llm.model import checkpoint
from st2llm.predict.answer_counts import count_categories
from st2llm.predict.examples import make_example_selector
from st2llm.predict.text import DEFAULT_OPTIONS, PromptOptions, TextAnswer, TextPredictor, merge_answers
from st2llm.serialize.template.template import Template, load_prompt
from st2llm.train.loop.meter import Meter
from st2llm.types import Decoding, Prediction, Prompt, Sample, TrainingWindows


@dataclass(frozen=True)
class TextRun:
    """The answers of a text arm in the order of its prompts, the predictions parsed from them, and their cost."""

    decoding: Decoding
    answers: list[TextAnswer]
    predictions: list[Prediction]
    cost: Cost
    predictor: PredictorSettings

    def result(self) -> dict[str, Any]:
        """What the result of a text arm holds beside that of every arm."""
        predictor_settings = self.predictor.set
        settings = {
            "template": self.predictor.template,
            "examples": {"by": predictor_settings.examples.select, "count": predictor_settings.examples.count}
            if predictor_settings.examples
            else None,
            "budget": predictor_settings.prompt_budget,
            "answer_set": predictor_settings.answer,
        }
        counts = count_categories(a.category for a in self.answers)
        told = _mean_told([a.prompt for a in self.answers])
        return {"decoding": asdict(self.decoding), "ledger": counts, "told": told, **settings}

    def rows(self) -> list[dict[str, Any]]:
        """The rows of the answers file, one per answer."""
        return [_row(answer) for answer in self.answers]


def decoding_settings(predictor: PredictorSettings, seed: int) -> Decoding:
    """The decoding settings of a text predictor."""
    settings = predictor.set
    return Decoding(draws=settings.draws, temperature=settings.temperature, top_p=settings.top_p, seed=seed)


def load_template(predictor: PredictorSettings) -> Template:
    """The template of a text predictor, with the answer settings of the suite."""
    template = load_prompt(str(predictor.template))
    return template.with_answer(predictor.set.answer) if predictor.set.answer else template


def prompt_options(
    predictor: PredictorSettings, model: LanguageModel | RemoteModel, train: TrainingWindows, *, seed: int
) -> PromptOptions:
    """The options of a text predictor's prompts. train: the samples that few-shot examples are taken from.

    Raises ConfigError for a token budget with a model behind an endpoint, whose tokens cannot be counted here.
    """
    settings = predictor.set
    selector = (
        make_example_selector(settings.examples.select, settings.examples.count, train, seed=seed)
        if settings.examples
        else None
    )
    if settings.prompt_budget is None:
        return PromptOptions(selector)
    if isinstance(model, RemoteModel):
        raise ConfigError(
            f"The predictor {predictor.name!r} has a budget of tokens, but those of {model.name} cannot be counted "
            f"here. Leave `budget` out, or take a model on this machine."
        )
    return PromptOptions(selector, settings.prompt_budget, model.tokenizer)


class TextRunner:
    """Prompts the language model of a suite, or a fine-tuned one, with the template of a job.

    Raises ConfigError where one was fine-tuned on values of the test part.
    """

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        for predictor in inputs.suite.predictors:
            if predictor.family == "text" and predictor.checkpoint:
                who = f"The checkpoint {predictor.checkpoint} of {predictor.name!r}"
                refuse_overlap(_tuned_on(predictor), inputs.test_coverage, who=who)

    def run(self, job: Job, store: RunStore) -> Outcome:
        inputs, predictor = self.inputs.showing(shown_documents(job)), job.predictor
        test = inputs.test_samples(predictor)
        if predictor.checkpoint:
            dtype = inputs.models.settings.dtype
            model: LanguageModel | RemoteModel = checkpoint.load_finetuned_llm(
                Path(predictor.checkpoint), dtype=dtype
            )
        else:
            model = inputs.models.of(predictor)
        options = prompt_options(predictor, model, inputs.training_windows(job.seed), seed=job.seed)
        run = run_text(job, model, without_truth(test), options=options, reporter=inputs.reporter)
        result: dict[str, Any] = {
            # Computed when the run is scored, since the predictions of rules replace unreadable answers.
            "validation": None,
            "converged": None,
            "cost": run.cost.to_json(),
            "curves": [],
        }
        table, validation = build_score_table(test, run.predictions), None
        if samples := inputs.prompted_validation_samples(predictor):
            on_validation = replace(job, key=f"{job.key} on validation")
            again = run_text(
                on_validation, model, without_truth(samples), options=options, reporter=inputs.reporter
            )
            validation = build_score_table(samples, again.predictions)
            result["validation_cost"] = again.cost.to_json()
        shown = inputs.fitted_on["train"] if predictor.set.examples else NOT_FITTED
        fitted_on = _tuned_on(predictor) + shown
        return Outcome({**result, **run.result()}, table, run.rows(), validation, fitted_on)


def _tuned_on(predictor: PredictorSettings) -> FittedOn:
    """What the fine-tuned language model of a text predictor was fitted on; nothing for one without a checkpoint."""
    if not predictor.checkpoint:
        return NOT_FITTED
    return checkpoint.checkpoint_fitted_on(checkpoint.read_checkpoint(Path(predictor.checkpoint)))


def run_text(
    job: Job,
    model: LanguageModel | RemoteModel,
    samples: Sequence[Sample],
    *,
    options: PromptOptions = DEFAULT_OPTIONS,
    reporter: ProgressReporter = NO_PROGRESS,
) -> TextRun:
    """Prompts the model for all samples; answers to earlier prompts come from the answer cache."""
    decoding = decoding_settings(job.predictor, job.seed)
    template = load_template(job.predictor)
    with with_answer_cache(model, model.identity) as completer:
        text = TextPredictor(job.predictor.name, template, completer, decoding=decoding, options=options)
        reporter.start(job.key, sum(len(text.queries(sample)) for sample in samples) * decoding.draws)
        with Meter() as meter:
            answers = text.answers(samples, on_chunk=reporter.update)
    cost = _cost(model, answers, meter, len(samples))
    return TextRun(decoding, answers, merge_answers(samples, answers), cost, job.predictor)


def _mean_told(prompts: Sequence[Prompt]) -> dict[str, float] | None:
    """The number of visible values that prompts state one by one, of those there are, and the share, mean over prompts.

    None for prompts that do not know it.
    """
    told = [prompt.told for prompt in prompts if prompt.told is not None]
    if not told:
        return None
    return {
        "values": float(np.mean([each.values for each in told])),
        "visible": float(np.mean([each.visible for each in told])),
        "share": float(np.mean([each.share for each in told])),
    }


def _cost(
    model: LanguageModel | RemoteModel, answers: Sequence[TextAnswer], meter: Meter, samples: int
) -> Cost:
    """Prompt tokens shared by several draws count once. The parameters behind an endpoint are unknown."""
    completions = [answer.answer for answer in answers]
    tokens_in = sum(answer.tokens_in - answer.tokens_shared for answer in completions)
    tokens_out = sum(answer.tokens_out for answer in completions)
    total = count_parameters(model.model)[0] if isinstance(model, LanguageModel) else None
    # A cached answer costs the seconds that it took when it was generated.
    seconds = meter.seconds + sum(answer.seconds for answer in completions if answer.cached)
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
    completion = answer.answer
    return {
        "sample": answer.sample,
        "place": answer.place,
        "draw": completion.draw,
        "prompt": answer.prompt.text,
        "prompt_sha256": answer.prompt.sha256,
        "template": asdict(answer.prompt.template),
        "answer": completion.text,
        "category": answer.category,
        "unread_reason": answer.prediction.unread_reason,
        "finish": completion.finish,
        "tokens_in": completion.tokens_in,
        "tokens_shared": completion.tokens_shared,
        "tokens_out": completion.tokens_out,
        "logprob": completion.logprob,
        "seconds": completion.seconds,
        "cached": completion.cached,
        "dropped": list(answer.prompt.dropped),
        "ranking": list(answer.prediction.ranking or ()),
    }
