"""The verdict: one sentence about one language model, with its interval, or the reason why there is none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from st2llm.evaluate.report.formats import (
    format_gain_interval,
    format_gain_size,
    format_score,
    metric_name,
    metric_unit,
    pluralize,
)
from st2llm.evaluate.run_folder.record import Gain, Record
from st2llm.evaluate.run_folder.results import RunResults
from st2llm.evaluate.scoring.bootstrap import MIN_BLOCKS
from st2llm.evaluate.scoring.gain import gain_outcome
from st2llm.evaluate.scoring.records import best_llm_arm


@dataclass(frozen=True)
class Verdict:
    """The verdict on one task.

    outcome: better, worse, open (the interval contains zero), few (too few blocks) or none (no LLM took part).
    about: model, data and budget that the sentence is about. cautions: limitations of the sentence.
    """

    outcome: str
    sentence: str
    about: str
    cautions: tuple[str, ...]
    llm_arm: Record | None
    reference: str | None


def compute_verdict(results: RunResults, task: str) -> Verdict:
    """The verdict on a task, about the LLM arm that was best on validation."""
    rows = results.pooled(task)
    arm = best_llm_arm(rows, lower=results.relative)
    if arm is None or arm.gain_best is None:
        reference = next((row.predictor for row in rows if not row.pretrained), None)
        return Verdict(
            "none",
            _no_gain_sentence(results, rows, arm),
            _scope(results, task, arm),
            _cautions(results, rows, arm),
            arm,
            reference,
        )
    gain = arm.gain_best
    sentence = _sentence(_llm_of(results, arm), arm.predictor, gain, relative=results.relative)
    return Verdict(
        gain_outcome(gain), sentence, _scope(results, task, arm), _cautions(results, rows, arm), arm, gain.vs
    )


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


def _llm_of(results: RunResults, arm: Record | None) -> str:
    """The language model of the arm, else of the suite."""
    return llm_name((arm.llm if arm else None) or results.run.get("llm"))


def _sentence(name: str, arm: str, gain: Gain, *, relative: bool) -> str:
    side = "worse" if gain.value < 0 else "better"
    amount = f"{format_gain_size(gain.value, relative=relative)} {side}"
    span = format_gain_interval(gain.low, gain.high)
    claim = f"its best arm, {arm}, is {amount} {span} than {gain.vs}"
    return {
        "better": f"{name} helped: {claim}.",
        "worse": f"{name} did not help: {claim}.",
        "open": f"{name} made no difference that this run can show: {claim}, and the interval holds zero.",
        "few": f"Too few blocks for a verdict on {name}: its best arm, {arm}, measured {amount} than {gain.vs}, "
        f"but on {pluralize(gain.n_blocks, 'block')} where {MIN_BLOCKS} are needed.",
    }[gain_outcome(gain)]


def _no_gain_sentence(results: RunResults, rows: Sequence[Record], arm: Record | None) -> str:
    best = next((row for row in rows if results.score(row) is not None), None)
    lead = "No language model took part"
    if arm is None and any(row.pretrained for row in rows):
        lead = "No LLM arm has a validation score, so there is no verdict"
    if arm is not None:
        lead = f"No gain was recorded for {_llm_of(results, arm)}"
    if best is None:
        return f"{lead}, and nothing could be scored."
    value = format_score(results.primary, results.score(best))
    value += " %" if metric_unit(results.primary, "") == "%" else ""
    among = pluralize(len(rows), "predictor")
    return f"{lead}: of {among}, {best.predictor} is best with {metric_name(results.primary)} {value}."


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


def _cautions(results: RunResults, rows: Sequence[Record], arm: Record | None) -> tuple[str, ...]:
    cautions = []
    if results.run["suite"].get("demo"):
        cautions.append("DEMO: a shortened run that shows the machinery. Do not quote it as a result.")
    for name, meaning in (
        ("positive", "this run could not have seen a gain that was there, so the verdict says little"),
        ("negative", "it shows a gain where none was planted, so the gains here are not to be trusted"),
    ):
        control = results.controls.get(name)
        if control and not control.get("passed"):
            cautions.append(f"The {name} control failed: {meaning}.")
    compared = {arm.predictor, arm.gain_best.vs if arm.gain_best else ""} if arm else set()
    cautions += [
        f"{row.predictor} has not converged: with more steps its error may fall."
        for row in rows
        if row.predictor in compared and row.converged is False
    ]
    if arm is not None and arm.unread:
        cautions.append(f"{arm.unread:,} of {arm.n:,} answers of {arm.predictor} could not be read.")
    return tuple(cautions)
