import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from st2llm.data.read import cf
from st2llm.errors import DataError


def _iso(values: list[float], units: str, calendar: str = "standard") -> list[str]:
    result = cf.decode_time(np.array(values), {"units": units, "calendar": calendar}, "a.nc:time")
    return [str(time) for time in result.astype("datetime64[s]")]


@pytest.mark.parametrize(
    ("value", "units", "expected"),
    [
        (76701, "days since 1800-01-01", "2010-01-01T00:00:00"),
        (318096, "hours since 1970-01-01 00:00:00", "2006-04-16T00:00:00"),
        (1.5, "days since 2020-02-28", "2020-02-29T12:00:00"),
        (60, "minutes since 2020-01-01T00:00:00Z", "2020-01-01T01:00:00"),
        (0, "seconds since 2020-01-01 12:00:00 +12:00", "2020-01-01T00:00:00"),
        (2, "months since 2020-01-31", "2020-03-31T00:00:00"),
        (1, "years since 2020-02-29", "2021-02-28T00:00:00"),
        (1000, "milliseconds since 2020-01-01", "2020-01-01T00:00:01"),
        (3, "h since 2020-01-01", "2020-01-01T03:00:00"),
    ],
)
def test_units_of_all_sorts_are_instants(value: float, units: str, expected: str) -> None:
    assert _iso([value], units) == [expected]


def test_before_1582_the_standard_calendar_is_julian_and_the_proleptic_one_is_not() -> None:
    # "days since 0001-01-01", as NOAA writes it: 733,774 days to 2010-01-01, two more than by the
    # calendar of today: 1 January of the year 1 fell on 30 December of the year 0 as we would count.
    assert _iso([733_774], "days since 0001-01-01") == ["2010-01-01T00:00:00"]
    assert _iso([733_772], "days since 0001-01-01", "proleptic_gregorian") == ["2010-01-01T00:00:00"]


@given(
    st.integers(-70_000, 170_000),
    st.sampled_from(["1970-01-01", "1800-01-01", "1900-01-01 06:00:00", "2000-02-29"]),
)
def test_days_are_where_xarray_puts_them(days: int, epoch: str) -> None:
    ours = cf.decode_time(np.array([float(days)]), {"units": f"days since {epoch}"}, "a.nc:time")
    theirs = np.datetime64(epoch.replace(" ", "T"), "s") + np.timedelta64(days, "D")
    assert ours.astype("datetime64[s]")[0] == theirs


@pytest.mark.parametrize("calendar", ["noleap", "360_day", "julian", "365_day", "all_leap"])
def test_a_calendar_of_climate_models_is_one_clear_error(calendar: str) -> None:
    with pytest.raises(DataError, match=f"'{calendar}' are not those of the real calendar.*convert_calendar"):
        _iso([1.0], "days since 2000-01-01", calendar)


@pytest.mark.parametrize(
    "units",
    [
        "",
        "days",
        "fortnights since 2000-01-01",
        "days since yesterday",
        "days since 2000-13-01",
        "K",
        "days since 2000",
    ],
)
def test_units_that_are_none_are_refused(units: str) -> None:
    with pytest.raises(DataError, match=r"a\.nc:time"):
        _iso([1.0], units)


@pytest.mark.parametrize("values", [[np.nan], [np.inf], [1e30]])
def test_stamps_that_are_no_instants_are_refused(values: list[float]) -> None:
    with pytest.raises(DataError, match=r"a\.nc:time"):
        _iso(values, "days since 2000-01-01")


def test_half_a_month_is_refused() -> None:
    with pytest.raises(DataError, match="whole months"):
        _iso([0.5], "months since 2000-01-01")


@pytest.mark.parametrize(
    ("name", "attributes", "expected"),
    [
        ("time", {}, "time"),
        ("T", {"axis": "T"}, "time"),
        ("t2", {"units": "hours since 1970-01-01"}, "time"),
        ("Latitude", {}, "row"),
        ("nav", {"units": "degrees_north"}, "row"),
        ("whatever", {"standard_name": "longitude"}, "col"),
        ("x", {}, "col"),
        ("level", {}, None),
    ],
)
def test_dimensions_are_recognised_by_attributes_and_names(
    name: str, attributes: dict[str, str], expected: str | None
) -> None:
    assert cf.axis_role(name, attributes) == expected


def test_kilometres_become_metres() -> None:
    assert cf.coordinate_unit("x", {"units": "km"}) == ("metres", 1000.0)
    assert cf.coordinate_unit("lat", {}) == ("degrees", 1.0)
    assert cf.coordinate_unit("x", {}) == ("cells", 1.0)


def test_the_stamps_that_xarray_writes_are_read_back() -> None:
    stamps = np.array(["2020-01-01T06:30", "2021-12-31T23:00"], dtype="datetime64[ns]")
    coded = xr.conventions.encode_cf_variable(xr.Variable("time", stamps))
    ours = cf.decode_time(coded.to_numpy(), coded.attrs, "a.nc:time")
    assert (ours.astype("datetime64[s]") == stamps).all()


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("rlat", {"units": "degrees", "standard_name": "grid_latitude"}),
        ("rlon", {"units": "degrees"}),
        ("y", {"units": "degrees", "standard_name": "grid_latitude"}),
        ("x", {"units": "radians", "standard_name": "projection_x_angular_coordinate"}),
    ],
)
def test_degrees_of_another_frame_are_no_latitudes_and_longitudes(
    name: str, attributes: dict[str, str]
) -> None:
    assert cf.coordinate_unit(name, attributes) == ("cells", 1.0)


def test_axes_of_a_rotated_pole_are_found() -> None:
    assert cf.axis_role("j", {"standard_name": "grid_latitude"}) == "row"
    assert [cf.axis_role(name, {}) for name in ("rlat", "rlon")] == ["row", "col"]
