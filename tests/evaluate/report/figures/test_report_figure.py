"""The figure of a report: a row for each task of each run."""

import pandas as pd
import pytest
from support import fake_run

from st2llm.evaluate.report.figures.report_figure import report_figure
from st2llm.evaluate.report.run_report import Report
from st2llm.evaluate.run_folder.results import read_results

TASKS = ("forecast-168-24", "forecast-24-6")


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Report:
    plan = fake_run.Plan(arms=fake_run.FEW_ARMS, tasks=TASKS, seeds=(0, 1), leave_out=("predictions",))
    folder = fake_run.write(tmp_path_factory.mktemp("run"), plan)
    results = read_results(folder)
    return Report(folder, results.records, pd.read_parquet(folder / "scores.parquet"))


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes][::2]


def test_each_task_has_its_gains_and_its_costs(report):
    figure = report.plot()
    assert titles(figure) == list(TASKS) and len(figure.axes) == 4
    assert figure.axes[0].get_xlabel().startswith("worse") and "time to train" in figure.axes[1].get_xlabel()
    assert "llm-lora vs best other" in [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_a_figure_of_several_runs_names_them(report):
    both = Report(report.path.parent, report.results, report.scores, parts=(report, report))
    suite = read_results(report.path).run["suite"]["id"]
    assert titles(both.plot()) == [f"{suite}: {task}" for task in TASKS] * 2


def test_a_run_without_a_language_model_says_that_there_is_no_gain(tmp_path):
    arms = tuple(arm for arm in fake_run.FEW_ARMS if arm.name == "last-value")
    run = fake_run.write(tmp_path, fake_run.Plan(arms=arms, llm=False, leave_out=("predictions",)))
    figure = report_figure([read_results(run)])
    assert "no gain" in figure.axes[0].texts[0].get_text()


def test_a_report_is_shown_in_a_line_and_with_its_verdict_in_notebooks(report):
    assert repr(report).startswith("Report(path=") and "tasks=2, predictors=last-value" in repr(report)
    assert len(repr(report)) < 300 and report.verdict.splitlines()[0][:40] in report._repr_html_()
