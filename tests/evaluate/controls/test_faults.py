"""Faults are planted into the test part alone, and found by residuals whose scale and threshold come from training."""

import json

import numpy as np
import pandas as pd
import pytest
from support import tiny_suite

from st2llm import metrics
from st2llm.config.suite import Suite
from st2llm.data import load_data
from st2llm.data.calendar import local_iso
from st2llm.data.windows.field import boundaries
from st2llm.errors import DataError
from st2llm.evaluate.controls.faults import KINDS, inject_faults, read_faults
from st2llm.evaluate.run.compare import compare
from st2llm.evaluate.scoring.tasks.anomaly import detected_by_kind
from st2llm.evaluate.scoring.totals import score, totals_by_sample


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    return load_data(str(tiny_suite.write_card(tmp_path_factory.mktemp("town") / "data")))


def test_faults_lie_in_the_test_part_and_nowhere_else(town):
    broken, faults = inject_faults(town, 20)
    changed = ~((broken.values == town.values) | (np.isnan(broken.values) & np.isnan(town.values)))[:, :, 0]
    begin = int(boundaries(town)[2])
    assert not changed[:begin].any()
    inside = np.zeros_like(changed)
    for fault in faults:
        assert fault.start >= begin
        assert not inside[fault.start : fault.stop, fault.node].any()
        inside[fault.start : fault.stop, fault.node] = True
    assert not (changed & ~inside).any()
    assert {fault.kind for fault in faults} == set(KINDS)
    again, same = inject_faults(town, 20)
    assert same == faults
    np.testing.assert_array_equal(again.values, broken.values)


@pytest.mark.slow
def test_too_many_faults_are_refused(town):
    with pytest.raises(DataError, match="do not fit"):
        inject_faults(town, 5000)


def found(suspicion, fault, samples=None):
    """A table of one place's readings, an hour each, as `add_anomaly_scores` returns it."""
    names = samples or ["a"] * len(suspicion)
    steps = [names[:i].count(name) for i, name in enumerate(names)]
    return pd.DataFrame(
        {
            "sample": names, "place": "p", "step": steps, "channel": 0, "time": np.arange(len(names)) * 3600,
            "value": 0.0, "truth": 1.0, "valid": True, "unread": False,
            "suspicion": np.asarray(suspicion, dtype=float), "fault": fault,
        }
    )  # fmt: skip


def test_events_are_counted_by_hand():
    suspicion, fault = np.zeros(20), np.full(20, "", dtype=object)
    suspicion[[3, 4, 10, 15]] = 5.0  # two alarms on faults, one on none
    fault[2:6], fault[10], fault[17:19] = "stuck", "spike", "zero"
    table = found(suspicion, fault)
    precision = recall = 2 / 3
    got = score(table, ("auprc", "event_f1", "f1"))
    assert got["event_f1"] == pytest.approx(2 * precision * recall / (precision + recall))
    assert got["f1"] == pytest.approx(
        2 * 3 / (4 + 7)
    )  # readings: three of four alarms, three of seven faulty
    assert detected_by_kind(table) == {"spike": 1.0, "stuck": 1.0, "zero": 0.0}


def test_a_run_ends_with_its_window_and_at_a_reading_that_is_not_known():
    fault = np.array(["stuck"] * 6, dtype=object)
    table = found([2, 2, 2, 0, 0, 0], fault, samples=["a"] * 3 + ["b"] * 3)
    totals = totals_by_sample(table).set_index(["sample", "metric"])
    assert totals.loc[("a", "fault"), ["sum", "count"]].tolist() == [1, 1]
    assert totals.loc[("b", "fault"), ["sum", "count"]].tolist() == [0, 1]
    assert totals.loc[("b", "alarm"), ["sum", "count"]].tolist() == [0, 0]
    gap = found([2, np.nan, 2, 0, 0, 0], fault)
    assert totals_by_sample(gap).set_index("metric").loc["fault", "count"] == 2


def test_without_an_alarm_event_f1_is_nothing_rather_than_unknown():
    fault = np.array(["", "spike", ""], dtype=object)
    assert score(found([0.1, 0.2, 0.3], fault), ("event_f1",)) == {"event_f1": 0.0}


