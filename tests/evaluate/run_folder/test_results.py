from dataclasses import replace

import pytest
from support import fake_run

from st2llm.errors import DataError
from st2llm.evaluate.run_folder.record import finite_number
from st2llm.evaluate.run_folder.results import read_answers, read_results


@pytest.fixture
def run(tmp_path):
    return fake_run.write(tmp_path / "run")


def test_every_predictor_is_pooled_once_and_the_best_comes_first(run):
    rows = read_results(run).pooled("forecast-168-24")
    assert [row.predictor for row in rows][:2] == ["ridge-deviation", "matched"]
    assert len(rows) == len(fake_run.ARMS)
    assert all(row.seed is None for row in rows)


def test_a_higher_score_comes_first_where_higher_is_better(tmp_path):
    run = fake_run.write(tmp_path, fake_run.Plan(higher_is_better=True))
    assert read_results(run).pooled("forecast-168-24")[0].predictor == "last-value"


def test_roles_tell_pretrained_weights_from_random_ones(run):
    roles = {row.predictor: row.role for row in read_results(run).records}
    assert (roles["llm-lora"], roles["llm-random"], roles["text"]) == ("soft", "random", "text")
    assert (roles["ridge"], roles["matched"]) == ("baseline", "primitive")
    assert {row.predictor for row in read_results(run).records if row.pretrained} == {
        "llm-frozen",
        "llm-lora",
        "text",
    }


def test_files_of_a_predictor_are_not_those_of_one_whose_name_it_begins(tmp_path):
    run = fake_run.write(
        tmp_path, fake_run.Plan(seeds=(0, 1), tasks=("forecast-12-3", "forecast-12-6"), days=20)
    )
    found = read_results(run)
    assert [p.name for p in found.files("predictions", "ridge", "forecast-12-3", suffix=".parquet")] == [
        "ridge-0.parquet",
        "ridge-1.parquet",
    ]
    assert [p.name for p in found.files("predictions", "ridge", "forecast-12-6", suffix=".parquet")] == [
        "ridge-0.forecast-12-6.parquet",
        "ridge-1.forecast-12-6.parquet",
    ]


def test_windows_are_counted_from_the_scores(run):
    windows = read_results(run).windows
    assert windows["forecast-168-24", "text"] == 10
    assert windows["forecast-168-24", "ridge"] == 40


def test_a_folder_that_is_no_run_is_refused_with_what_to_give(tmp_path):
    with pytest.raises(DataError, match=r"There is no .*run\.json.*compare --out"):
        read_results(tmp_path)


def test_a_torn_results_file_is_refused(run):
    (run / "results.jsonl").write_text('{"predictor": "ri')
    with pytest.raises(DataError, match="not JSON"):
        read_results(run)


def test_an_empty_results_file_is_refused(run):
    (run / "results.jsonl").write_text("")
    with pytest.raises(DataError, match="no record yet"):
        read_results(run)


def test_an_answer_may_hold_any_line_separator(run):
    path = run / "answers" / "strange-0.jsonl"
    path.write_text('{"sample": "s0", "place": "p", "answer": "1\u2028\x85 2"}\n', encoding="utf-8")
    assert list(read_answers([path])["answer"]) == ["1\u2028\x85 2"]


@pytest.mark.parametrize("value", [None, True, "3", float("nan"), float("inf")])
def test_what_is_no_finite_number_is_none(value):
    assert finite_number(value) is None


def test_a_text_arm_with_random_weights_is_not_pretrained(run):
    path = run / "results.jsonl"
    path.write_text(
        path.read_text().replace(
            '"family": "text", "backbone": "llm-frozen"', '"family": "text", "backbone": "llm-random"'
        )
    )
    (text,) = (row for row in read_results(run).pooled("forecast-168-24") if row.predictor == "text")
    assert (text.role, text.pretrained) == ("random", False)


@pytest.mark.parametrize(
    ("asked", "unit"),
    [
        (["gap_h"], "hours"),
        (["magnitude"], ""),
        (["x", "y"], "metres"),
        (["gap_h", "x"], ""),
        (["gap_h", "mark"], "hours"),
    ],
)
def test_an_error_of_events_has_the_unit_of_what_is_asked(run, asked, unit):
    """Caught: errors of logarithms of hours that were printed as hours."""
    results = read_results(run)
    card = results.run | {
        "suite": results.run["suite"] | {"kind": "event"},
        "data": {"unit": "hours"},
        "config": {"task": {"next-event": {"history": 8, "asked": asked}}},
    }
    assert replace(results, run=card).unit_of("mae") == unit
