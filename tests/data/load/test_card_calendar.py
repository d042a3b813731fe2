"""The steps after the last reading have the calendar, the holidays and the covariates of the card."""

import numpy as np
import pandas as pd
import pytest
from support import weather

from st2llm.data import extend_into_future, load_data

RAIN = "when,mm\n" + "".join(f"2024-01-{1 + i // 24:02d} {i % 24:02d}:00,{i / 10}\n" for i in range(75))
WEATHER = {"file": "rain.csv", "time": "when", "columns": {"rain_mm": "mm"}, "max_age": "1h", "known": True}


def test_covariates_go_on_as_far_as_their_file_does(make_card):
    path = make_card(side={"weather": WEATHER})
    (path.parent / "rain.csv").write_text(RAIN, encoding="utf-8")
    data = load_data(path)
    longer = extend_into_future(data, path, 5)
    assert longer.time.tolist() == [*data.time.tolist(), *(data.time[-1] + 3600 * np.arange(1, 6)).tolist()]
    np.testing.assert_allclose(longer.covariates[0].values[72:], [7.2, 7.3, 7.4, 7.4, np.nan])
    assert longer.covariates[0].known_in_advance and np.isnan(longer.values[72:]).all()
    np.testing.assert_array_equal(longer.values[:72], data.values)


def test_a_channel_that_is_known_in_advance_goes_on_as_far_as_its_file_does(tmp_path):
    path = weather.write_card(tmp_path, steps=80, channels=weather.channel_keys(role="covariate", known=True))
    readings = pd.read_csv(tmp_path / "readings.csv")
    readings.loc[readings["time"] >= "2024-01-04 05:00", "temperature"] = np.nan  # the last three hours
    readings.to_csv(tmp_path / "readings.csv", index=False)
    data = load_data(path)
    longer = extend_into_future(data, path, 5)
    assert len(longer.time) == 82
    np.testing.assert_array_equal(longer.values[:80], data.values)
    assert np.isnan(longer.values[77:, :, 0]).all() and np.isnan(longer.values[80:]).all()
    assert np.isfinite(longer.values[77:80, :, 1]).all()


def test_the_calendar_goes_on_with_its_holidays(make_card):
    path = make_card(holidays={"country": "US"})
    longer = extend_into_future(load_data(path), path, 24 * 12)
    assert longer.calendar.step_of_day[72:98].tolist() == [*range(24), 0, 1]
    assert "Martin Luther King Jr. Day" in longer.calendar.holiday
    assert len(longer.calendar.holiday) == len(longer.time) == 360


@pytest.mark.parametrize("steps", [1, 3])
def test_rows_without_readings_at_the_end_of_a_file_are_part_of_the_future(make_card, steps):
    path = make_card()
    rows = (path.parent / "values.csv").read_text(encoding="utf-8").splitlines()
    empty = [f"{row.split(',')[0]},," for row in rows[-2:]]
    (path.parent / "values.csv").write_text("\n".join([*rows[:-2], *empty]) + "\n", encoding="utf-8")
    data = load_data(path)
    longer = extend_into_future(data, path, steps)
    assert len(longer.time) == 70 + steps
    assert np.isfinite(longer.values[69]).any() and np.isnan(longer.values[70:]).all()
