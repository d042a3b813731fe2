"""Rankings of a run under other choices, on errors whose order is known beforehand."""

import json

import numpy as np
import pandas as pd
import pytest

from st2llm.errors import ConfigError, DataError
from st2llm.evaluate.audit.ranking import audit_run


def _table(errors: np.ndarray, truth: np.ndarray, **columns: object) -> pd.DataFrame:
    """Windows of two steps at one place."""
    windows = len(errors)
    return pd.DataFrame(
        {
            "sample": np.repeat([f"town/{i:03d}" for i in range(windows)], 2),
            "place": "a",
            "step": np.tile([0, 1], windows),
            "channel": 0,
            "time": np.arange(2 * windows) * 3600,
            "value": (np.nan_to_num(truth) + errors).ravel(),
            "truth": truth.ravel(),
            "valid": np.isfinite(truth).ravel(),
            "unread": False,
        }
        | columns
    )


def _run(folder, tables):
    for name in ("arms", "predictions"):
        (folder / name).mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"suite": {"id": "town"}}))
    for key, table in tables.items():
        predictor, seed = key.rsplit("-", 1)
        arm = {"key": key, "predictor": predictor, "seed": int(seed), "task": "forecast-2-2"}
        (folder / "arms" / f"{key}.json").write_text(json.dumps(arm))
        table.to_parquet(folder / "predictions" / f"{key}.parquet")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """`steady` errs by 2; `early` by 1, but by 9 in the last 8 of 40 windows; `lucky` by 1 with one seed, by 5 else."""
    truth = np.random.default_rng(0).normal(50, 20, (40, 2))
    early = np.ones((40, 2))
    early[32:] = 9.0
    arms = {"steady-0": np.full((40, 2), 2.0), "early-0": early}
    arms |= {"lucky-0": np.full((40, 2), 5.0), "lucky-1": np.ones((40, 2))}
    tables = {key: _table(errors, truth) for key, errors in arms.items()}
    return _run(tmp_path_factory.mktemp("run") / "town", tables)


def test_each_choice_names_the_pairs_that_it_turns_round(run):
    (ranking,) = audit_run(run).rankings
    assert ranking.best == "steady"
    assert {name: round(row["mae"], 2) for name, row in ranking.metrics.items()} == {
        "steady": 2.0,
        "early": 2.6,
        "lucky": 3.0,
    }
    changes = {change.choice: change for change in ranking.changes}
    assert (changes["last batch dropped"].best, changes["last batch dropped"].turned) == ("early", 1)
    assert changes["last batch dropped"].tau == pytest.approx(1 / 3)
    assert (changes["best seed of each"].best, changes["best seed of each"].turned) == ("lucky", 2)
    assert changes["missing truth scored as zero"].tau == 1.0
    assert "another predictor leads under: last batch dropped" in ranking.sentence()


def test_several_runs_are_counted_and_written(run, tmp_path):
    audit = audit_run(run.parent)
    assert audit.sentences()[0].startswith("In 1 of 1 rankings")
    page = audit.write(tmp_path).read_text()
    assert "| early | 2.600 |" in page
    assert json.loads((tmp_path / "ranking.json").read_text())["mean_tau"]["zeros masked"] == 1.0


def test_an_arm_with_unread_answers_is_not_ranked(tmp_path):
    truth = np.full((40, 2), 5.0)
    tables = {f"{name}-0": _table(np.full((40, 2), 1.0 + i), truth) for i, name in enumerate("abc")}
    tables["c-0"].loc[0, ["value", "unread"]] = [np.nan, True]
    (ranking,) = audit_run(_run(tmp_path / "run", tables)).rankings
    assert ranking.left_out == ("c",)
    assert set(ranking.metrics) == {"a", "b"}


def test_folders_without_a_run_and_runs_that_cannot_be_ranked_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no run\.json"):
        audit_run(tmp_path)
    with pytest.raises(DataError, match="no finished arm"):
        audit_run(_run(tmp_path / "empty", {}))
    one = {"a-0": _table(np.ones((3, 2)), np.ones((3, 2)))}
    with pytest.raises(DataError, match="two are needed"):
        audit_run(_run(tmp_path / "one", one))
    labels = {f"{name}-0": _table(np.ones((3, 2)), np.ones((3, 2)), part="label") for name in "ab"}
    with pytest.raises(DataError, match="not of positions and labels"):
        audit_run(_run(tmp_path / "labels", labels))
