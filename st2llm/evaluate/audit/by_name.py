"""`st2llm audit` of a data set by name: loads the data and the task that the predictions are of."""

import re
from collections.abc import Sequence
from pathlib import Path

from st2llm import tasks
from st2llm.data import load_data
from st2llm.errors import ConfigError
from st2llm.evaluate.audit.audit import AuditSettings, audit
from st2llm.evaluate.audit.claims import Claim
from st2llm.evaluate.audit.prediction_table import check_is_file
from st2llm.evaluate.audit.report import Audit
from st2llm.tasks import Task
from st2llm.types import Container

_FORECAST = re.compile(r"forecast-(\d+)-(\d+)")


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
