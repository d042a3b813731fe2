"""Whole comparisons of the kinds beside graphs: made-up files, real rules, a tiny language model, a report."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from support import tiny_suite

from st2llm.errors import ConfigError
from st2llm.evaluate.report.run_report import rescore
from st2llm.evaluate.run.compare import compare

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(5)


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """A folder of cards: people who walk, people who stay, events, and a raster."""
    folder = tmp_path_factory.mktemp("kinds")
    _walks(folder)
    _gaits(folder)
    _stays(folder)
    _events(folder)
    _raster(folder)
    return folder


def _card(folder, name, **card):
    (folder / f"{name}.yaml").write_text(
        yaml.safe_dump({"name": name, "timezone": "UTC", **card}, sort_keys=False)
    )


def _walks(folder):
    rows = []
    for who in range(12):
        start, speed = RNG.normal(0, 20, 2), RNG.normal(0, 1, 2)
        for step in range(40):
            x, y = start + speed * step + RNG.normal(0, 0.05, 2)
            rows.append((who, f"2024-01-01T10:{step:02d}:00", x, y))
    pd.DataFrame(rows, columns=["who", "at", "x", "y"]).to_csv(folder / "walks.csv", index=False)
    _card(
        folder, "walks", kind="trajectory", table="walks.csv", object="who", time="at", x="x", y="y", freq="1min",
        unit="m", split={"train": 0.5, "validation": 0.2, "test": 0.3, "by": "time"},
    )  # fmt: skip


def _gaits(folder):
    for gait, turn in (("bends", 0.5), ("straight", 0.0)):
        rows = []
        for who in range(10):
            angle = RNG.uniform(0, 6) + turn * np.arange(40)
            for step, (x, y) in enumerate(
                np.cumsum(np.stack([np.cos(angle), np.sin(angle)], axis=1), axis=0)
            ):
                rows.append((f"{gait}{who}", f"2024-01-01T10:{step:02d}:00", x, y))
        pd.DataFrame(rows, columns=["who", "at", "x", "y"]).to_csv(folder / f"{gait}.csv", index=False)
    _card(
        folder, "gaits", kind="trajectory", object="who", time="at", x="x", y="y", freq="1min", unit="m",
        table=[{"file": f"{gait}.csv", "label": gait} for gait in ("bends", "straight")],
        split={"train": 0.5, "validation": 0.2, "test": 0.3, "by": "time"},
    )  # fmt: skip


def _stays(folder):
    rows = []
    for who in range(3):
        for day in range(60):
            for hour, place in ((8, "home"), (12, f"work{who}"), (19, "home" if day % 3 else "gym")):
                rows.append((who, pd.Timestamp("2024-01-01") + pd.Timedelta(days=day, hours=hour), place))
    pd.DataFrame(rows, columns=["who", "at", "place"]).to_csv(folder / "stays.csv", index=False)
    _card(
        folder, "stays", kind="trajectory", table="stays.csv", object="who", time="at", place="place", freq="any",
        split={"train": 0.5, "validation": 0.2, "test": 0.3},
    )  # fmt: skip


def _events(folder):
    hours = np.cumsum(RNG.exponential(7, 1500))
    at = pd.Timestamp("2023-01-01") + pd.to_timedelta((hours * 3600).round(), unit="s")
    pd.DataFrame({"at": at, "size": RNG.normal(3, 1, len(at)).round(1)}).to_csv(
        folder / "events.csv", index=False
    )
    _card(
        folder, "events", kind="event", table="events.csv", time="at", magnitude="size",
        window=["2023-01-01T00:00:00", str(at.max().ceil("D"))], quantity="alarms",
        split={"train": 0.5, "validation": 0.1, "test": 0.4},
    )  # fmt: skip


def _raster(folder):
    hour = np.arange(24 * 70)
    wave = 50 + 20 * np.sin(2 * np.pi * hour / 24)[:, None, None] * np.linspace(0.5, 1.5, 6).reshape(2, 3)
    values = np.maximum(wave + RNG.normal(0, 3, wave.shape), 0).round(1)
    values[:, 0, 0] = np.nan  # land
    np.savez(folder / "raster.npz", values=values)
    _card(
        folder, "raster", kind="grid", values="raster.npz:values", dims=["time", "row", "col"], freq="1h",
        start="2024-01-01T00:00:00", unit="mm", split={"train": 0.5, "validation": 0.2, "test": 0.3, "align": "day"},
    )  # fmt: skip


def suite(town, name, kind, task, rules, *, llama=None, template=None, own=None, **changes):
    predictors = [{"name": rule, "family": "baseline"} for rule in rules]
    content = {"id": name, "version": 1, "kind": kind, "data": str(town / f"{name}.yaml"), "task": task}
    content |= {"bootstrap": {"draws": 100}, "split": {"stride": 1}} | changes
    if template:
        text = {"family": "text", "backbone": "llm-frozen", "template": template}
        predictors.append({"name": "text", **text, "set": {"windows": 4, **(own or {})}})
        content["llm"] = {"name": str(llama), "dtype": "fp32"}
    return tiny_suite.write_suite(town / f"{name}-suite.yaml", content | {"predictors": predictors})


def found(run):
    return {r["predictor"]: r for r in tiny_suite.records(run) if r["seed"] is None}


def same_again(run):
    """Rescored from its files, a run gives the same records."""
    before = tiny_suite.records(run)
    rescore(run)
    assert tiny_suite.records(run) == before


WALK = {"forecast": {"history": 5, "horizon": 3}}


def test_paths_are_compared_by_distance(town, llama, tmp_path):
    rules = ["last-position", "constant-velocity", "nearest-windows"]
    own = {"examples": {"select": "recent", "count": 1}}
    path = suite(
        town,
        "walks",
        "trajectory",
        WALK,
        rules,
        llama=llama,
        template="trajectory/forecast.examples",
        own=own,
    )
    compare(path, out=tmp_path / "run", progress=False)
    got = found(tmp_path / "run")
    assert set(got) == {*rules, "text"}
    assert set(got["constant-velocity"]["metrics"]) == {"ade_m", "fde_m"}
    error = {name: record["metrics"]["ade_m"]["value"] for name, record in got.items()}
    assert error["constant-velocity"] < 0.3 < error["last-position"]
    assert got["text"]["n"] == 4
    assert got["text"]["gain_best"]["vs"] in rules
    assert got["text"]["examples"] == {"by": "recent", "count": 1}
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    for words in ("ADE", "mean distance (m)", "east (m)", "1 example, the latest", "last position"):
        assert words in page, words
    assert "mean absolute error" not in page
    same_again(tmp_path / "run")


def test_places_are_compared_by_accuracy(town, llama, tmp_path):
    task = {"next-place": {"history": 10, "context_stays": 5}}
    rules = ["counts", "counts-all", "counts-transitions"]
    own = {"draws": 3, "temperature": 1.0}
    path = suite(
        town, "stays", "trajectory", task, rules, llama=llama, template="trajectory/next-place", own=own
    )
    report = compare(path, out=tmp_path / "run", progress=False)
    got = found(tmp_path / "run")
    assert set(got["counts"]["metrics"]) == {"acc@1", "acc@5", "acc@10", "mrr"}
    accuracy = {name: record["metrics"]["acc@1"]["value"] for name, record in got.items()}
    assert accuracy["counts-all"] > accuracy["counts"] > 0
    assert got["text"]["n"] == 12
    rows = [json.loads(line) for line in (tmp_path / "run/answers/text-0.jsonl").read_text().splitlines()]
    assert {row["category"] for row in rows} == {"readable"}
    assert all(row["ranking"] for row in rows)
    frame = pd.read_parquet(tmp_path / "run/predictions/counts-0.parquet")
    assert {"rank", "label", "answer"} <= set(frame)
    assert set(frame["label"]) <= {"home", "gym", "work0", "work1", "work2"}
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    for words in (
        "Acc@1",
        "A label is predicted",
        "the rank of the true label",
        "most visited place",
        "points",
    ):
        assert words in page, words
    headers = [str(column.header) for column in report.table().columns]
    assert {"Acc@1 (%) [95 %]", "train s"} <= set(headers), "in a pipe no column is left out"
    same_again(tmp_path / "run")


def test_classes_are_told_by_trained_arms_beside_rules(town, llama, tmp_path):
    arms = [
        {"name": "none", "family": "primitive", "backbone": "none"},
        {"name": "llm-lora", "family": "soft", "backbone": "llm-lora"},
    ]
    content = {
        "id": "gaits",
        "version": 1,
        "kind": "trajectory",
        "data": str(town / "gaits.yaml"),
        "task": {"classify": {"length": 6}},
        "split": {"stride": 6},
        "llm": {"name": str(llama), "dtype": "fp32"},
        "encoder": {"d_st": 16, "layers": 1},
        "budget": {"steps": 30, "batch": 16, "lr": [0.005]},
        "bootstrap": {"draws": 100},
        "predictors": [{"name": "majority", "family": "baseline"}, *arms],
    }
    path = tiny_suite.write_suite(town / "gaits-suite.yaml", content)
    compare(path, out=tmp_path / "run", progress=False)
    got = found(tmp_path / "run")
    accuracy = {name: record["metrics"]["acc@1"]["value"] for name, record in got.items()}
    assert accuracy["majority"] < 0.6
    assert accuracy["none"] == 1.0
    assert accuracy["llm-lora"] > 0.8
    assert got["llm-lora"]["gain_best"]["vs"] == "none"
    same_again(tmp_path / "run")


def test_events_are_compared_by_hours_with_density_and_draws(town, llama, tmp_path):
    rules = ["median-gap", "homogeneous-rate", "last-gap", "hour-of-week-rate", "recent-rate"]
    own = {"draws": 3, "temperature": 1.0}
    path = suite(
        town, "events", "event", {"next-event": {"history": 5}}, rules, llama=llama, template="event/next-event",
        own=own,
    )  # fmt: skip
    compare(path, out=tmp_path / "run", progress=False)
    got = found(tmp_path / "run")
    error = {name: record["metrics"]["mae"]["value"] for name, record in got.items()}
    assert error["homogeneous-rate"] < error["last-gap"]
    # Gaps are exponential with mean 7: 1 + ln 7 nats each is the least there is.
    assert got["homogeneous-rate"]["metrics"]["nll"]["value"] == pytest.approx(1 + np.log(7), abs=0.2)
    assert "nll" not in got["median-gap"]["metrics"]
    assert got["text"]["crps"] == {"estimator": "fair", "draws": 3.0}
    assert got["homogeneous-rate"]["metrics"]["mae"]["low"] is not None  # some forty weeks are blocks enough
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    for words in ("NLL", "nats", "hours", "fair estimator", "One step is predicted", "median gap"):
        assert words in page, words
    same_again(tmp_path / "run")


@pytest.mark.parametrize(
    ("task", "rules", "template"),
    [
        ({"forecast": {"history": 24, "horizon": 4}}, ["last-value", "yesterday", "ridge"], "grid/forecast"),
        ({"krige": {"length": 6}}, ["mean", "hour-of-week", "inverse-distance", "neighbours"], "grid/krige"),
        ({"impute": {"length": 12}}, ["last-value", "linear", "neighbours"], "grid/impute"),
    ],
    ids=["forecast", "krige", "impute"],
)
def test_rasters_are_forecast_and_filled(town, llama, tmp_path, task, rules, template):
    path = suite(
        town, "raster", "grid", task, rules, llama=llama, template=template, own={"windows": 2},
        split={"stride": 24}, windows={"places": 1},
    )  # fmt: skip
    compare(path, out=tmp_path / "run", progress=False)
    got = found(tmp_path / "run")
    assert set(got) == {*rules, "text"}
    assert got["text"]["n"] == 2
    for record in got.values():
        assert record["metrics"]["mae"]["value"] is not None, record["predictor"]
    for rule in rules:
        frame = pd.read_parquet(tmp_path / f"run/predictions/{rule}-0.parquet")
        assert not frame["unread"].any()
        assert "r0c0" not in set(frame.loc[frame["valid"], "place"])
    same_again(tmp_path / "run")


def test_data_of_another_kind_than_the_suites_are_refused(town, tmp_path):
    path = suite(town, "walks", "trajectory", WALK, ["last-position"])
    with pytest.raises(ConfigError, match="is a suite of kind trajectory, but .* is of kind event"):
        compare(path, data=str(town / "events.yaml"), out=tmp_path / "run", progress=False)


STAY_TASK = {"next-place": {"history": 6, "context_stays": 3, "target_time": True}}
HOURS = {"encoder": {"d_st": 16, "patch": 12}}
CONTROLS = {"predictors": ["none", "llm-random", "llm-frozen"], "windows": 24}
ARMS = [
    {"name": "none", "family": "primitive", "backbone": "none"},
    {"name": "llm-random", "family": "soft", "backbone": "llm-random"},
    {"name": "llm-frozen", "family": "soft", "backbone": "llm-frozen"},
]


@pytest.mark.parametrize(
    ("name", "kind", "task", "rules", "more"),
    [
        ("events", "event", {"next-event": {"history": 5, "asked": ["gap_h"]}}, ["median-gap"], {}),
        (
            "stays",
            "trajectory",
            {"next-place": {"history": 6, "context_stays": 3, "target_time": True}},
            ["counts"],
            {},
        ),
        ("walks", "trajectory", WALK, ["constant-velocity"], {}),
        (
            "raster",
            "grid",
            {"forecast": {"history": 24, "horizon": 2}},
            ["mean"],
            {"encoder": {"d_st": 16, "patch": 12}},
        ),
    ],
)
def test_every_kind_has_planted_controls(town, llama, tmp_path, name, kind, task, rules, more):
    # The search for the amount of an effect plants it in every window.
    stride = {"grid": 24, "event": 12, "trajectory": 4}[kind]
    more = {"encoder": {"d_st": 16, "layers": 1}, **more}
    content = {
        "id": f"{name}-controls", "version": 1, "kind": kind, "data": str(town / f"{name}.yaml"), "task": task,
        "split": {"stride": stride}, "llm": {"name": str(llama), "dtype": "fp32"}, "bootstrap": {"draws": 100},
        "predictors": [*({"name": rule, "family": "baseline"} for rule in rules), *ARMS],
        "budget": {"steps": 2, "batch": 4, "lr": [1e-3]}, "windows": {"select": "even", "count": 24},
        "validation": {"select": "even", "count": 8}, "controls": CONTROLS, **more,
    }  # fmt: skip
    path = tiny_suite.write_suite(tmp_path / "suite.yaml", content)
    compare(path, out=tmp_path / "run", progress=False)
    found = json.loads((tmp_path / "run" / "controls.json").read_text())
    assert set(found) == {"positive", "negative"}
    for control in found.values():
        assert {arm["predictor"] for arm in control["arms"]} >= {"none", "llm-random", "llm-frozen"}
        assert control["gain_best"] and control["gain_pretraining"]
    assert found["positive"]["train_note"] != found["positive"]["test_note"]
    assert "control" in (tmp_path / "run" / "report.md").read_text().lower()
