"""Cautions below a verdict: what limits it, or how far it can be trusted; and how training ended."""

from collections.abc import Sequence

from st2llm.data.windows.fitted_on import PRE_TRAINING
from st2llm.evaluate.report.formats import MISSING, format_gain, format_gain_size, pluralize
from st2llm.evaluate.run_folder.record import Record
from st2llm.evaluate.run_folder.results import RunResults
from st2llm.evaluate.scoring.gains.influence import relative_gain
from st2llm.train.loop.budget import OUTCOME_LABELS


def verdict_cautions(results: RunResults, rows: Sequence[Record], arm: Record | None) -> tuple[str, ...]:
    """The cautions of the verdict about an arm. rows: the pooled records of the task."""
    cautions = []
    if results.run["suite"].get("demo"):
        cautions.append("DEMO: a shortened run that shows the machinery. Do not quote it as a result.")
    names = {arm.predictor, arm.gain_best.vs if arm.gain_best else ""} if arm else set()
    cautions += _reference_cautions(results, rows, arm)
    cautions += training_cautions(rows, names)
    cautions += [
        f"It is not known whether {row.predictor} was fitted on values of the test part: of {what} no record says so."
        for row in rows
        if row.predictor in names
        for what in unknown_sources(row)
        if not what.startswith(PRE_TRAINING)
    ]
    if arm is not None and arm.unread:
        cautions.append(f"{arm.unread:,} of {arm.n:,} answers of {arm.predictor} could not be read.")
    return (*cautions, *_interval_cautions(results, arm))


def unknown_sources(record: Record) -> list[str]:
    """What a predictor was fitted on as far as it is not known, in words."""
    return [str(row["unknown"]) for row in record.fitted_on or () if "unknown" in row]


def training_label(record: Record) -> str:
    """How the training of an arm ended; a dash for what is not trained."""
    label = OUTCOME_LABELS.get(str(record.training_end), MISSING)
    return f"equals {record.equals}" if record.equals else label


def tuning_budget(record: Record) -> str:
    """What an arm was trained with, in words; '' for what was not trained, and for records of earlier versions."""
    training = record.training
    if not training:
        return ""
    rates = pluralize(len(training["lr_candidates"]), "learning rate")
    warmup = f" after {training['warmup_steps']:,} of the encoder alone" if training["warmup_steps"] else ""
    return f"{training['steps']:,} steps of batch {training['batch']}{warmup}, {training['epochs']:.2g} epochs, {rates}"


def tuning_budgets(results: RunResults, rows: Sequence[Record], arm: Record | None) -> str:
    """A sentence with the tuning budgets of the LLM arm and of the native arm that is best on validation."""
    natives = [row for row in rows if row.role == "primitive" and row.training and row.validation is not None]
    if arm is None or not arm.training or not natives:
        return ""
    sign = 1 if results.relative else -1
    native = min(natives, key=lambda row: sign * (row.validation or 0.0))
    return f"Tuning: {'; '.join(f'{row.predictor} {tuning_budget(row)}' for row in (arm, native))}."


def training_cautions(rows: Sequence[Record], shown: set[str]) -> list[str]:
    """Sentences about arms whose training did not end on a plateau. shown: the arms of the verdict.

    An arm that learned nothing is named even where the verdict is about others.
    """
    endings = {
        "improving": "has not converged: with more steps its error may fall",
        "short": "was trained for too few steps to tell whether it converges",
        "rising": "overfits: its validation error rose after the best state, which was kept",
    }
    cautions = [
        f"{row.predictor} {endings[row.training_end]}."
        for row in rows
        if row.predictor in shown and row.training_end in endings
    ]
    stuck = [row for row in rows if row.training_end == "stuck"]
    for rule in dict.fromkeys(row.equals for row in stuck):
        names = ", ".join(row.predictor for row in stuck if row.equals == rule)
        end = f"their errors are those of {rule}" if rule else "no state was better than the initial one"
        cautions.append(f"Training changed nothing in {names}: {end}.")
    return cautions


def _reference_cautions(results: RunResults, rows: Sequence[Record], arm: Record | None) -> list[str]:
    """A sentence where the reference, best on validation, is worse on test than another by more than the margin.

    Validation and test then disagree about the arms without an LLM, and a large gain may be no merit of the LLM.
    """
    gain = arm.gain_best if arm else None
    scored = [row for row in rows if not row.pretrained and results.score(row) is not None]
    reference = next((row for row in scored if gain is not None and row.predictor == gain.vs), None)
    if arm is None or gain is None or gain.margin is None or reference is None:
        return []
    best = next(row for row in scored)  # rows are sorted, the best first
    higher = not results.relative
    over = relative_gain(results.score(arm) or 0.0, results.score(best) or 0.0, higher=higher)
    behind = relative_gain(results.score(best) or 0.0, results.score(reference) or 0.0, higher=higher)
    if best.predictor == reference.predictor or behind <= gain.margin:
        return []
    return [
        f"The reference {reference.predictor} was best on validation, but {best.predictor} is best on test: over it, "
        f"{arm.predictor} gains {format_gain(over, relative=results.relative)}."
    ]


def _interval_cautions(results: RunResults, arm: Record | None) -> tuple[str, ...]:
    """What limits the interval of the gain."""
    gain = arm.gain_best if arm else None
    if gain is None or gain.low is None:
        return ()
    cautions = []
    if gain.correlated and gain.block_length is not None:
        cautions.append(
            f"Neighbouring blocks still correlate (autocorrelation {gain.autocorrelation or 0:.2f}, best block length "
            f"{gain.block_length:.1f}). The interval allows for it; longer blocks would be better."
        )
    if max(gain.optimism_llm, gain.optimism_reference) >= 0.0005:
        parts = [
            format_gain_size(x, relative=results.relative)
            for x in (gain.optimism_llm, gain.optimism_reference)
        ]
        cautions.append(
            f"The interval is longer by {parts[0]} below and {parts[1]} above, since the arm and its reference were "
            f"chosen on validation among several."
        )
    return tuple(cautions)
