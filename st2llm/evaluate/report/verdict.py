"""The verdict: one sentence about one language model, with its interval, or the reason why there is none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from st2llm.evaluate.report.cautions import tuning_budgets, verdict_cautions
from st2llm.evaluate.report.formats import (
    format_gain_interval,
    format_gain_size,
    format_score,
    metric_name,
    metric_unit,
    pluralize,
)
from st2llm.evaluate.report.protocol import block_name
from st2llm.evaluate.run_folder.record import Gain, Record
from st2llm.evaluate.run_folder.results import RunResults
from st2llm.evaluate.scoring.gains.interval import MIN_BLOCKS
from st2llm.evaluate.scoring.gains.outcome import Outcome, gain_outcome, shortage, within_margin
from st2llm.evaluate.scoring.records import best_llm_arm


@dataclass(frozen=True)
class Verdict:
    """The verdict on one task.

    outcome: helped, hurt, equivalent, unclear, no-verdict, or none (no LLM took part). about: model, data and budget
    that the sentence is about. cautions: limitations of the sentence.
    """

    outcome: Outcome | Literal["none"]
    sentence: str
    about: str
    cautions: tuple[str, ...]
    llm_arm: Record | None
    reference: str | None


def compute_verdict(results: RunResults, task: str) -> Verdict:
    """The verdict on a task, about the LLM arm that was best on validation.

    There is none without a validation score of an LLM arm, under 20 blocks, under three seeds of a trained arm, and
    where a planted control did not pass. A language model helped if its arm is better than the best arm without it and
    than the best trained one of these.
    """
    rows = results.pooled(task)
    arm = best_llm_arm(rows, lower=results.relative)
    about = " ".join(filter(None, (_scope(results, task, arm), tuning_budgets(results, rows, arm))))
    cautions = verdict_cautions(results, rows, arm)
    if arm is None or arm.gain_best is None:
        reference = next((row.predictor for row in rows if not row.pretrained), None)
        took_part = any(row.pretrained for row in rows)
        grouped = next((row for row in rows if row.gain_group is not None), None)
        if grouped is None or took_part:
            sentence = _no_gain_sentence(results, rows, arm, took_part=took_part)
        else:
            sentence = group_sentence(results, grouped)
        cautions = (*cautions, *_no_intervals(results, rows))
        return Verdict("no-verdict" if took_part else "none", sentence, about, cautions, arm, reference)
    gain = arm.gain_best
    name, measured = _llm_of(results, arm), _measured(results, gain)
    if reason := shortage(gain) or _failed_control(results):
        sentence = f"No verdict on {name}: {reason}. Its best arm, {arm.predictor}, measured {measured}."
        return Verdict("no-verdict", sentence, about, cautions, arm, gain.vs)
    outcome = gain_outcome(gain)
    if outcome == "helped" and arm.gain_trained and gain_outcome(arm.gain_trained) != "helped":
        over_trained = _measured(results, arm.gain_trained)
        sentence = (
            f"This run cannot tell whether {name} helps: its best arm, {arm.predictor}, is {_measured(results, gain)}, "
            f"but {over_trained}, the best of the arms that were trained without it."
        )
        return Verdict("unclear", sentence, about, cautions, arm, gain.vs)
    sentence = _sentence(results, name, arm.predictor, gain, outcome)
    return Verdict(outcome, sentence, about, cautions, arm, gain.vs)


def group_sentence(results: RunResults, arm: Record) -> str:
    """What the comparison of two groups of predictors came to. arm: the best of the first group."""
    gain, label = arm.gain_group, results.run["config"]["groups"]["label"]
    if gain is None:
        return ""
    claim = f"{label}: {arm.predictor} is {_measured(results, gain)}"
    if reason := shortage(gain):
        return f"{claim}; no verdict: {reason}."
    outcome = gain_outcome(gain)
    if outcome == "unclear":
        return f"{claim}, and the interval contains zero."
    if outcome == "equivalent":
        return (
            f"{claim}, which is surely less than {format_gain_size(gain.margin, relative=results.relative)}."
        )
    return f"{claim}."


def _no_intervals(results: RunResults, rows: Sequence[Record]) -> tuple[str, ...]:
    """Why no error of a task has an interval; empty where one has."""
    scores = [row.measured[results.primary] for row in rows if results.primary in row.measured]
    if not scores or any(score.low is not None for score in scores):
        return ()
    return (f"There are no intervals: they need at least {MIN_BLOCKS} {block_name(results)} of test data.",)


def _failed_control(results: RunResults) -> str:
    """Why a control withholds the verdict; '' where all that ran passed."""
    meanings = {
        "positive": "a gain that was planted was not found",
        "negative": "a gain was found where none was planted",
    }
    for name, meaning in meanings.items():
        control = results.controls.get(name)
        if control and (outcome := control_outcome(control)) != "passed":
            if outcome == "failed":
                return f"the {name} control failed: {meaning}"
            return f"the {name} control is {outcome}, so it shows nothing"
    return ""


def llm_name(llm: Mapping[str, Any] | None) -> str:
    """The name of a language model with layers, dtype and quantisation: `smollm2-135m (6 of 30 layers, bf16, nf4)`."""
    if not llm:
        return "no language model"
    depth, full = llm.get("depth"), llm.get("depth_full")
    depth = depth or full
    layers = f"{depth} of {full} layers" if full and depth != full else f"{depth} layers" if depth else ""
    dtype = {"bfloat16": "bf16", "float32": "fp32", "float16": "fp16"}.get(
        str(llm.get("dtype")), llm.get("dtype")
    )
    parts = [str(part) for part in (layers, dtype, llm.get("quant")) if part and part != "none"]
    return f"{llm.get('name')}" + (f" ({', '.join(parts)})" if parts else "")


def control_outcome(control: Mapping[str, Any]) -> str:
    """passed, failed, vacuous or unresolved; runs of earlier versions know the first two."""
    return str(control.get("outcome") or ("passed" if control.get("passed") else "failed"))


def _llm_of(results: RunResults, arm: Record | None) -> str:
    """The language model of the arm, else of the suite."""
    return llm_name((arm.llm if arm else None) or results.run.get("llm"))


def _measured(results: RunResults, gain: Gain) -> str:
    side = "worse" if gain.value < 0 else "better"
    amount = f"{format_gain_size(gain.value, relative=results.relative)} {side}"
    return " ".join(filter(None, (amount, format_gain_interval(gain.low, gain.high), f"than {gain.vs}")))


def _sentence(results: RunResults, name: str, arm: str, gain: Gain, outcome: Outcome) -> str:
    claim = f"its best arm, {arm}, is {_measured(results, gain)}"
    margin = format_gain_size(gain.margin, relative=results.relative)
    if outcome == "equivalent":
        return f"{name} makes no difference larger than {margin}: {claim}."
    if outcome == "unclear":
        return f"This run cannot tell whether {name} helps: {claim}, and the interval contains zero."
    small = f" The difference is surely smaller than {margin}." if within_margin(gain) else ""
    return f"{name} {outcome}: {claim}.{small}"


def _no_gain_sentence(
    results: RunResults, rows: Sequence[Record], arm: Record | None, *, took_part: bool
) -> str:
    best = next((row for row in rows if results.score(row) is not None), None)
    lead = "No language model took part"
    if arm is not None:
        lead = f"No gain was recorded for {_llm_of(results, arm)}"
    elif took_part:
        lead = f"No verdict on {_llm_of(results, None)}: none of its arms has a validation score"
    if best is None:
        return f"{lead}, and nothing could be scored."
    value = format_score(results.primary, results.score(best))
    value += " %" if metric_unit(results.primary, "") == "%" else ""
    among = pluralize(len(rows), "predictor")
    end = f"Of {among}, {best.predictor} is best with {metric_name(results.primary)} {value}."
    return f"{lead}. {end}" if took_part and arm is None else f"{lead}: {end[0].lower()}{end[1:]}"


def _scope(results: RunResults, task: str, arm: Record | None) -> str:
    """What the verdict is about: model, data, windows, seeds and budget."""
    places = len(results.data.get("places") or [])
    held = pluralize(places, "place") if places else str(results.data.get("holds") or "")
    where = f"{results.data.get('name', 'the data')}" + (f" ({held})" if held else "")
    windows = results.most_windows(task)
    seeds = len(results.run.get("seeds") or [])
    parts = [where]
    if results.run.get("llm"):
        parts.insert(0, _llm_of(results, arm))
    parts += [pluralize(windows, "test window")] if windows else []
    parts += [pluralize(seeds, "seed")] if seeds else []
    parts += _budget(results)
    return "This is about " + ", ".join(parts) + ", and about nothing else."


def _budget(results: RunResults) -> list[str]:
    budget = (results.run.get("config") or {}).get("budget") or {}
    if not results.run.get("llm") or not budget:
        return []
    steps = f"{budget['steps']:,} steps" if budget.get("steps") else ""
    seconds = f"{budget['seconds']:,} s" if budget.get("seconds") else ""
    batch = f" of batch {budget['batch']}" if budget.get("batch") else ""
    return [f"{steps or seconds}{batch} for each trained arm"] if steps or seconds else []
