"""Scores a run folder whose arms several processes wrote, once all have finished."""

from datetime import UTC, datetime
from pathlib import Path

from st2llm.config.suite import Suite
from st2llm.errors import ConfigError
from st2llm.evaluate.report.run_report import rescore
from st2llm.evaluate.run.plan import Plan, planned_arms
from st2llm.evaluate.run_folder.reading import read_record
from st2llm.evaluate.run_folder.store import RunStore

_MOST_NAMED = 5


def merge_folder(folder: Path) -> bool:
    """Writes the records and the report of a run that has none; returns whether it did.

    Raises ConfigError where arms are missing, with their names.
    """
    if (folder / "results.jsonl").exists():
        return False
    store = RunStore(folder)
    suite = Suite.model_validate(read_record(folder / "run.json", ("config",))["config"])
    arms = planned_arms(Plan((suite,), (store,), folder))
    if missing := [arm.label for arm in arms if arm.seconds is None]:
        names = "; ".join(missing[:_MOST_NAMED]) + ("; ..." if len(missing) > _MOST_NAMED else "")
        raise ConfigError(
            f"{len(missing)} of {len(arms)} arms have not finished in {folder}: {names}. Run the other parts, or "
            f"continue with `st2llm compare SUITE --out {folder} --resume`; `--rescore` reports on the others alone."
        )
    store.mark_finished(datetime.now(UTC).isoformat(timespec="seconds"))
    rescore(folder)
    return True
