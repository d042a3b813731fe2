"""Runs a ladder: each rung is a comparison of its own, and what no language model takes part in is run once."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from st2llm.config.suite import SuiteSource
from st2llm.errors import ConfigError
from st2llm.evaluate.ladder.report import LadderReport, write_ladder
from st2llm.evaluate.ladder.rungs import Rung, plan_rungs, shared_keys
from st2llm.evaluate.run.compare import compare
from st2llm.evaluate.run.plan import Overrides
from st2llm.evaluate.run_folder import resumption
from st2llm.evaluate.run_folder.reading import read_record
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.llm.endpoint.client import PREFIX
from st2llm.llm.model_files import resolve

_SAME = ("data_sha256", "side_sha256", "split_sha256")
"""Keys of run.json that are the same in all rungs, since they share results."""


def ladder(
    suite: SuiteSource,
    llms: Sequence[str],
    *,
    out: str | Path,
    overrides: Overrides = Overrides(),  # noqa: B008 - frozen
    resume: bool = False,
    progress: bool = True,
) -> LadderReport:
    """Runs a suite, or each of a list of suites, with several language models, and reports gain against parameters.

    llms: the names that `load_llm` takes; models behind an endpoint run the text arms alone. out: holds a run folder
    for each model and the report. Rules, external predictors and the warmed-up encoder are those of the first rung.
    overrides: as for `compare`; its `llm` is not used. resume: continues; finished arms of all rungs are kept. Raises
    ConfigError for names that do not exist and folders that hold runs already, ArtefactError for models that cannot be
    had, before any arm runs.
    """
    root = Path(out)
    rungs = plan_rungs(suite, llms, root, overrides)
    for rung in rungs:
        RunStore(rung.folder).claim(resume=resume)
    for llm in llms:
        if not llm.startswith(PREFIX):
            resolve(
                llm
            )  # a model that is missing, or whose terms are open, ends the ladder before its first arm
    for rung in rungs:
        first = next(other for other in rungs if other.suite.id == rung.suite.id)
        if rung is not first:
            _share(first, rung)
        compare(rung.suite, out=rung.folder, resume=resume, progress=progress)
        _check_same_data(first, rung)
    return write_ladder(root, [(rung.llm, rung.folder) for rung in rungs])


def _share(first: Rung, rung: Rung) -> None:
    """Copies the results that do not depend on the model, and the encoder that all arms start from."""
    for key in shared_keys(rung.suite):
        resumption.copy(first.folder, key, rung.folder)
    for encoder in (first.folder / "encoder").glob("*.safetensors"):
        target = rung.folder / "encoder" / encoder.name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(encoder, target)


def _check_same_data(first: Rung, rung: Rung) -> None:
    """Raises ConfigError where data or split have changed between two rungs."""
    before, now = (read_record(each.folder / "run.json") for each in (first, rung))
    if different := [key for key in _SAME if before.get(key) != now.get(key)]:
        raise ConfigError(
            f"{rung.folder} has another {different[0]} than {first.folder}, so the rungs cannot be compared: the data "
            f"changed while the ladder ran. Start it again in another --out."
        )
