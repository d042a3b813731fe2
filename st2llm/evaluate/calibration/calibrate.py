"""`st2llm calibrate`: trains arms of a suite with many seeds, compares them with themselves, and simulates the rest."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from st2llm import config
from st2llm.config.suite import Suite, load_suites
from st2llm.errors import ConfigError
from st2llm.evaluate.calibration import resampling, simulation
from st2llm.evaluate.calibration.page import write_page
from st2llm.evaluate.run.compare import compare
from st2llm.evaluate.run_folder.reading import read_json, read_table
from st2llm.evaluate.run_folder.results import read_results
from st2llm.evaluate.run_folder.store import RunStore, write_json
from st2llm.evaluate.scoring.arms import FinishedArms, load_arms
from st2llm.evaluate.scoring.gains.gain import Scores
from st2llm.evaluate.scoring.gains.twins import random_twin
from st2llm.evaluate.scoring.records import score_table_of
from st2llm.files import write_text

SEEDS_ON_A_SIDE = (3, 5)
"""Training runs on each side of an A/A comparison."""


@dataclass(frozen=True)
class CalibrationSettings:
    """What `calibrate` measures.

    arms: trained arms of the suite that are compared with themselves; by default its native ones. seeds: training runs
    of each. trials: comparisons of each setting. draws: of the earlier bootstrap. simulation: also simulates errors.
    run: the folder of a finished comparison of the suite, whose scores are used; nothing is trained. Its seeds are too
    few to compare an arm with itself, so arms are compared with their random twins: labels exchanged, and power.
    """

    arms: tuple[str, ...] = ()
    seeds: int = 10
    trials: int = 1000
    draws: int = 500
    simulation: bool = True
    run: str | Path | None = None


DEFAULT = CalibrationSettings()


def calibrate(
    suite: str | Path,
    *,
    out: str | Path | None = None,
    settings: CalibrationSettings = DEFAULT,
    resume: bool = False,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Path:
    """Writes calibration.json and calibration.md: false-positive rates, coverage and power of the suite's gains.

    The arms are trained with as many seeds in OUT/run, a comparison like any other, which can be resumed. progress: of
    the simulation. Returns the folder. Raises ConfigError for a list of suites, an arm that the suite does not train,
    fewer than six seeds, and a run of another suite or without random twins.
    """
    suites = load_suites(suite)
    if len(suites) != 1:
        raise ConfigError(
            f"{suite} lists {len(suites)} suites. Calibrate one of them, such as {suites[0].id}."
        )
    root = Path(out) if out is not None else Path("runs") / f"calibrate-{suites[0].id}"
    if settings.run is not None:
        measured = _from_run(Path(settings.run), suites[0].id, settings)
    else:
        measured = _from_training(root, suites[0], settings, resume=resume)
    write_json(root / "calibration.json", {**measured, **_simulated(settings, progress)})
    write_page(root)
    return root


def _from_training(
    root: Path, suite: Suite, settings: CalibrationSettings, *, resume: bool
) -> dict[str, Any]:
    """Trains the arms with many seeds in ROOT/run, and compares each with itself."""
    if settings.seeds < 2 * min(SEEDS_ON_A_SIDE):
        raise ConfigError(
            f"{settings.seeds} seeds are too few for two sides of {min(SEEDS_ON_A_SIDE)}. "
            f"Give --seeds {2 * min(SEEDS_ON_A_SIDE)} or more."
        )
    many = _with_many_seeds(suite, settings)
    path = root / "suite.yaml"
    text = yaml.safe_dump(many.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
    write_text(path, text)
    compare(path, out=root / "run", resume=resume)
    return _resampled(root / "run", many, settings)


def _from_run(run: Path, suite_id: str, settings: CalibrationSettings) -> dict[str, Any]:
    """Comparisons of arms with their random twins, from the scores of a finished run of the suite."""
    results = read_results(run)
    suite = config.parse(results.run["config"], into=Suite, where=str(run / "run.json"))
    if suite.id != suite_id:
        raise ConfigError(f"{run} is a run of {suite.id}, not of {suite_id}. Give a run of the suite.")
    arms, table = _scores(run, suite)
    names = settings.arms or tuple(p.name for p in suite.predictors if p.pretrained and p.trained)
    twins = [(name, twin) for name in names if (twin := random_twin(arms, name)) is not None]
    if not twins:
        raise ConfigError(
            f"{run}: none of {', '.join(names) or 'its arms'} has a random twin that was trained. Name others with "
            f"--arms, or leave --run out."
        )
    return {
        **_heading(results.run, suite, settings, seeds=len(suite.seeds)),
        "real": [],
        "resampled": [],
        "exchanged": _exchanged(table, twins, suite.primary_metric, settings.trials),
        "power": resampling.paired_power(table, twins, suite.primary_metric),
    }


def _with_many_seeds(suite: Suite, settings: CalibrationSettings) -> Suite:
    """The suite with the arms alone, many seeds and no controls. Raises ConfigError for an arm that is not trained."""
    names = settings.arms or tuple(
        p.name for p in suite.predictors if p.trained and p.family == "primitive" and p.backbone != "matched"
    )
    if not names:
        raise ConfigError(f"{suite.id} trains no native arm. Name trained arms with --arms.")
    predictors = [suite.predictor(name) for name in names]
    for predictor in predictors:
        if not predictor.trained:
            raise ConfigError(
                f"{predictor.name!r} is not trained, so its seeds are all the same. Name others."
            )
    changes = {
        "id": f"{suite.id}-calibration",
        "predictors": predictors,
        "seeds": list(range(settings.seeds)),
        "controls": None,
    }
    return suite.model_copy(update=changes)


def _resampled(run: Path, suite: Suite, settings: CalibrationSettings) -> dict[str, Any]:
    """A/A comparisons and power from the scores of the run."""
    arms, table = _scores(run, suite)
    metric = suite.primary_metric
    pairs = [(one, other) for i, one in enumerate(arms.predictors) for other in arms.predictors[i + 1 :]]
    return {
        **_heading(read_json(run / "run.json"), suite, settings, seeds=settings.seeds),
        "real": _of_each(
            arms.predictors,
            lambda arm: resampling.real_comparisons(table, arm, metric, seeds=SEEDS_ON_A_SIDE[0], most=20),
        ),
        "resampled": [row for arm in arms.predictors for row in _same_arm(table, arm, metric, settings)],
        "exchanged": _exchanged(table, pairs, metric, settings.trials),
        "power": [row for arm in arms.predictors for row in resampling.power(table, arm, metric)],
    }


def _scores(run: Path, suite: Suite) -> tuple[FinishedArms, Scores]:
    """The arms of a run on the suite's first task, and their scores."""
    arms = load_arms(RunStore(run), suite, suite.tasks[0].name, read_json(run / "run.json")["data"])
    return arms, score_table_of(arms, read_table(run / "scores.parquet"))


