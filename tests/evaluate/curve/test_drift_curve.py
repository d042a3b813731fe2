"""A curve over the strength of drift: native arms are trained once and predict as if trained for each strength."""

import json

import pandas as pd
import pytest
from support import tiny_suite
from support.command_line import run_cli
from support.tiny_suite import ENVIRONMENT

import st2llm

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(card, llama, tmp_path_factory):
    home = tmp_path_factory.mktemp("shift")
    content = tiny_suite.small(card, llm={"name": str(llama), "dtype": "fp32"}, seeds=[0, 1, 2])
    content["predictors"] += [{"name": "llm-frozen", "family": "soft", "backbone": "llm-frozen"}]
    path = tiny_suite.write_suite(home / "suite.yaml", content)
    done = run_cli(
        "shift", path, "--strength", "0", "1", "--kind", "level", "--out", home / "out", **ENVIRONMENT
    )
    assert done.returncode == 0, done.stderr
    return content, home / "out", done


def test_an_arm_is_trained_once_and_predicts_as_one_that_was_trained_for_the_drift(finished, tmp_path):
    content, out, _ = finished
    alone = st2llm.compare(
        {**content, "shift": {"test": {"level": 1.0}}}, out=tmp_path / "alone", progress=False
    )
    for key in ("none-0", "llm-frozen-2"):
        first, second = (
            json.loads((out / f"strength-{s}" / "arms" / f"{key}.json").read_text()) for s in ("0.0", "1.0")
        )
        assert (first["cost"]["train_s"] == second["cost"]["train_s"]) == (key == "none-0")
        tables = [
            pd.read_parquet(run / "predictions" / f"{key}.parquet")["value"]
            for run in (out / "strength-1.0", alone.path)
        ]
        pd.testing.assert_series_equal(*tables, rtol=1e-4, atol=1e-3)


def test_the_answer_says_what_each_predictor_keeps_and_records_tell_the_drift(finished):
    _, out, done = finished
    first = (out / "report.md").read_text().splitlines()[0]
    assert first.startswith("At shift.strength 1, gains over the same predictor without drift")
    assert first in done.stdout
    record = json.loads((out / "strength-1.0" / "results.jsonl").read_text().splitlines()[0])
    assert record["shift"]["test"] == {"level": 1.0} and record["shift"]["strength"] == 1.0
    page = (out / "strength-1.0" / "report.md").read_text()
    assert "level 1; training and validation windows have none" in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--strength", "0", "much"], "takes numbers"),
        (["--strength", "0", "1", "--kind", "levl"], "level"),
        (["--strength", "0", "1"], "shift.test"),
        (["--strength", "0", "--kind", "level"], "two or more different values"),
    ],
)
def test_words_that_are_no_drift_are_refused(card, tmp_path, words, message):
    path = tiny_suite.write_suite(tmp_path / "suite.yaml", tiny_suite.small(card))
    done = run_cli("shift", path, *words, "--out", tmp_path / "out", **ENVIRONMENT)
    assert done.returncode == 1 and message in done.stderr
    assert not (tmp_path / "out").exists()
