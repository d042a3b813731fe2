"""Committed reports: the newest counts, and the source of a table says what a reader must know."""

import pytest
from support import fake_run

from st2llm.errors import ConfigError
from st2llm.evaluate.publication.committed import describe_source, newest_report, read_report

FEW = fake_run.Plan(
    arms=fake_run.FEW_ARMS,
    seeds=(0, 1),
    leave_out=("predictions", "answers", "curves"),
    extra={"dirty": False},
)
COMMIT = "0123456"


def dirty_when_resumed():
    return {"dirty": False, "resumed": [{"commit": "b" * 40, "dirty": True}]}


def test_the_newest_report_of_exactly_this_suite_is_taken(tmp_path):
    for name in ("2026-05-09-town", "2026-05-10-town", "2026-06-01-town-native", "notes"):
        (tmp_path / name).mkdir()
    assert newest_report(tmp_path, "town").name == "2026-05-10-town"
    with pytest.raises(ConfigError, match="no report of 'twon'.*town"):
        newest_report(tmp_path, "twon")


def test_the_runs_of_a_list_are_ordered_by_kind_of_data(tmp_path):
    report = tmp_path / "2026-05-01-five"
    for name in ("a", "b"):
        fake_run.write(report / name, FEW)
    text = (report / "a/run.json").read_text()
    (report / "a/run.json").write_text(text.replace('"kind": "graph"', '"kind": "event"'))
    assert [run.folder.name for run in read_report(tmp_path, "five").runs] == ["b", "a"]


def test_the_source_names_report_seeds_count_and_commit(tmp_path):
    fake_run.write(tmp_path / "2026-05-01-town", FEW)
    source = describe_source([read_report(tmp_path, "town")])
    assert source == (
        f"Source: `evaluation/reports/2026-05-01-town`; seeds 0, 1; n = 840 for each seed; commit {COMMIT}."
    )


@pytest.mark.parametrize("extra", [{"dirty": True}, dirty_when_resumed()], ids=["started", "resumed"])
def test_a_run_from_a_dirty_tree_is_marked_in_the_source(tmp_path, extra):
    report = tmp_path / "2026-05-01-town"
    fake_run.write(report / "clean", FEW)
    fake_run.write(report / "other", fake_run.Plan(arms=FEW.arms, leave_out=FEW.leave_out, extra=extra))
    assert "**run with uncommitted changes in `other`**" in describe_source([read_report(tmp_path, "town")])