def faulty(town_card, tmp_path, faults, **changes):
    names = ("last-value", "hour-of-week", "ridge-deviation", "mean")
    rules = [{"name": name, "family": "baseline"} for name in names]
    content = {
        "id": "faults", "version": 1, "kind": "graph", "data": str(town_card),
        "task": {"forecast": {"history": 24, "horizon": 24}}, "predictors": rules, "faults": faults,
        "bootstrap": {"draws": 100}, **changes,
    }  # fmt: skip
    return tiny_suite.write_suite(tmp_path / "faults.yaml", content)


@pytest.mark.slow
def test_a_suite_says_who_finds_faults_and_its_thresholds_never_saw_one(tmp_path):
    card = tiny_suite.write_card(tmp_path / "data")
    arm = {"name": "none", "family": "primitive", "backbone": "none"}
    path = faulty(card, tmp_path, {"planted": 25})
    suite = tiny_suite.yaml.safe_load(path.read_text())
    suite |= {
        "predictors": [*suite["predictors"], arm], "encoder": {"d_st": 8, "patch": 6, "layers": 1},
        "skip": "ridge", "budget": {"steps": 3, "batch": 4, "lr": [1e-3]},
    }  # fmt: skip
    report = compare(tiny_suite.write_suite(path, suite), out=tmp_path / "run", progress=False)
    rows = {row["predictor"]: row for row in report.records}
    auprc = {name: row["metrics"]["auprc"]["value"] for name, row in rows.items()}
    table = pd.concat(pd.read_parquet(p) for p in (tmp_path / "run" / "predictions").glob("hour-of-week*"))
    rate = float((table["fault"] != "").mean())
    assert auprc["hour-of-week"] > 5 * rate
    assert auprc["hour-of-week"] > auprc["mean"]
    assert rows["hour-of-week"]["found"]["spike"] == 1.0
    assert set(rows["none"]["found"]) == set(KINDS)
    assert 0 < rows["none"]["metrics"]["event_f1"]["value"] <= 1
    assert all(row["metrics"]["mae"]["value"] > 0 for row in rows.values())
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert len(run["faults"]) == 25
    assert set(run["faults"][0]) == {"place", "start", "end", "kind"}
    written = (tmp_path / "run" / "report.md").read_text()
    assert "25 injected into the test part" in written
    assert "AUPRC" in written and "event F1" in written
    # Faults lie in the test part alone: what was chosen on validation is what it was without them.
    clean = {k: v for k, v in suite.items() if k != "faults"}
    without = compare(
        tiny_suite.write_suite(tmp_path / "clean.yaml", clean), out=tmp_path / "clean", progress=False
    )
    assert {r["predictor"]: r["validation"] for r in without.records} == {
        name: row["validation"] for name, row in rows.items()
    }


@pytest.mark.slow
def test_by_kriging_every_reading_has_a_score_that_its_own_fault_does_not_hide(tmp_path):
    card = tiny_suite.write_card(tmp_path / "data")
    rules = [{"name": name, "family": "baseline"} for name in ("hour-of-week", "inverse-distance")]
    arm = {"name": "none", "family": "primitive", "backbone": "none"}
    path = faulty(
        card, tmp_path, {"planted": 25, "training_windows": 20},
        task={"krige": {"length": 48, "history": 24, "share": 0.34}}, split={"stride": 24},
        predictors=[*rules, arm], encoder={"d_st": 8, "patch": 24, "layers": 1, "center_on": "slot"},
        seeds=[0, 1], budget={"steps": 3, "batch": 4, "lr": [1e-3]},
    )  # fmt: skip
    report = compare(path, out=tmp_path / "run", progress=False)
    tables = {p.stem: pd.read_parquet(p) for p in (tmp_path / "run" / "predictions").glob("*.parquet")}
    town = load_data(str(card))
    asked = tables["none-0"]
    assert set(asked["place"].unique()) == set(town.places)
    assert asked["suspicion"].notna().all() and asked["valid"].all()
    assert asked.groupby("sample", observed=True)["step"].max().max() == 23
    zeros = asked[asked["fault"] == "zero"]
    assert len(zeros) and (zeros["truth"] == 0).all() and (zeros["value"] > 1).all()
    rows = {row["predictor"]: row for row in report.records if row["seed"] is None}
    assert rows["hour-of-week"]["found"]["spike"] == 1.0
    assert 0 < rows["none"]["metrics"]["auprc"]["value"] <= 1
    assert "each place is left out in turn" in (tmp_path / "run" / "report.md").read_text()


