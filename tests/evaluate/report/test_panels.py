from dataclasses import replace

import pytest
from support import fake_run

from st2llm.evaluate.report import panels
from st2llm.evaluate.report.verdict import compute_verdict
from st2llm.evaluate.run_folder.results import read_results
from st2llm.evaluate.scoring.errors import mean_errors

TASK = "forecast-168-24"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    plan = fake_run.Plan(days=12, arms=fake_run.FEW_ARMS)
    return read_results(fake_run.write(tmp_path_factory.mktemp("run"), plan))


def test_every_gain_of_a_pretrained_arm_has_a_line_and_no_other_arm_has_one(run):
    svg = panels.gains(run.pooled(TASK), relative=True, name="g")
    assert "llm-lora vs best other" in svg
    assert "llm-lora vs random LLM" in svg
    assert "text vs best other" in svg
    assert "last-value" not in svg


def test_a_run_without_gains_has_no_figure_of_them(run):
    bare = [replace(row, gain_best=None, gain_pretraining=None) for row in run.pooled(TASK)]
    assert panels.gains(bare, relative=True, name="g") == ""


def test_each_trained_arm_has_a_curve_with_its_chosen_rate(run):
    shown = {panel.title: panel for panel in panels.curves(run, run.pooled(TASK), TASK, name="l")}
    assert set(shown) == {"llm-random", "llm-lora"}
    assert shown["llm-lora"].note == "learning rate 0.001"
    assert "not converged" in shown["llm-lora"].svg
    assert "not converged" not in shown["llm-random"].svg


def test_an_arm_without_times_is_not_in_the_cost_figure(run):
    rows = [replace(row, cost={}) if row.predictor == "text" else row for row in run.pooled(TASK)]
    svg = panels.cost(run, rows, name="c")
    assert ">llm-lora<" in svg
    assert ">text<" not in svg


def test_places_are_listed_by_error_beside_the_reference(run):
    errors = {
        name: found
        for name in ("llm-lora", "ridge-deviation")
        if (found := mean_errors(run.files("predictions", name, TASK, suffix=".parquet")))
    }
    svg, listed = panels.place_map(run, errors, compute_verdict(run, TASK), run.pooled(TASK))
    assert svg.startswith("<svg")
    assert len(listed) == len(fake_run.LABELS)
    own = [float(row[1].replace(",", "")) for row in listed]
    assert own == sorted(own, reverse=True)
    assert all(
        row[3] == ("better" if float(row[1]) < float(row[2]) else "worse")
        for row in listed
        if row[1] != row[2]
    )


def test_places_without_coordinates_are_listed_but_not_drawn(run):
    places = [{**place, "lon": None, "lat": None} for place in run.data["places"]]
    bare = replace(run, run={**run.run, "data": {**run.data, "places": places}})
    found = mean_errors(bare.files("predictions", "llm-lora", TASK, suffix=".parquet"))
    assert found is not None
    svg, listed = panels.place_map(bare, {"llm-lora": found}, compute_verdict(bare, TASK), bare.pooled(TASK))
    assert svg == ""
    assert len(listed) == len(fake_run.LABELS)


def test_the_day_of_an_example_is_told_in_the_places_own_time_zone(run):
    shown = panels.examples(run, run.pooled(TASK), compute_verdict(run, TASK), TASK)
    assert shown[-1].title == "45 Queen Street, Mon 03 Jun 2024"
    assert ">00h<" in shown[-1].svg
