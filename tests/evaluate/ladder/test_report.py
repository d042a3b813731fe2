"""The report of a ladder: rows, table and figure, from run folders with made-up numbers."""

import json

import pytest
from support import fake_run

from st2llm.evaluate.ladder.report import write_ladder

GAINS = {"small": (-0.03, -0.05, -0.01), "large": (0.02, 0.005, 0.035), "served": (0.01, None, None)}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three runs; the size of the model of the last one is not known."""
    root = tmp_path_factory.mktemp("ladder")
    leave_out = ("controls", "curves", "answers", "predictions", "scores")
    for name, params in {"small": 100_000_000, "large": 500_000_000, "served": None}.items():
        plan = fake_run.Plan(gain=GAINS[name], arms=fake_run.FEW_ARMS, leave_out=leave_out)
        run = fake_run.write(root / name, plan)
        lines = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
        for line in lines:
            if line["llm"]:
                line["llm"]["params"] = params
                line["cost"]["train_s"] = (params or 0) / 1e6
        (run / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_ladder(root, [(name, root / name) for name in GAINS])
    return root


def test_every_arm_with_pretrained_weights_has_a_row_for_each_model(root):
    rows = [json.loads(line) for line in (root / "ladder.jsonl").read_text().splitlines()]
    assert {(row["llm"], row["predictor"]) for row in rows} == {
        (name, arm) for name in GAINS for arm in ("llm-lora", "text")
    }
    lora = {row["llm"]: row["gain_best"] for row in rows if row["predictor"] == "llm-lora"}
    assert {name: (gain["value"], gain["low"], gain["high"]) for name, gain in lora.items()} == GAINS


def test_the_table_tells_size_gain_and_reference_and_hides_no_unknown(root):
    page = (root / "ladder.md").read_text()
    (small,) = (line for line in page.splitlines() if line.startswith("| small |") and "−3.0" in line)
    assert "100.0 M" in small
    assert "over ridge-deviation" in small
    assert any(line.startswith("| served | not known |") for line in page.splitlines())
    assert "![Gains against parameters](ladder.svg)" in page


def test_the_figure_is_the_same_each_time_and_names_models_and_arms(root):
    before = (root / "ladder.svg").read_bytes()
    write_ladder(root, [(name, root / name) for name in GAINS])
    assert (root / "ladder.svg").read_bytes() == before
