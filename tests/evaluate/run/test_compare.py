"""Whole comparisons through the command line: finished, killed, out of space, resumed, refused."""

import errno
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from support import tiny_suite
from support.command_line import ST2LLM, run_cli
from support.tiny_suite import ENVIRONMENT, assert_same_numbers, leftovers, records

from st2llm.errors import ConfigError, DataError
from st2llm.evaluate.report.run_report import load_report, rescore
from st2llm.evaluate.run.compare import compare
from st2llm.files import exclusive

pytestmark = pytest.mark.slow

FILES = (
    "run.json",
    "results.jsonl",
    "scores.parquet",
    "curves.jsonl",
    "controls.json",
    "report.md",
    "report.html",
)


def _is_one_message(done):
    said = [line for line in done.stderr.splitlines() if not line.startswith("arm ")]
    return done.returncode == 1 and len(said) == 1 and said[0].startswith("error: ")


# A finished run.


def test_a_run_leaves_every_promised_file_and_no_other_traces(finished):
    assert all((finished / name).is_file() for name in FILES)
    keys = {path.stem for path in (finished / "arms").glob("*.json")}
    assert {path.stem for path in (finished / "predictions").glob("*.parquet")} == keys
    assert len(keys) == 3 + 6 * 2 + 1
    assert leftovers(finished) == []


def test_scores_and_predictions_have_the_promised_columns(finished):
    scores = pd.read_parquet(finished / "scores.parquet")
    assert {"predictor", "seed", "sample", "block", "metric", "sum", "count"} <= set(scores)
    promised = {"sample", "place", "step", "channel", "time", "value", "truth", "valid", "unread"}
    promised |= {"q05", "q50", "q95"}
    for path in (finished / "predictions").glob("*.parquet"):
        assert promised <= set(pd.read_parquet(path)), path.name


def test_records_are_pooled_and_by_seed_and_count_every_answer(finished):
    found = {(r["predictor"], r["seed"]): r for r in records(finished)}
    assert len(found) == (3 + 1) * 2 + 6 * 3
    windows, places = tiny_suite.TEST_DAYS, len(tiny_suite.PLACES)
    assert found["last-value", None]["n"] == windows * places
    assert found["llm-lora", None]["n"] == 2 * windows * places
    assert found["llm-lora", 1]["n"] == windows * places
    assert (found["text", None]["n"], found["text", None]["unread"]) == (3 * places, 0)


def test_gains_are_over_common_windows_and_few_of_them_have_no_interval(finished):
    found = {(r["predictor"], r["seed"]): r for r in records(finished)}
    lora, text = found["llm-lora", None], found["text", None]
    assert lora["gain_best"]["n_blocks"] == tiny_suite.TEST_DAYS
    assert lora["gain_best"]["low"] is not None
    assert lora["gain_pretraining"]["vs"] == "random-lora"
    assert found["llm-frozen", None]["gain_pretraining"]["vs"] == "llm-random"
    assert (text["gain_best"]["n_blocks"], text["gain_best"]["low"]) == (3, None)
    best = min((r for r in found.values() if r["validation"] is not None), key=lambda r: r["validation"])
    assert lora["gain_best"]["vs"] == best["predictor"]


def test_the_run_card_names_model_and_encoders(finished):
    card = json.loads((finished / "run.json").read_text())
    assert card["llm"]["depth"] == 2
    assert set(card["encoder_sha256"]) == {"0", "1"}
    assert card["seconds"] > 0


def test_both_controls_are_judged_with_both_gains(finished):
    found = json.loads((finished / "controls.json").read_text())
    assert set(found) == {"positive", "negative"}
    for name, control in found.items():
        assert control["llm_arm"] == "llm-frozen"
        assert control["gain_pretraining"]["vs"] == "llm-random"
        assert control["outcome"] in ("passed", "failed", "vacuous", "unresolved")
        assert control["passed"] == (control["outcome"] == "passed")
        assert control["strength"] == {"positive": 0.3, "negative": 0.0}[name]
        assert control["seeds"] == [0, 1]
        assert control["moved"] >= 0
    assert found["positive"]["learned"] is None
    assert found["negative"]["learned"] <= 1.5


