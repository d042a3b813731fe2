"""A whole curve in miniature: shares of training windows, what is run once, the answer, and going on."""

import json

import pandas as pd
import pytest
from support import tiny_suite
from support.command_line import run_cli
from support.tiny_suite import ENVIRONMENT, leftovers, records

from st2llm.errors import ConfigError, DataError
from st2llm.evaluate.curve import run
from st2llm.evaluate.curve.points import plan_curves
from st2llm.evaluate.curve.report import write_curve
from st2llm.evaluate.run.plan import Overrides

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def suite(tmp_path_factory, card, llama):
    """A rule, a ridge, a file, a native arm and a soft one, at two shares of 38 training windows."""
    home = tmp_path_factory.mktemp("curve")
    arms = [
        {"name": "none", "family": "primitive", "backbone": "none"},
        {"name": "llm-frozen", "family": "soft", "backbone": "llm-frozen"},
    ]
    content = tiny_suite.small(card, llm={"name": str(llama), "dtype": "fp32"}, seeds=[0, 1, 2])
    content |= {
        "id": "tiny-curve",
        "predictors": [*tiny_suite.rules(card)["predictors"], *arms],
        "curve": {"axis": "train.share", "values": [0.1, 0.5]},
    }
    return tiny_suite.write_suite(home / "suite.yaml", content)


@pytest.fixture(scope="module")
def finished(suite, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "curve"
    done = run_cli("curve", suite, "--out", out, **ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return out, done


def test_the_first_line_is_an_answer_with_interval_and_range(finished):
    out, done = finished
    first = (out / "report.md").read_text().splitlines()[0]
    assert first in done.stdout
    assert "train.share from 0.1 to 0.5" in first and "3 seeds" in first and "[" in first
    page = (out / "report.html").read_text()
    assert "<h1>" in page and page.count("<svg") == 1 and "http" not in page.partition("</style>")[2][:200]
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert leftovers(out) == []


def test_every_fitted_predictor_saw_its_share_and_the_smaller_is_among_the_larger(finished):
    out, _ = finished
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    seen = {(row["at"]["train.share"], row["predictor"]): row["train_windows"] for row in rows}
    assert {seen[0.1, name] for name in ("none", "llm-frozen", "hour-of-week")} == {4}
    assert {seen[0.5, name] for name in ("none", "llm-frozen", "hour-of-week")} == {19}
    trained = [
        row for row in records(out / "share-0.1") if row["predictor"] == "none" and row["seed"] is None
    ]
    assert trained[0]["training"]["epochs"] == pytest.approx((2 * 4 + 2 * 4) / 4)


def test_gains_between_points_are_those_of_the_scores(finished):
    out, _ = finished
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    of = {row["at"]["train.share"]: row for row in rows if row["predictor"] == "hour-of-week"}
    errors = []
    for share in (0.1, 0.5):
        table = pd.read_parquet(out / f"share-{share}" / "scores.parquet")
        own = table[(table["predictor"] == "hour-of-week") & (table["metric"] == "abs_error")]
        errors.append(own["sum"].sum() / own["count"].sum())
    assert of[0.1]["change"] is None
    assert of[0.5]["change"]["value"] == pytest.approx((errors[0] - errors[1]) / errors[0])


def test_a_curve_goes_on_where_it_ended(finished, suite):
    out, _ = finished
    lost = out / "share-0.5" / "arms" / "llm-frozen-1.json"
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/arms/*.json") if path != lost}
    lost.unlink()
    refused = run_cli("curve", suite, "--out", out, **ENVIRONMENT)
    assert refused.returncode == 1 and "already holds a run" in refused.stderr
    done = run_cli("curve", suite, "--out", out, "--resume", **ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert lost.exists() and {path: path.stat().st_mtime_ns for path in before} == before


def test_a_share_without_a_window_names_the_smallest_one(card, tmp_path):
    content = tiny_suite.small(card, curve={"axis": "train.share", "values": [0.001, 1]})
    path = tiny_suite.write_suite(tmp_path / "suite.yaml", content)
    done = run_cli("curve", path, "--out", tmp_path / "out", **ENVIRONMENT)
    assert done.returncode == 1 and "train.share 0.001 of 38 training windows is none" in done.stderr


def test_an_empty_folder_and_records_of_an_older_version(finished, suite, tmp_path):
    out, _ = finished
    (plan,) = plan_curves(suite, tmp_path / "empty", Overrides())
    with pytest.raises(DataError, match="There is no .*run.json"):
        write_curve(plan)
    (again,) = plan_curves(suite, out, Overrides())
    path = out / "share-0.1" / "results.jsonl"
    text = path.read_text()
    older = [json.loads(line) for line in text.splitlines()]
    for record in older:
        for key in ("train_windows", "training_state", "best_on_validation"):
            record.pop(key, None)
    path.write_text("".join(json.dumps(record) + "\n" for record in older))
    report = write_curve(again)
    assert {row.train_windows for row in report.rows if row.at["train.share"] == 0.1} == {None}
    path.write_text(text)


def test_points_whose_data_differ_are_refused(card, tmp_path, monkeypatch):
    (plan,) = plan_curves(
        tiny_suite.small(card, curve={"axis": "budget.steps", "values": [1, 2]}), tmp_path, Overrides()
    )
    monkeypatch.setattr(run, "read_record", lambda path: {"data_sha256": path.parent.name})
    with pytest.raises(ConfigError, match="has another data_sha256"):
        run._check_same_data(plan, plan.points[1])


def test_a_setting_of_the_task_is_an_axis_and_groups_are_compared_at_every_point(card, tmp_path):
    groups = {
        "of": ["ridge-deviation"],
        "over": ["last-value", "hour-of-week"],
        "label": "A ridge over rules",
    }
    content = tiny_suite.rules(card, groups=groups) | {
        "curve": {"axis": "task.forecast.missing", "values": [0, 0.5]}
    }
    (report,) = run.curve(content, out=tmp_path / "gaps", progress=False)
    assert {row.task for row in report.rows} == {
        "forecast-48-24",
        "forecast-48-24-missing-0.5-points",
    }
    compared = [row for row in report.rows if row.gain_group]
    assert [row.at["task.forecast.missing"] for row in compared] == [0, 0.5]
    assert all(row.predictor == "ridge-deviation" for row in compared)
    assert all(row.change is not None for row in report.rows if row.at["task.forecast.missing"] == 0.5)
    assert report.answers[0].startswith("A ridge over rules: better at ")
    assert "Gain of one group over the other" in report.page.read_text()
