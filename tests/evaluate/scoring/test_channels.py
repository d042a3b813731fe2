"""Channels of different units: metrics of each, pooled ones in spreads of training, and what suites may ask for."""

from dataclasses import replace

import numpy as np
import pytest
from support import weather

from st2llm import tasks
from st2llm.config.suite import Suite
from st2llm.data.windows import split
from st2llm.errors import ConfigError
from st2llm.evaluate.scoring.channels import (
    ChannelScale,
    ChannelScales,
    channel_scales,
    selection_metric,
    with_primary_metric,
)
from st2llm.evaluate.scoring.errors import entry_errors
from st2llm.evaluate.scoring.score_table import build_score_table
from st2llm.evaluate.scoring.totals import score, totals_by_sample
from st2llm.metrics import SCALED_METRICS, is_higher_better, with_channels
from st2llm.types import Events, Prediction, SplitPlan

TASK = tasks.forecast(4, 2)
OFFSETS = np.array([1.0, 5.0])
SCALES = ChannelScales(
    (ChannelScale("temperature", "degrees Celsius", 2.0), ChannelScale("humidity", "%", 10.0))
)
SAME = ChannelScales((ChannelScale("inflow", "cars", 2.0), ChannelScale("outflow", "cars", 10.0)))
NAMES = with_channels(("mae", "rmse", "wape", "r2", "mape", "crps", "cover90"), SCALES.names)


@pytest.fixture(scope="module")
def splits():
    return split(weather.stations(), TASK)


@pytest.fixture(scope="module")
def table(splits):
    """Every temperature is 1 degree too high, every humidity 5 % too high."""
    samples = splits.test[:3]
    return build_score_table(samples, [Prediction(np.asarray(sample.truth) + OFFSETS) for sample in samples])


def test_each_channel_is_measured_in_its_own_unit_and_all_are_pooled_in_spreads(table):
    found = score(table, NAMES, SCALES)
    assert found["mae[temperature]"] == pytest.approx(1.0)
    assert found["mae[humidity]"] == pytest.approx(5.0)
    assert found["rmse[humidity]"] == pytest.approx(5.0)
    assert found["mae_scaled"] == pytest.approx((1 / 2 + 5 / 10) / 2)
    assert found["rmse_scaled"] == pytest.approx(np.sqrt((0.5**2 + 0.5**2) / 2))
    assert not {"mae", "rmse", "wape", "r2", "mape"} & set(found)


def test_channels_of_one_unit_are_pooled_as_they_are(table):
    found = score(table, NAMES, SAME)
    assert found["mae"] == pytest.approx(3.0)
    assert score(table, ("mae[inflow]", "mae[outflow]"), SAME) == pytest.approx(
        {"mae[inflow]": 1.0, "mae[outflow]": 5.0}
    )


def test_totals_by_sample_give_the_same_metrics_as_the_table(table):
    totals = totals_by_sample(table, SCALES)
    assert "abs_error" not in set(totals["metric"])
    rows = totals[totals["metric"] == "scaled_abs_error"]
    assert rows["sum"].sum() / rows["count"].sum() == pytest.approx(0.5)
    assert set(rows["sample"]) == set(table["sample"].astype(str))


def test_draws_are_scored_by_channel_and_scaled(splits):
    sample = splits.test[0]
    truth = np.asarray(sample.truth)
    draws = np.stack([truth + OFFSETS, truth + 3 * OFFSETS])
    found = score(build_score_table([sample], [Prediction(draws[0], samples=draws)]), NAMES, SCALES)
    assert found["crps[temperature]"] == pytest.approx(
        1.0
    )  # mean error 2, less half the distance of both draws
    assert found["crps[humidity]"] == pytest.approx(5.0)
    assert found["crps_scaled"] == pytest.approx(0.5)


def test_errors_of_figures_are_in_spreads_where_units_differ(table):
    assert entry_errors(table.assign(part="value"), SCALES)["error"].to_numpy() == pytest.approx(0.5)
    assert sorted(set(entry_errors(table.assign(part="value"), SAME)["error"].round(6))) == [1.0, 5.0]


def test_the_spread_is_that_of_the_training_part(splits):
    data = weather.stations()
    found = channel_scales(data, splits.train)
    assert [c.spread for c in found.channels] == pytest.approx(data.values[:120].std(axis=(0, 1)).tolist())
    assert ChannelScales.from_json(found.to_json()) == found
    changed = replace(data, values=np.where(np.arange(200)[:, None, None] < 120, data.values, 1e6))
    assert channel_scales(changed, splits.train) == found


def test_one_channel_needs_no_scale(splits):
    data = weather.stations()
    alone = replace(
        data, values=data.values[..., :1], channels=("temperature",), channel_details=(weather.TEMPERATURE,)
    )
    assert channel_scales(alone, split(alone, TASK).train) == ChannelScales()
    assert ChannelScales().to_json() == {}


def test_hours_and_magnitudes_of_events_are_not_pooled():
    count = 60
    time = weather.FIRST + 3600 * np.arange(count, dtype=np.int64) ** 2 // 10
    events = Events(
        name="quakes",
        timezone="UTC",
        time=time,
        window=(int(time[0]), int(time[-1])),
        magnitude=np.linspace(1.0, 5.0, count),
        split=SplitPlan(0.6, 0.2, 0.2),
    )
    found = channel_scales(events, split(events, tasks.next_event(3, ("gap_h", "magnitude"))).train)
    assert found.targets.names == ("gap_h", "magnitude")
    assert found.targets.several_units
    assert channel_scales(events, split(events, tasks.next_event(3)).train) == ChannelScales()


def suite(**changes) -> Suite:
    return Suite.model_validate(
        {
            "id": "weather",
            "version": 1,
            "kind": "graph",
            "data": "stations",
            "task": {"forecast": {"history": 4, "horizon": 2}},
            "predictors": [{"name": "last-value", "family": "baseline"}],
            **changes,
        }
    )


def test_a_suite_that_sets_no_metric_is_about_scaled_errors_where_units_differ():
    assert with_primary_metric(suite(), SCALES).primary_metric == "mae_scaled"
    assert with_primary_metric(suite(), SAME).primary_metric == "mae"
    assert with_primary_metric(suite(), ChannelScales()).primary_metric == "mae"
    assert selection_metric(suite(faults={"planted": 5}), SCALES) == "mae_scaled"


@pytest.mark.parametrize("metric", [*SCALED_METRICS[:2], "mae[humidity]", "r2[temperature]"])
def test_a_scaled_metric_and_one_of_a_channel_are_allowed(metric):
    assert with_primary_metric(suite(primary_metric=metric), SCALES).primary_metric == metric
    assert is_higher_better(metric) is metric.startswith("r2")


@pytest.mark.parametrize(
    ("metric", "scales", "message"),
    [
        ("mae", SCALES, r"would pool .* temperature \(degrees Celsius\), humidity \(%\)\. Take 'mae_scaled'"),
        ("wape", SCALES, r"one channel \('wape\[temperature\]'\)"),
        (
            "mae[rain]",
            SCALES,
            "names the channel 'rain', but the channels to predict are temperature, humidity",
        ),
        ("mae_scaled", ChannelScales(), "has one to predict. Take 'mae'"),
    ],
)
def test_a_metric_that_pools_units_is_refused(metric, scales, message):
    with pytest.raises(ConfigError, match=message):
        with_primary_metric(suite(primary_metric=metric), scales)