def test_a_control_starts_from_the_encoders_of_the_suite(finished):
    encoders = [
        load_file(folder / "encoder" / "warm-1.safetensors")
        for folder in (finished, finished / "controls/negative")
    ]
    own, lent = ({n: t for n, t in state.items() if not n.endswith("notes.weight")} for state in encoders)
    assert own.keys() == lent.keys()
    assert all(torch.equal(own[name], lent[name]) for name in own)


def test_both_controls_have_notes_of_training_and_of_test(finished):
    found = json.loads((finished / "controls.json").read_text())
    assert found["positive"]["train_note"] != found["positive"]["test_note"]


def test_the_command_prints_table_verdict_and_where_the_report_is(finished):
    said = (finished.parent / "stdout.txt").read_text()
    assert "too few blocks: 3 of 20" in said
    assert "llm-lora" in said
    assert str(finished / "report.html") in said.replace("\n", "")
    progress = (finished.parent / "stderr.txt").read_text().splitlines()
    arms = len(list(finished.glob("**/arms/*.json")))
    assert len(progress) >= arms
    assert progress[-1].startswith(f"arm {arms} of {arms}: text; about ")
    assert all(line.endswith((" left for all", "time left not known yet")) for line in progress)
    assert "of processor time on" in said


def test_reporting_and_scoring_again_change_no_byte_of_the_results(finished):
    names = ("results.jsonl", "scores.parquet", "controls.json", "report.md")
    before = {name: (finished / name).read_bytes() for name in names}
    for options in ([], ["--rescore"]):
        done = run_cli("report", finished, *options)
        assert done.returncode == 0, done.stderr
        assert {name: (finished / name).read_bytes() for name in names} == before
        assert str(finished / "report.html") in done.stdout.replace("\n", "")
    rescore(finished)
    assert {name: (finished / name).read_bytes() for name in names} == before


def test_a_report_holds_records_scores_gains_and_a_verdict(finished):
    report = load_report(finished)
    assert report.records == records(finished)
    assert report.gains["forecast-48-24/llm-lora"]["pretraining"]["vs"] == "random-lora"
    assert set(report.gains) == {f"forecast-48-24/{name}" for name in ("llm-frozen", "llm-lora", "text")}
    assert "2 layers" in report.verdict
    assert report.save() == finished / "report.html"


# Killed, and resumed.


@pytest.fixture(scope="module")
def small_suite(card, tmp_path_factory):
    """The file of a suite of rules and one trained arm."""
    return tiny_suite.write_suite(tmp_path_factory.mktemp("small") / "small.yaml", tiny_suite.small(card))


@pytest.fixture(scope="module")
def small_run(small_suite, tmp_path_factory):
    """Its run folder, made without interruption. Only to be read."""
    out = tmp_path_factory.mktemp("small-run") / "run"
    compare(small_suite, out=out, progress=False)
    return out


def _finished_arms(out):
    """The files of finished arms, and when each was written."""
    return {path: path.stat().st_mtime_ns for path in out.glob("arms/*.json") if path.name[0] != "."}


