import numpy as np
import pyproj
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st2llm.data import positions
from st2llm.data.card.trajectory import TrajectoryCard
from st2llm.data.read.columns import Columns
from st2llm.errors import DataError

CARD = {"name": "t", "kind": "trajectory", "table": "t.csv", "time": "t"}


def card(**keys: object) -> TrajectoryCard:
    return TrajectoryCard.model_validate({**CARD, "lon": "lon", "lat": "lat", **keys})


def table(lon: list[float], lat: list[float]) -> Columns:
    return Columns(len(lon), {"lon": np.array(lon, dtype=np.float64), "lat": np.array(lat, dtype=np.float64)})


def test_longitudes_beyond_180_are_west() -> None:
    lonlat, xy, steps = positions.read_coordinates(card(), table([170, 190, 360], [0, 0, 0]))
    assert lonlat is not None
    assert lonlat[:, 0].tolist() == [170, -170, 0]
    assert xy is None
    assert "2 longitudes" in steps[0]


def test_swapped_coordinates_are_found_out() -> None:
    with pytest.raises(DataError, match="Are 'lon' and 'lat' swapped?"):
        positions.read_coordinates(card(), table([39.9, 40.0], [116.3, 116.4]))


@pytest.mark.parametrize(("lon", "lat"), [(0, 91), (-181, 0), (361, 0), (1e9, 5)])
def test_impossible_coordinates_name_their_row(lon: float, lat: float) -> None:
    with pytest.raises(DataError, match="row 2 of the positions"):
        positions.read_coordinates(card(), table([0, lon], [0, lat]))


def test_bounds_tell_swapped_coordinates_that_degrees_alone_would_allow() -> None:
    with pytest.raises(DataError, match="The two look swapped"):
        positions.read_coordinates(
            card(bounds=[-74.3, 40.4, -73.6, 41.0]), table([-74.0, 40.7], [40.7, -74.0])
        )


def test_x_and_y_in_a_national_grid_become_degrees() -> None:
    rule = TrajectoryCard.model_validate({**CARD, "x": "lon", "y": "lat", "crs": "EPSG:3857"})
    lonlat, xy, steps = positions.read_coordinates(rule, table([111319.4908], [0]))
    np.testing.assert_allclose(lonlat, [[1, 0]], atol=1e-6)
    assert xy is None
    assert steps == ("x and y were read in EPSG:3857",)


def test_an_unknown_crs_is_refused() -> None:
    rule = TrajectoryCard.model_validate({**CARD, "x": "lon", "y": "lat", "crs": "EPSG:99999999"})
    with pytest.raises(DataError, match="does not know the `crs`"):
        positions.read_coordinates(rule, table([1], [0]))


@given(
    st.floats(-179, 179),
    st.floats(-80, 80),
    st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=5),
)
def test_local_metres_are_those_of_the_azimuthal_equidistant_plane(
    east: float, north: float, away: list[tuple[float, float]]
) -> None:
    lonlat = np.array([[east + a, north + b] for a, b in away])
    frame = pyproj.Proj(proj="aeqd", lon_0=east, lat_0=north, ellps="WGS84")
    result = positions.metres_from(np.array([[east, north]]), lonlat)
    np.testing.assert_allclose(result, np.column_stack(frame(lonlat[:, 0], lonlat[:, 1])), atol=0.01)


def test_the_centre_of_positions_minds_the_line_where_the_day_changes() -> None:
    assert abs(abs(positions.centroid(np.array([[179.0, 10.0], [-179.0, 20.0]]))[0, 0]) - 180) < 1e-9


def test_a_degree_of_longitude_on_the_equator_is_111_kilometres() -> None:
    step = positions.step_lengths_m(np.array([[0.0, 0.0], [1.0, 0.0], [359.0, 0.0]]), None)
    np.testing.assert_allclose(step, [111_195, 222_390], rtol=1e-4)


def test_the_centre_lies_among_the_positions_across_the_date_line_and_around_a_pole() -> None:
    (fiji,) = positions.centroid(np.array([[179.0, -17.0], [-179.0, -19.0]]))
    assert (abs(fiji[0]), fiji[1]) == pytest.approx((180, -18))
    (pole,) = positions.centroid(np.array([[0.0, 88.0], [120.0, 88.0], [-120.0, 88.0]]))
    assert pole[1] == pytest.approx(90)
    around = positions.metres_from(np.array([pole]), np.array([[0.0, 88.0], [120.0, 88.0], [-120.0, 88.0]]))
    np.testing.assert_allclose(np.hypot(*around.T), 223_000, rtol=0.01)


def test_means_of_groups_are_taken_on_the_globe() -> None:
    lonlat = np.array([[179.0, 10.0], [-179.0, 10.0], [20.0, 0.0], [30.0, 0.0]])
    mean = positions.mean_positions(lonlat, np.array([0, 0, 1, 1]), 3)
    assert abs(mean[0, 0]) == pytest.approx(180) and mean[0, 1] == pytest.approx(10, abs=0.01)
    assert mean[1].tolist() == pytest.approx([25, 0])
    assert np.isnan(mean[2]).all()


@pytest.mark.parametrize(
    ("lon", "want"),
    [
        ([170, -175, 178], [170, 185, 178]),
        ([-10, 20], [-10, 20]),
        ([-120, 0, 100], [-120, 0, 100]),
    ],
)
def test_longitudes_are_cut_at_their_widest_gap(lon: list[float], want: list[float]) -> None:
    assert positions.unwrap_longitudes(np.array(lon, dtype=np.float64)).tolist() == want


def test_bounds_may_lie_across_the_date_line() -> None:
    across = card(bounds=[170, -30, -170, 0])
    lonlat, _, _ = positions.read_coordinates(across, table([175, 185, -172], [-10, -10, -10]))
    assert lonlat is not None
    with pytest.raises(DataError, match=r"Row 2 of the positions is at \(0, -10\), outside"):
        positions.read_coordinates(across, table([175, 0], [-10, -10]))


@pytest.mark.parametrize("at", [(500_000.0, 4_400_000.0), (120.0, 5_500_000.0), (-3_000.0, 12.0)])
def test_metres_in_place_of_degrees_are_told_by_the_keys_to_change(at: tuple[float, float]) -> None:
    with pytest.raises(DataError, match=r"Are these metres\? Give `x: lon` and `y: lat`"):
        positions.read_coordinates(card(), table([at[0], at[0] + 1], [at[1], at[1] + 1]))


@pytest.mark.parametrize("origin", [[174.7, -36.8], [25.0, 70.0], [-179.99, 5.0]])
@pytest.mark.parametrize("metres", [30.0, 20_000.0])
def test_an_origin_is_found_from_one_position_in_degrees_and_metres(
    origin: list[float], metres: float
) -> None:
    start, xy = np.array([origin]), np.array([[metres, -2 * metres]])
    lonlat = positions.lonlat_at(start, xy)
    np.testing.assert_allclose(positions.metres_from(start, lonlat), xy, atol=1e-3)
    found = positions.origin_of(lonlat, xy)
    assert np.abs(positions.metres_from(start, found)).max() < 1e-2
