"""Runs a curve: each point is a comparison of its own, and what does not depend on the axis is run once."""

from pathlib import Path

from st2llm.config.suite import SuiteSource
from st2llm.errors import ConfigError
from st2llm.evaluate.curve.points import CurvePlan, Point, plan_curves
from st2llm.evaluate.curve.report import CurveReport, write_curve
from st2llm.evaluate.curve.shared import keeps_arms, share
from st2llm.evaluate.run.compare import compare
from st2llm.evaluate.run.plan import Overrides
from st2llm.evaluate.run_folder.reading import read_record
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.files import write_text

ANSWERS = "answers.md"
_SAME = ("data_sha256", "side_sha256", "split_sha256")
"""Keys of run.json that are the same at all points, since they share results."""
_OTHER_DATA = ("data", "split", "task", "faults", "shift")
"""Axes that change the data or the windows."""


def curve(
    suite: SuiteSource,
    *,
    out: str | Path,
    overrides: Overrides = Overrides(),  # noqa: B008 - frozen
    quick: bool = False,
    resume: bool = False,
    progress: bool = True,
) -> tuple[CurveReport, ...]:
    """Runs a suite, or each of a list of suites, for each value of its `curve`, and reports error and gains against it.

    out: holds a run folder for each point and the report; of a list, a folder for each suite and answers.md. quick:
    the form of the suite's `quick`. resume: continues; finished arms of all points are kept. Raises ConfigError for
    axes that are no setting and folders that hold runs already, before any arm runs.
    """
    root = Path(out)
    plans = plan_curves(suite, root, overrides, quick=quick)
    for plan in plans:
        for point in plan.points:
            RunStore(point.folder).claim(resume=resume)
    reports = tuple(_run(plan, resume=resume, progress=progress) for plan in plans)
    if len(reports) > 1:
        lines = [f"- {line}" for report in reports for line in report.answers]
        write_text(root / ANSWERS, "\n".join(lines) + "\n")
    return reports


def _run(plan: CurvePlan, *, resume: bool, progress: bool) -> CurveReport:
    done: list[Point] = []
    for point in plan.points:
        for earlier in done:
            share(earlier, point)
        compare(
            point.suite,
            out=point.folder,
            resume=resume,
            progress=progress,
            save_arms=keeps_arms(plan.settings.by_axis, plan.suite),
        )
        done.append(point)
        _check_same_data(plan, point)
    return write_curve(plan)


def _check_same_data(plan: CurvePlan, point: Point) -> None:
    """Raises ConfigError where data or split have changed between two points without being the axis."""
    if any(axis.partition(".")[0] in _OTHER_DATA for axis in point.at):
        return
    first = plan.points[0]
    before, now = (read_record(each.folder / "run.json") for each in (first, point))
    if different := [key for key in _SAME if before.get(key) != now.get(key)]:
        raise ConfigError(
            f"{point.folder} has another {different[0]} than {first.folder}, so the points cannot be compared: the "
            f"data changed while the curve ran. Start it again in another --out."
        )