def _heading(
    card: Mapping[str, Any], suite: Suite, settings: CalibrationSettings, *, seeds: int
) -> dict[str, Any]:
    return {
        "suite": {"id": suite.id, "data": suite.data, "kind": suite.kind, "metric": suite.primary_metric},
        "commit": card["commit"],
        "dirty": card["dirty"],
        "seeds": seeds,
        "trials": settings.trials,
    }


def _exchanged(
    table: Scores, pairs: Sequence[tuple[str, str]], metric: str, trials: int
) -> list[dict[str, Any]]:
    rows = [resampling.exchanged_comparisons(table, pair, metric, trials=trials) for pair in pairs]
    return [row for row in rows if row is not None]


def _of_each(arms: Sequence[str], measure: Callable[[str], dict[str, Any] | None]) -> list[dict[str, Any]]:
    return [row for arm in arms if (row := measure(arm)) is not None]


def _same_arm(table: Scores, arm: str, metric: str, settings: CalibrationSettings) -> list[dict[str, Any]]:
    rows = []
    for seeds in SEEDS_ON_A_SIDE:
        if 2 * seeds <= settings.seeds:
            rows += resampling.resampled_comparisons(table, arm, metric, seeds=seeds, trials=settings.trials)
    return rows


def _simulated(settings: CalibrationSettings, progress: Callable[[int, int], None]) -> dict[str, Any]:
    if not settings.simulation:
        return {"simulated": None}
    rows = simulation.simulate_all(trials=settings.trials, draws=settings.draws, progress=progress)
    return {"simulated": rows, "worst": _worst(rows)}


def _worst(rows: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    """The extremes over all settings with three seeds or more and without a true gain."""
    null = [row for row in [*rows["coverage"], *rows["choice"]] if row["setting"]["seeds"] >= 3]
    coverage = [row["coverage"]["value"] for row in null]
    return {
        "coverage_low": min(coverage),
        "coverage_high": max(coverage),
        "coverage_median": float(np.median(coverage)),
        "helped": max(row["helped"]["value"] for row in null),
        "hurt": max(row["hurt"]["value"] for row in null),
        "equivalent_at_margin": max(
            row["equivalent"]["value"]
            for row in rows["power"]
            if abs(row["setting"]["gain"]) == simulation.MARGIN and row["setting"]["blocks"] == 200
        ),
    }
