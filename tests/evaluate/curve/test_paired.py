"""Gains between points, where these have the same test windows and where they have others."""

import numpy as np
import pandas as pd
import pytest
from support import tiny_suite

from st2llm.evaluate.curve.points import plan_curves
from st2llm.evaluate.curve.run import curve
from st2llm.evaluate.run.plan import Overrides

PERIODS = ["2024-02-28/2024-03-10", "2024-03-10/2024-03-21"]

pytestmark = pytest.mark.slow


def test_periods_are_compared_by_the_ratio_of_their_errors(card, tmp_path):
    suite = tiny_suite.rules(card, curve={"axis": "windows.period", "values": PERIODS})
    (report,) = curve(suite, out=tmp_path / "out", progress=False)
    errors = []
    for point in plan_curves(suite, tmp_path / "out", Overrides())[0].points:
        table = pd.read_parquet(point.folder / "scores.parquet")
        own = table[(table["predictor"] == "hour-of-week") & (table["metric"] == "abs_error")]
        errors.append(own["sum"].sum() / own["count"].sum())
    first, second = (row for row in report.rows if row.predictor == "hour-of-week")
    assert first.change is None
    assert second.change.value == pytest.approx(1 - errors[1] / errors[0])
    assert second.change.low is None and second.windows < 20  # too few blocks for an interval
    assert not np.isclose(errors[0], errors[1])
    assert "which has other test windows" in (tmp_path / "out" / "report.md").read_text()
