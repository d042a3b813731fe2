"""A whole ladder of two tiny models: rules are run once, a broken one goes on, and the report shows both."""

import json

import pytest
import yaml
from support import tiny_suite
from support.command_line import run_cli
from support.endpoint_server import KEY, serving
from support.tiny_suite import ENVIRONMENT, leftovers, records

from st2llm.errors import ArtefactError, ConfigError
from st2llm.evaluate.ladder import climb

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def suite(tmp_path_factory, tiny):
    """Rules, a native arm, a soft arm with its random twin, and a text arm."""
    home = tmp_path_factory.mktemp("ladder")
    card = tiny_suite.write_card(home / "data")
    arms = [
        {"name": "none", "family": "primitive", "backbone": "none"},
        {"name": "llm-random", "family": "soft", "backbone": "llm-random"},
        {"name": "llm-frozen", "family": "soft", "backbone": "llm-frozen"},
    ]
    content = tiny_suite.small(card, llm={"name": tiny(), "dtype": "fp32", "depth": 2})
    content |= {"id": "tiny-ladder", "predictors": [*tiny_suite.rules(card)["predictors"], *arms]}
    return tiny_suite.write_suite(home / "suite.yaml", content)


@pytest.fixture(scope="module")
def finished(suite, tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "ladder"
    done = run_cli("ladder", suite, "--llm", tiny(), tiny("qwen2", width=48), "--out", out, **ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return out, done


def test_rules_are_run_once_and_arms_of_a_model_for_each(finished):
    out, _ = finished
    first, second = sorted(
        (path.parent for path in out.glob("*/run.json")), key=lambda path: path.stat().st_mtime
    )
    took = [
        {path.stem: json.loads(path.read_text())["wall_s"] for path in (run / "arms").glob("*.json")}
        for run in (first, second)
    ]
    same = {key for key in took[0] if took[0][key] == took[1][key]}
    assert same == {"last-value-0", "hour-of-week-0", "ridge-deviation-0"}
    assert took[0].keys() == took[1].keys()
    encoders = [
        path.read_bytes() for run in (first, second) for path in (run / "encoder").glob("*0.safetensors")
    ]
    assert len(encoders) == 2 and encoders[0] == encoders[1]


def test_the_report_has_a_point_for_each_model_and_the_needs_of_a_larger_one(finished):
    out, done = finished
    rows = [json.loads(line) for line in (out / "ladder.jsonl").read_text().splitlines()]
    assert [row["predictor"] for row in rows] == ["llm-frozen"] * 2
    assert rows[0]["params"] < rows[1]["params"]
    for row, run in zip(
        rows, sorted(out.glob("*/run.json"), key=lambda path: path.stat().st_mtime), strict=True
    ):
        (record,) = (r for r in records(run.parent) if r["seed"] is None and r["predictor"] == "llm-frozen")
        assert row["gain_best"]["value"] == record["gain_best"]["value"]
        assert row["gain_pretraining"]["vs"] == "llm-random"
    page = (out / "ladder.md").read_text()
    assert "An estimate from a fit through 2 sizes" in page
    assert "7 billion parameters, llm-frozen on forecast-48-24: about" in done.stdout
    assert (out / "ladder.svg").read_text().count("<svg") == 1
    assert (out / "ladder.png").read_bytes().startswith(b"\x89PNG")
    assert leftovers(out) == []


def test_a_ladder_goes_on_where_it_ended(finished, suite, tiny):
    out, _ = finished
    lost = sorted(out.glob("*/arms/llm-frozen-1.json"))[-1]
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/arms/*.json") if path != lost}
    lost.unlink()
    names = ("--llm", tiny(), tiny("qwen2", width=48))
    refused = run_cli("ladder", suite, *names, "--out", out, **ENVIRONMENT)
    assert refused.returncode == 1 and "already holds a run" in refused.stderr
    done = run_cli("ladder", suite, *names, "--out", out, "--resume", **ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert lost.exists()
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_rungs_whose_data_differ_are_refused(finished, monkeypatch):
    out, _ = finished
    runs = sorted(path.parent for path in out.glob("*/run.json"))
    record = json.loads((runs[1] / "run.json").read_text())
    monkeypatch.setattr(climb, "read_record", lambda path: {**record, "data_sha256": path.parent.name})
    first, second = (climb.Rung("a", None, run) for run in runs)
    with pytest.raises(ConfigError, match="has another data_sha256 than .* cannot be compared"):
        climb._check_same_data(first, second)


def test_a_server_joins_with_the_text_arm(suite, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("ST2LLM_OPENAI_KEY", KEY)
    content = yaml.safe_load(suite.read_text())
    text = {"name": "text", "family": "text", "backbone": "llm-frozen", "template": "graph/forecast"}
    text |= {"set": {"windows": 2, "validation_windows": 1}}
    content |= {"predictors": [*content["predictors"][:3], text], "llm": {"name": tiny(), "dtype": "fp32"}}
    content |= {
        "windows": {"select": "even", "count": 2, "places": 1},
        "task": {"forecast": {"history": 3, "horizon": 1}},
    }
    with serving(tiny()) as server:
        server.plan()
        names = [tiny(), f"openai:{server.url}/v1#tiny"]
        report = climb.ladder(content, names, out=tmp_path / "out", progress=False)
    assert [(row.llm, row.predictor, row.trained) for row in report.rows] == [
        (name, "text", False) for name in names
    ]
    assert report.rows[0].params and report.rows[1].params is None
    assert all(row.error is not None for row in report.rows)


def test_a_model_that_cannot_be_had_ends_the_ladder_before_its_first_arm(suite, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("ST2LLM_OFFLINE", "1")
    with pytest.raises(ArtefactError, match="nobody/nothing"):
        climb.ladder(suite, [tiny(), "nobody/nothing"], out=tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()
