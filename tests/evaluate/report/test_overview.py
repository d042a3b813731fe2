"""The overview of several suites: p values are corrected over all of them."""

import json

import pytest
from support import fake_run

from st2llm.evaluate.report.overview import family_sentence, overview, write_overview

QUICK = {"leave_out": ("predictions", "answers")}


@pytest.fixture
def runs(tmp_path):
    """Three runs whose gains have p values of 0.01, 0.02 and 0.5."""
    folders = []
    for name, p in (("one", 0.01), ("two", 0.02), ("three", 0.5)):
        folder = fake_run.write(tmp_path / name, fake_run.Plan(**QUICK))
        lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
        for line in lines:
            if line["gain_best"]:
                line["gain_best"]["p"] = p
        (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        folders.append(folder)
    return folders


def test_p_values_of_several_suites_are_corrected_together(runs):
    """With six suites and no true gain, at least one uncorrected interval excludes zero in a quarter of all lists."""
    rows = overview(runs)
    assert [row.p for row in rows] == [pytest.approx(0.03), pytest.approx(0.04), pytest.approx(0.5)]
    sentence = family_sentence(rows)
    assert "Of 3 gains with a verdict" in sentence
    assert "one (" in sentence and "two (" in sentence and "three" not in sentence


def test_the_overview_has_a_row_for_each_suite_with_its_verdict(runs, tmp_path):
    write_overview(tmp_path, runs)
    text = (tmp_path / "overview.md").read_text()
    assert text.count("hurt: its best arm, llm-lora") == 3
    assert "| one | forecast-168-24 |" in text


def test_a_gain_over_a_rule_alone_is_not_said_to_differ_from_zero(runs):
    """Its verdict is that the run cannot tell; the overview said that it differs from zero."""
    lines = [json.loads(line) for line in (runs[0] / "results.jsonl").read_text().splitlines()]
    for line in lines:
        if line["gain_best"]:
            line["gain_trained"] = line["gain_best"] | {
                "vs": "matched",
                "value": 0.0,
                "low": -0.02,
                "high": 0.02,
            }
            line["gain_best"] |= {"value": 0.3, "low": 0.1, "high": 0.5}
    (runs[0] / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    sentence = family_sentence(overview(runs))
    assert "these differ from zero: two (" in sentence
    assert sentence.endswith("not above the arms trained without an LLM: one.")


def test_a_gain_without_a_verdict_is_not_said_to_differ_from_zero(runs):
    """A failed or vacuous control withholds the verdict in the overview as well."""
    controls = json.loads((runs[0] / "controls.json").read_text())
    controls["negative"] |= {"passed": False, "outcome": "vacuous"}
    (runs[0] / "controls.json").write_text(json.dumps(controls))
    sentence = family_sentence(overview(runs))
    assert "Of 2 gains with a verdict" in sentence
    assert sentence.endswith("Without a verdict: one.")
