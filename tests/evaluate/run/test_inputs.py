"""Comparisons on channels of different units."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import tiny_suite, weather

from st2llm.errors import ConfigError
from st2llm.evaluate.report.run_report import rescore
from st2llm.evaluate.run.compare import compare

pytestmark = pytest.mark.slow


def _weather_suite(folder: Path, card: Path, **changes) -> Path:
    rules = [{"name": name, "family": "baseline"} for name in ("last-value", "ridge")]
    content = {
        "id": "weather",
        "version": 1,
        "kind": "graph",
        "data": str(card),
        "task": {"forecast": {"history": 12, "horizon": 6}},
        "predictors": rules,
        **changes,
    }
    return tiny_suite.write_suite(folder / "weather.yaml", content)


def test_channels_of_different_units_are_scored_by_channel_and_pooled_in_spreads(tmp_path):
    suite, out = _weather_suite(tmp_path, weather.write_card(tmp_path)), tmp_path / "out"
    report = compare(suite, out=out, progress=False)
    for record in report.results:
        assert not {"mae", "rmse", "wape"} & set(record.metrics)
        assert {"mae_scaled", "mae[temperature]", "mae[humidity]"} <= set(record.metrics)
    spread = {c["name"]: c["spread"] for c in json.loads((out / "run.json").read_text())["data"]["channels"]}
    table = pd.read_parquet(out / "predictions" / "ridge-0.parquet")
    error = (table["value"] - table["truth"]).abs()
    by_channel = error.groupby(table["channel"]).mean()
    found = {r.predictor: r.metrics for r in report.results if r.seed is None}["ridge"]
    assert found["mae[temperature]"].value == pytest.approx(by_channel[0])
    assert found["mae[humidity]"].value == pytest.approx(by_channel[1])
    scaled = np.mean([by_channel[0] / spread["temperature"], by_channel[1] / spread["humidity"]])
    assert found["mae_scaled"].value == pytest.approx(scaled)
    page = (out / "report.md").read_text()
    assert "scaled MAE (SD)" in page and "MAE of humidity (%)" in page
    assert "MAE of temperature (degrees Celsius)" in page
    assert [r.metrics["mae_scaled"].value for r in rescore(out).results] == [
        r.metrics["mae_scaled"].value for r in report.results
    ]


def test_a_covariate_is_not_scored_and_the_metric_has_the_unit_of_the_target(tmp_path):
    card = weather.write_card(tmp_path, channels=weather.channel_keys(role="covariate", known=True))
    report = compare(_weather_suite(tmp_path, card), out=tmp_path / "out", progress=False)
    assert all("mae" in r.metrics and "mae_scaled" not in r.metrics for r in report.results)
    assert "MAE (degrees Celsius)" in (tmp_path / "out" / "report.md").read_text()
    assert set(pd.read_parquet(tmp_path / "out" / "predictions" / "ridge-0.parquet")["channel"]) == {0}


def test_a_suite_that_would_pool_units_is_refused_before_anything_runs(tmp_path):
    suite = _weather_suite(tmp_path, weather.write_card(tmp_path), primary_metric="mae")
    with pytest.raises(ConfigError, match="would pool channels of different units"):
        compare(suite, out=tmp_path / "out", progress=False)
    assert not list((tmp_path / "out").glob("arms/*"))