@pytest.mark.slow
def test_documented_faults_are_looked_for_as_planted_ones_are(tmp_path, town):
    broken, faults = inject_faults(town, 10)
    rows = pd.DataFrame(
        {
            "place": [town.places[f.node] for f in faults],
            "start": pd.to_datetime([town.time[f.start] for f in faults], unit="s"),
            "end": pd.to_datetime([town.time[f.stop - 1] for f in faults], unit="s"),
            "kind": [f.kind for f in faults],
        }
    )
    rows.to_csv(tmp_path / "faults.csv", index=False)
    assert read_faults(tmp_path / "faults.csv", broken, timezone="UTC") == faults
    card = tiny_suite.write_card(tmp_path / "data", timezone="Pacific/Auckland")
    card.write_text(card.read_text() + "stamps: UTC\n")
    path = faulty(card, tmp_path, {"documented": str(tmp_path / "faults.csv")})
    report = compare(path, out=tmp_path / "run", progress=False)
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["faults"][0]["start"] == local_iso(int(town.time[faults[0].start]), "Pacific/Auckland")
    # The readings themselves are sound here, so that nothing finds what is said of them.
    assert report.records[1]["metrics"]["auprc"]["value"] < 0.2
    assert "10 documented" in (tmp_path / "run" / "report.md").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("place,start\n", "needs the columns place, start and end, but has no end"),
        ("place,start,end\nnowhere,2024-01-01,2024-01-02\n", "row 2: no place 'nowhere'"),
        ("place,start,end\n{place},soon,2024-01-02\n", "'start' holds values that are not times"),
        (
            "place,start,end\n{place},2024-03-31 02:30,2024-04-01\n",
            "row 2: start .* is skipped or occurs twice",
        ),
        (
            "place,start,end\n{place},2024-01-01,2024-10-27 02:30\n",
            "row 2: end .* is skipped or occurs twice",
        ),
        ("place,start,end\n{place},2024-01-02,2024-01-01\n", "row 2: no reading of .* lies between"),
        ("place,start,end\n{place},2024-01-02,2024-01-02\n", "none of 1 faults lies in the test part"),
    ],
)
def test_a_table_of_faults_that_cannot_be_says_where(tmp_path, town, text, message):
    path = tmp_path / "faults.csv"
    path.write_text(text.format(place=town.places[0]))
    with pytest.raises(DataError, match=message):
        read_faults(path, town, timezone="Europe/Berlin")
    with pytest.raises(DataError, match="cannot be read"):
        read_faults(tmp_path / "missing.csv", town, timezone="UTC")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"faults": {}}, "takes `planted: COUNT` or `documented: FILE.csv`"),
        ({"kind": "grid"}, "readings of a sensor graph"),
        ({"primary_metric": "acc@1"}, "is not measured for .*, which has auprc, event_f1"),
        (
            {
                "llm": {"name": "x"},
                "predictors": [
                    {"name": "t", "family": "text", "backbone": "llm-frozen", "template": "graph/forecast"}
                ],
            },
            "as many more answers",
        ),
    ],
)
def test_a_suite_of_faults_is_checked_before_it_runs(changes, message):
    content = {
        "id": "f", "version": 1, "kind": "graph", "data": "d", "task": {"forecast": {"history": 24, "horizon": 24}},
        "predictors": [{"name": "last-value", "family": "baseline"}], "faults": {"planted": 5}, **changes,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        Suite.model_validate(content)


def test_event_f1_is_pooled_from_counts():
    totals = {"alarm": (2.0, 4), "fault": (3.0, 4)}
    assert metrics.metrics_from_totals(totals, ("event_f1",))["event_f1"] == pytest.approx(
        2 * 0.5 * 0.75 / 1.25
    )
