"""`st2llm audit`: scores predictions under st2llm's protocol, and measures what each other choice would be worth."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from st2llm import tasks
from st2llm.data import load_data
from st2llm.errors import ConfigError, DataError
from st2llm.evaluate.audit.alignment import Aligned, align
from st2llm.evaluate.audit.choices import Choice, measured_choices, score_of
from st2llm.evaluate.audit.claims import Claim
from st2llm.evaluate.audit.findings import describe
from st2llm.evaluate.audit.prediction_table import check_is_file, read_audited
from st2llm.evaluate.audit.problem import Problem, pose
from st2llm.evaluate.audit.report import Audit
from st2llm.evaluate.audit.rules import score_rules
from st2llm.evaluate.audit.units import check_clock, find_shift, to_raw
from st2llm.evaluate.audit.window_choices import scaler_choices, window_choices
from st2llm.tasks import Task
from st2llm.types import Container

_FORECAST = re.compile(r"forecast-(\d+)-(\d+)")


@dataclass(frozen=True)
class AuditSettings:
    """How the file is read. units: see `units.UNITS`. timezone: of times without an offset; the data's where empty.

    stride: steps between test windows.
    """

    units: str = "raw"
    timezone: str = ""
    stride: int = 1


DEFAULT = AuditSettings()


def audit(
    path: Path,
    data: Container,
    task: Task,
    *,
    settings: AuditSettings = DEFAULT,
    claims: Sequence[Claim] = (),
) -> Audit:
    """Audits a file of forecasts of a graph or grid (`read_audited` states its columns).

    Raises DataError for predictions that cannot be laid beside the truth: unknown places or times, repeated entries,
    values that are not finite, another unit or time zone, no window of the test part.
    """
    problem = pose(data, task, stride=settings.stride)
    everything = align(read_audited(path, settings.timezone or problem.data.timezone), problem)
    everything = to_raw(everything, problem, settings.units)
    shift = find_shift(everything, problem)
    check_clock(everything, problem, shift)
    scored = everything.at(problem.scored.origins)
    if not scored.valid.any():
        raise DataError(
            f"{path} holds {len(everything.origins):,} windows, but none with a true value in the test part of "
            f"{problem.data.name} (the last {problem.data.split.test:g} of its steps). Name another split with "
            f"--data NAME#SPLIT, another --task, or a smaller --stride."
        )
    rules, refused = score_rules(problem, scored.origins, scored.value, scored.truth)
    choices = _choices(scored, everything, problem=problem)
    return Audit(
        file=path.name,
        data=problem.data.name,
        unit=problem.data.unit,
        task=problem.task.name,
        scores=score_of(scored.value, scored.truth, scored.valid),
        windows=len(scored.origins),
        entries=int(scored.valid.sum()),
        findings=tuple(describe(scored, everything, problem, shift)),
        choices=tuple(choices),
        rules=tuple(rules),
        refused=refused,
        claims=tuple(claims),
    )


def audit_file(
    path: Path, data: str, task: str | None, settings: AuditSettings, claims: Sequence[Claim]
) -> Audit:
    """Audits a file of predictions. data: a name or a card. task: `forecast-HISTORY-HORIZON`, else that of the card.

    Raises ConfigError for another task, and what `load_data` and `audit` raise.
    """
    check_is_file(path)
    container = load_data(data)
    return audit(path, container, _task_of(task, container), settings=settings, claims=claims)


def _task_of(name: str | None, container: Container) -> Task:
    if name is None:
        default = getattr(container, "default_task", None)
        if not default:
            raise ConfigError("The data card names no default task. Give --task, such as forecast-12-12.")
        return tasks.from_config(default)[0]
    match = _FORECAST.fullmatch(name)
    if not match:
        raise ConfigError(
            f"--task should be forecast-HISTORY-HORIZON in steps, such as forecast-12-12, but {name!r} came."
        )
    return tasks.forecast(int(match[1]), int(match[2]))


def _choices(scored: Aligned, everything: Aligned, *, problem: Problem) -> list[Choice]:
    with np.errstate(invalid="ignore"):
        return [
            *measured_choices(scored),
            *window_choices(scored, everything, problem),
            *scaler_choices(scored, problem),
        ]