def test_a_killed_run_goes_on_and_ends_with_the_same_numbers(small_suite, small_run, tmp_path):
    out = tmp_path / "killed"
    process = subprocess.Popen(
        [ST2LLM, "compare", small_suite, "--out", out],
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not _finished_arms(out):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = _finished_arms(out)
    (out / "arms/.none-1.json.a1b2c3d4.json").write_text('{"key": "no')  # a kill while a file was written
    compare(small_suite, out=out, resume=True, progress=False)
    assert _finished_arms(out).items() >= done.items(), "a finished arm was run again"
    assert leftovers(out) == []
    assert_same_numbers(out, small_run)
    assert len(json.loads((out / "run.json").read_text())["resumed"]) == 1


class KilledError(BaseException):
    """What stops a run at a chosen file."""


@pytest.mark.parametrize(
    "last",
    [
        pytest.param("encoder/warm-1.safetensors", id="after the encoder, before its arm"),
        pytest.param(
            "predictions/none-0.parquet", id="after predictions, before the facts that finish the arm"
        ),
        pytest.param("results.jsonl", id="after the records, before the report"),
    ],
)
def test_a_run_that_stops_after_any_file_goes_on_and_ends_with_the_same_numbers(
    small_suite, small_run, tmp_path, monkeypatch, last
):
    out, put = tmp_path / "stopped", Path.replace

    def stop_after(self, target):
        put(self, target)
        if Path(target) == out / last:
            raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", stop_after)
        with pytest.raises(KilledError):
            compare(small_suite, out=out, progress=False)
    done = _finished_arms(out)
    assert (out / last).is_file() and not (out / "report.html").exists()
    compare(small_suite, out=out, resume=True, progress=False)
    assert _finished_arms(out).items() >= done.items(), "a finished arm was run again"
    assert_same_numbers(out, small_run)


def test_another_limit_or_changed_data_cannot_go_on_in_the_same_folder(card, tmp_path):
    own = tiny_suite.write_card(tmp_path / "town")
    suite = tiny_suite.write_suite(tmp_path / "rules.yaml", tiny_suite.rules(own))
    compare(suite, out=tmp_path / "run", progress=False)
    with pytest.raises(ConfigError, match="another limit"):
        compare(suite, out=tmp_path / "run", limit=5, resume=True, progress=False)
    values = (own.parent / "values.csv").read_text().replace(",60.0", ",61.0")
    (own.parent / "values.csv").write_text(values)
    with pytest.raises(ConfigError, match="another data_sha256"):
        compare(suite, out=tmp_path / "run", resume=True, progress=False)
    assert len(records(tmp_path / "run")) == 6


# Out of space.


def test_a_full_disk_is_one_message_leaves_whole_files_and_more_room_lets_it_go_on(
    small_suite, small_run, tmp_path, monkeypatch
):
    out, put = tmp_path / "run", Path.replace

    def no_room(self, target):
        if Path(target) == out / "predictions/none-0.parquet":
            raise OSError(errno.ENOSPC, "No space left on device")
        return put(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", no_room)
        full = run_cli("compare", small_suite, "--out", out, **ENVIRONMENT)
    assert _is_one_message(full), full.stderr
    assert "No space left on device" in full.stderr
    assert "--resume" in full.stderr
    kept = [path for path in out.rglob("*") if path.is_file()]
    assert out / "arms/last-value-0.json" in kept
    assert not (out / "report.html").exists()
    assert leftovers(out) == []
    for path in kept:
        _read_whole(path)
    compare(small_suite, out=out, resume=True, progress=False)
    assert_same_numbers(out, small_run)


def _read_whole(path):
    if path.suffix == ".json":
        json.loads(path.read_text(encoding="utf-8"))
    elif path.suffix == ".jsonl":
        assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    elif path.suffix == ".parquet":
        assert len(pd.read_parquet(path))
    elif path.suffix != ".lock":
        assert path.stat().st_size


# Refused, and its exit codes.


def test_a_suite_that_names_what_is_not_there_is_one_message_and_nothing_is_written(card, tmp_path):
    predictors = [{"name": "last-valu", "family": "baseline"}]
    suite = tiny_suite.write_suite(tmp_path / "bad.yaml", tiny_suite.rules(card, predictors=predictors))
    done = run_cli("compare", suite, "--out", tmp_path / "run")
    assert _is_one_message(done), done.stderr
    assert "Did you mean 'last-value'?" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_command_that_is_not_understood_exits_2(tmp_path):
    for arguments in (["compare"], ["compare", "demo", "--limit", "0"], ["compare", "demo", "--what"]):
        done = run_cli(*arguments, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_second_run_into_the_same_folder_is_refused_before_any_work(rules, rules_run):
    before = {path: path.read_bytes() for path in rules_run.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match="already holds a run"):
        compare(rules, out=rules_run, progress=False)
    assert {path: path.read_bytes() for path in rules_run.rglob("*") if path.is_file()} == before


def test_a_folder_into_which_another_process_writes_is_refused_before_any_work(rules, tmp_path):
    for resume in (False, True):
        with (
            exclusive(tmp_path / "run"),
            pytest.raises(ConfigError, match="being written by another process"),
        ):
            compare(rules, out=tmp_path / "run", resume=resume, progress=False)
    assert not (tmp_path / "run").exists()


def test_after_predictions_were_cut_their_arm_alone_is_run_again(rules, rules_run):
    out = rules_run
    before, results = _finished_arms(out), (out / "results.jsonl").read_text()
    record = min(before)
    damaged = out / "predictions" / f"{record.stem}.parquet"
    damaged.write_bytes(damaged.read_bytes()[:10])
    with pytest.raises(DataError, match=f"{damaged.name} is missing or damaged .* that arm is run again"):
        compare(rules, out=out, resume=True, progress=False)
    record.unlink()
    compare(rules, out=out, resume=True, progress=False)
    again = _finished_arms(out)
    assert {path for path in before if again[path] != before[path]} == {record}
    assert len(results.splitlines()) == len((out / "results.jsonl").read_text().splitlines())


def test_an_empty_run_card_is_named(rules, rules_run):
    (rules_run / "run.json").write_text("")
    for ask in (
        lambda: compare(rules, out=rules_run, resume=True, progress=False),
        lambda: rescore(rules_run),
    ):
        with pytest.raises(DataError, match=r"run\.json is missing or damaged .* another --out"):
            ask()


def test_a_language_model_cannot_be_set_where_the_suite_has_none(rules, tmp_path):
    with pytest.raises(ConfigError, match="no language model to replace"):
        compare(rules, llm="smollm2-135m", out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("ask", [rescore, load_report])
def test_a_folder_without_a_run_has_no_report(ask, tmp_path):
    with pytest.raises(ConfigError, match="holds no run.json"):
        ask(tmp_path)


def test_a_run_without_a_finished_arm_cannot_be_scored(rules_run):
    for path in (rules_run / "arms").glob("*.json"):
        path.unlink()
    with pytest.raises(ConfigError, match="no finished arm yet.*--resume"):
        rescore(rules_run)


def test_progress_is_said_only_when_asked(rules, tmp_path, capfd):
    compare(rules, out=tmp_path / "quiet", progress=False)
    assert capfd.readouterr() == ("", "")
    compare(rules, out=tmp_path / "told", progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert [line.partition(";")[0] for line in err.splitlines()] == [
        "arm 1 of 3: last-value",
        "arm 2 of 3: hour-of-week",
        "arm 3 of 3: ridge-deviation",
    ]


def test_a_limit_keeps_evenly_spaced_windows_and_says_so_in_the_card(rules, tmp_path):
    report = compare(rules, out=tmp_path / "run", limit=4, progress=False)
    assert {r["n"] for r in report.records} == {4 * 3}
    assert json.loads((tmp_path / "run/run.json").read_text())["config"]["limit"] == 4


def test_other_data_can_be_given_for_the_suites_own(rules, tmp_path):
    other = tiny_suite.write_card(tmp_path / "other", days=60)
    report = compare(rules, data=str(other), out=tmp_path / "run", progress=False)
    assert {r["data"] for r in report.records} == {str(other)}
    assert report.records[0]["n"] == 16 * 3


def test_several_horizons_are_several_tasks_with_files_of_their_own(card, tmp_path):
    content = tiny_suite.rules(card, task={"forecast": {"history": 48, "horizon": [12, 24]}})
    suite = tiny_suite.write_suite(tmp_path / "rules.yaml", content)
    report = compare(suite, out=tmp_path / "run", progress=False)
    assert {r["task"] for r in report.records} == {"forecast-48-12", "forecast-48-24"}
    assert len(list((tmp_path / "run/predictions").glob("*.parquet"))) == 6
    assert len(report.verdict.splitlines()) == 2


def test_constant_data_that_a_rule_knows_exactly_is_scored_without_a_fault(tmp_path):
    own = tiny_suite.write_card(tmp_path / "town")
    table = pd.read_csv(own.parent / "values.csv")
    table[list(tiny_suite.PLACES)] = np.float64(7)
    table.to_csv(own.parent / "values.csv", index=False)
    suite = tiny_suite.write_suite(tmp_path / "rules.yaml", tiny_suite.rules(own))
    report = compare(suite, out=tmp_path / "run", progress=False)
    assert {r["metrics"]["mae"]["value"] for r in report.records if r["predictor"] == "last-value"} == {0.0}
    assert all(r["metrics"]["r2"]["value"] is None for r in report.records)
