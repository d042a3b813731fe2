"""What the choice of windows, history and scaler is worth; the ridge tells where the predictions cannot."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int64

from st2llm.errors import DataError
from st2llm.evaluate.audit.alignment import Aligned
from st2llm.evaluate.audit.choices import Choice, score_of
from st2llm.evaluate.audit.problem import Problem, positions
from st2llm.evaluate.audit.rules import FittedRule, fit_rule
from st2llm.evaluate.audit.units import Scaler, fit_scaler

_MOST = 2000
"""The ridge is measured on at most so many windows, evenly spaced."""
_HISTORIES = (0.5, 2.0, 4.0)
_SCALED = ("mae", "rmse")


def window_choices(scored: Aligned, all_windows: Aligned, problem: Problem) -> list[Choice]:
    """The effects of missing windows, of other ways to split and of other histories.

    scored: the predictions on the windows of st2llm. all_windows: all of the file, some of which may be others.
    """
    reference = score_of(scored.value, scored.truth, scored.valid)
    try:
        ridge = fit_rule(problem, "ridge", problem.task.history)
    except DataError:
        return []
    choices = []
    if len(scored.origins) < len(problem.scored.origins):
        share = _change(ridge, problem, scored.origins, problem.scored.origins)
        left = len(problem.scored.origins) - len(scored.origins)
        choices.append(
            Choice(
                "missing-windows",
                "windows missing in the file",
                f"{left:,} of {len(problem.scored.origins):,} windows; the effect is of leaving them out",
                reference,
                {name: reference[name] * (1 + change) for name, change in share.items()},
                "ridge",
            )
        )
    for other in problem.sets[1:]:
        choices.append(_other_split(ridge, problem, (scored, all_windows), other.name, other.origins))
    return [*choices, *_look_back(ridge, problem, reference)]


def _other_split(
    ridge: FittedRule,
    problem: Problem,
    predictions: tuple[Aligned, Aligned],
    name: str,
    origins: Int64[np.ndarray, " window"],
) -> Choice:
    scored, everything = predictions
    reference = score_of(scored.value, scored.truth, scored.valid)
    detail = f"{len(origins):,} windows, {len(problem.scored.origins):,} in st2llm"
    if (positions(origins, everything.origins) >= 0).all():
        of = everything.at(origins)
        return Choice("windows", name, detail, score_of(of.value, of.truth, of.valid), reference)
    share = _change(ridge, problem, problem.scored.origins, origins)
    return Choice("windows", name, detail, _changed(reference, share), reference, "ridge")


def _look_back(ridge: FittedRule, problem: Problem, reference: dict[str, float]) -> list[Choice]:
    """The history, among a half to four times that of the task, whose ridge differs most."""
    origins = _thin(problem.scored.origins)
    truth = problem.truth(origins)
    base = _scores(ridge, problem, origins)
    found: dict[int, dict[str, float]] = {}
    for factor in _HISTORIES:
        history = round(problem.task.history * factor)
        try:
            other = fit_rule(problem, "ridge", history) if history else None
            if other is not None and np.isfinite(truth).any():
                found[history] = _ratio(base, _scores(other, problem, origins))
        except DataError:
            continue  # the training part or the time before the first test window is too short for it
    if not found:
        return []
    most = max(found, key=lambda history: abs(found[history]["mae"]))
    listed = ", ".join(f"{history} steps {100 * share['mae']:+.1f} %" for history, share in found.items())
    detail = f"MAE of a ridge against {problem.task.history} steps: {listed}"
    return [
        Choice(
            "look-back",
            f"history of {most} steps",
            detail,
            _changed(reference, found[most]),
            reference,
            "ridge",
        )
    ]


def scaler_choices(scored: Aligned, problem: Problem) -> list[Choice]:
    """Scores in standardised units, and what a scaler that was fitted on all data makes of them."""
    train, everything = problem.training_values(), problem.windows.field.values[:, problem.asked]
    choices = []
    for by_place, of in ((False, "one scaler"), (True, "a scaler for each place")):
        fair, leaky = (
            _standardised(scored, fit_scaler(values, by_place=by_place)) for values in (train, everything)
        )
        key = "by-place" if by_place else "global"
        title = f"standardised units, {of}"
        choices.append(
            Choice(f"standardised-{key}", title, "fitted on training", fair, fair, comparable=False)
        )
        choices.append(
            Choice(f"scaler-on-all-{key}", f"{title}, fitted on all data", "against training", leaky, fair)
        )
    return choices


def _standardised(aligned: Aligned, scaler: Scaler) -> dict[str, float]:
    value, truth = ((each - scaler.mean) / scaler.std for each in (aligned.value, aligned.truth))
    scores = score_of(value, truth, aligned.valid)
    return {name: scores[name] for name in _SCALED}


def _thin(origins: Int64[np.ndarray, " window"]) -> Int64[np.ndarray, " window"]:
    kept = np.unique(np.linspace(0, len(origins) - 1, min(len(origins), _MOST)).round().astype(np.int64))
    return origins[kept]


def _scores(ridge: FittedRule, problem: Problem, origins: Int64[np.ndarray, " window"]) -> dict[str, float]:
    truth = problem.truth(origins)
    return score_of(ridge.predict(problem, origins), truth, np.isfinite(truth))


def _change(ridge: FittedRule, problem: Problem, before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    """The relative change of the ridge's scores from one set of windows to another."""
    return _ratio(*(_scores(ridge, problem, _thin(origins)) for origins in (before, after)))


def _ratio(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    return {name: after[name] / before[name] - 1 if before[name] else 0.0 for name in _SCALED}


def _changed(scores: Mapping[str, float], share: Mapping[str, float]) -> dict[str, float]:
    return {name: scores[name] * (1 + change) for name, change in share.items()}
