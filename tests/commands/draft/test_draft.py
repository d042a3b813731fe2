"""A drafted card loads as it is: right kind and columns, every guess marked, and nothing asked."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml
from support.command_line import is_one_message, run_cli

from st2llm.commands.draft import draft_card, write_card
from st2llm.data import load_data
from st2llm.data.card import read_card
from st2llm.errors import ConfigError, DataError

HOURS = pd.date_range("2024-01-01", periods=240, freq="h").strftime("%Y-%m-%dT%H:%M:%S")


def _card(folder, *files):
    draft = draft_card(files)
    path = folder / "card.yaml"
    write_card(draft, path)
    return read_card(path), path


@pytest.fixture
def wide(tmp_path):
    values = {name: np.arange(240.0) for name in ("a", "b")}
    pd.DataFrame({"time": HOURS, **values}).to_csv(tmp_path / "Bike counts.csv", index=False)
    places = {"name": ["a", "b"], "longitude": [4.8, 4.81], "latitude": [45.7, 45.71]}
    pd.DataFrame(places).to_csv(tmp_path / "places.csv", index=False)
    return tmp_path


def test_a_wide_table_and_its_places_become_a_graph_that_loads(wide):
    card, path = _card(wide, wide / "Bike counts.csv", wide / "places.csv")
    assert (card.kind, card.name, card.freq, card.nodes.lon) == ("graph", "bike-counts", "1h", "longitude")
    data = load_data(path)
    assert data.values.shape == (240, 2, 1)
    assert data.places == ("a", "b")


def test_the_order_of_the_files_does_not_matter(wide):
    files = (wide / "places.csv", wide / "Bike counts.csv")
    assert draft_card(files).text() == draft_card(files[::-1]).text()


def test_a_row_for_each_reading_is_a_long_table(tmp_path):
    rows = pd.DataFrame(
        {"time": np.repeat(HOURS, 2), "sensor": ["n1", "n2"] * 240, "speed [km/h]": np.arange(480.0)}
    )
    rows.to_parquet(tmp_path / "speeds.parquet")
    card, path = _card(tmp_path, tmp_path / "speeds.parquet")
    assert (card.layout, card.place, card.channels, card.unit) == ("long", "sensor", ["speed [km/h]"], "km/h")
    assert load_data(path).values.shape == (240, 2, 1)


@pytest.mark.parametrize("separator", [",", ";"])
def test_rows_of_objects_that_move_are_trajectories(tmp_path, separator):
    rows = pd.DataFrame(
        {"user": np.repeat([1, 2], 120), "timestamp": HOURS, "lat": 45 + np.arange(240) / 1e4, "lng": 4.8}
    )
    rows.to_csv(tmp_path / "walks.csv", index=False, sep=separator)
    card, path = _card(tmp_path, tmp_path / "walks.csv")
    assert (card.kind, card.object, card.time.column, card.lon) == ("trajectory", "user", "timestamp", "lng")
    assert len(load_data(path)) == 2


def test_a_column_of_a_wide_table_that_is_called_station_is_a_place_too(tmp_path):
    """The sensor `station` of the tutorial on graphs was ignored, because that word names the places of long tables."""
    columns = {name: np.arange(240.0) for name in ("bridge", "station")}
    pd.DataFrame({"time": HOURS, **columns}).to_csv(tmp_path / "readings.csv", index=False)
    _, path = _card(tmp_path, tmp_path / "readings.csv")
    assert load_data(path).places == ("bridge", "station")


def test_objects_are_found_by_their_rows_where_the_name_of_the_column_is_not_known(tmp_path):
    """The riders of the tutorial on trajectories were drafted as events."""
    who = np.repeat(["rider-0", "rider-1"], 120)
    rows = pd.DataFrame({"ridden by": who, "time": HOURS, "lat": 45 + np.arange(240) / 1e4, "lon": 4.8})
    rows.to_csv(tmp_path / "fixes.csv", index=False)
    assert _card(tmp_path, tmp_path / "fixes.csv")[0].object == "ridden by"
    rows["ridden by"] = ["theft", "fire"] * 120
    rows.to_csv(tmp_path / "calls.csv", index=False)
    assert yaml.safe_load(draft_card([tmp_path / "calls.csv"]).text())["kind"] == "event"


def test_rows_with_a_time_and_a_position_are_events(tmp_path):
    rows = pd.DataFrame(
        {
            "id": range(240),
            "occurred": HOURS + "Z",
            "lon": 4.8,
            "lat": 45.7,
            "category": ["theft", "fire"] * 120,
        }
    )
    rows.to_csv(tmp_path / "calls.csv", index=False)
    card, path = _card(tmp_path, tmp_path / "calls.csv")
    assert (card.kind, card.mark, card.time.column) == ("event", "category", "occurred")
    assert len(load_data(path).time) == 240


def _spreadsheet(folder, days, form="%d.%m.%Y %H:%M"):
    """A table as German spreadsheets write it: semicolons, day first, umlauts, numbers in brackets."""
    times = pd.DatetimeIndex(days).strftime(form)
    rows = pd.DataFrame({"Zeit": times, "Zählstelle Nord (2)": range(len(days)), "Ö-Ring": 1})
    rows.to_csv(folder / "Radzähler 2025.csv", index=False, sep=";")
    return folder / "Radzähler 2025.csv"


def test_timestamps_whose_day_comes_first_get_their_format_and_a_number_in_brackets_is_no_unit(tmp_path):
    """Nothing was drafted from timestamps that are not ISO, and `(2)` of a station became the unit."""
    card, path = _card(tmp_path, _spreadsheet(tmp_path, pd.date_range("2025-03-03", periods=480, freq="h")))
    assert (card.name, card.time.column, card.time.format) == ("radzahler-2025", "Zeit", "%d.%m.%Y %H:%M")
    assert (card.freq, card.unit) == ("1h", "")
    assert load_data(path).values.shape == (480, 2, 1)


def test_where_day_and_month_cannot_be_told_apart_the_message_names_both_formats(tmp_path):
    file = _spreadsheet(tmp_path, pd.date_range("2025-01-01", periods=12, freq="MS"), "%d/%m/%Y")
    with pytest.raises(DataError, match=r"cannot be told apart.*'%m/%d/%Y'.*'%d/%m/%Y'"):
        draft_card([file])


@pytest.mark.parametrize(("step", "freq", "steps"), [("h", "1h", 24), ("D", "1D", 7), ("MS", "month", 12)])
def test_a_drafted_graph_has_a_task_so_that_a_prompt_needs_no_options(tmp_path, step, freq, steps):
    times = pd.date_range("2020-01-01", periods=60, freq=step)
    pd.DataFrame({"time": times, "a": 1.0}).to_csv(tmp_path / "a.csv", index=False)
    card, _ = _card(tmp_path, tmp_path / "a.csv")
    assert card.freq == freq
    assert card.default_task["forecast"]["horizon"] == steps


def test_a_netcdf_file_is_a_grid_with_its_own_units(tmp_path):
    times = pd.date_range("2020-01-01", periods=24, freq="MS")
    values = xr.DataArray(
        np.arange(24 * 6, dtype=float).reshape(24, 2, 3),
        {"time": times, "lat": [45.0, 46.0], "lon": [4.0, 5.0, 6.0]},
        ("time", "lat", "lon"),
        attrs={"units": "degC", "long_name": "surface temperature"},
    )
    values.to_dataset(name="t2m").to_netcdf(tmp_path / "era.nc")
    card, path = _card(tmp_path, tmp_path / "era.nc")
    assert (card.kind, card.variable, card.freq, card.unit) == ("grid", "t2m", "month", "degC")
    assert load_data(path).values.shape == (24, 2, 3, 1)


def test_a_folder_of_tracks_and_a_folder_of_clips_are_found_by_their_endings(tmp_path):
    tracks = tmp_path / "geolife"
    for name in ("000/Trajectory/a.plt", "001/Trajectory/b.plt"):
        (tracks / name).parent.mkdir(parents=True)
        head = "Geolife trajectory\nWGS 84\nAltitude is in Feet\nReserved 3\n0,2,255,My Track\n0\n"
        rows = (f"39.9{i:03d},116.3,0,492,39744.1,2008-10-23,02:{i:02d}:00" for i in range(40))
        (tracks / name).write_text(head + "\n".join(rows) + "\n")
    card, path = _card(tracks, tracks)
    assert (card.kind, card.name, card.object) == ("trajectory", "geolife", "user")
    assert len(load_data(path)) == 2
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (clips / name).write_bytes(b"")
    assert _card(clips, clips)[0].kind == "video"
    assert yaml.safe_load(draft_card([clips]).text())["files"] == "*.mp4"


def test_files_that_the_card_does_not_take_are_told(wide):
    (wide / "roads.csv").write_text("from,to\na,b\n")
    for name in ("z.mp4", "report.docx", ".hidden.csv"):
        (wide / name).write_bytes(b"")
    draft = draft_card([wide])
    assert (draft.kind, draft.left_out) == ("graph", ("report.docx", "roads.csv", "z.mp4"))
    done = run_cli("data", "init", wide)
    assert "Left out, as the card takes other files: report.docx, roads.csv, z.mp4." in done.stderr
    assert yaml.safe_load(done.stdout)["nodes"]["file"] == "places.csv"


def test_of_clips_with_several_endings_the_most_frequent_is_taken(tmp_path):
    for name in ("a.avi", "b/b.mp4", "b/c.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    draft = draft_card([tmp_path])
    assert yaml.safe_load(draft.text())["files"] == "*.mp4"
    assert [(draft.folder / name).resolve() for name in draft.left_out] == [tmp_path / "a.avi"]


def test_channels_of_a_long_table_have_a_unit_each(tmp_path):
    stations = {"time": np.repeat(HOURS, 2), "station": ["n1", "n2"] * 240}
    readings = {"temperature [degC]": np.arange(480.0), "rain": np.arange(480.0)}
    pd.DataFrame({**stations, **readings}).to_csv(tmp_path / "weather.csv", index=False)
    card, path = _card(tmp_path, tmp_path / "weather.csv")
    assert {name: rule.unit for name, rule in card.channels.items()} == {
        "temperature [degC]": "degC",
        "rain": "",
    }
    assert load_data(path).values.shape == (240, 2, 2)


@pytest.mark.parametrize("names", [["Monday.gpx"], ["Monday.gpx", "Tuesday.gpx"]])
def test_recorded_tracks_are_trajectories(tmp_path, names):
    points = "".join(
        f'<trkpt lat="45.7{i:03d}" lon="4.8"><time>2024-01-01T08:{i:02d}:00Z</time></trkpt>'
        for i in range(40)
    )
    for name in names:
        (tmp_path / name).write_text(f"<gpx><trk><trkseg>{points}</trkseg></trk></gpx>")
    card, path = _card(tmp_path, *(tmp_path / name for name in names))
    assert (card.kind, card.object, card.timezone) == ("trajectory", "track", "UTC")
    assert [len(track.time) for track in load_data(path)] == [40] * len(names)


def test_every_line_that_the_file_does_not_state_is_marked_as_a_guess(wide):
    text = draft_card([wide / "Bike counts.csv"]).text()
    for key in ("kind", "time", "freq", "timezone", "unit", "quantity", "split"):
        (line,) = [line for line in text.splitlines() if line.startswith(f"{key}:")]
        assert "# guess: " in line, line


def test_piped_the_card_is_the_output_and_nothing_is_asked(wide):
    done = run_cli("data", "init", wide / "Bike counts.csv")
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["kind"] == "graph"
    assert "st2llm data show" in done.stderr


def test_an_existing_card_is_not_overwritten(wide):
    draft = draft_card([wide / "Bike counts.csv"])
    write_card(draft, wide / "card.yaml")
    with pytest.raises(ConfigError, match="exists already"):
        write_card(draft, wide / "card.yaml")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", "x,y\n1,2\n3,4\n", "no column holds times; the columns are x, y"),
        ("a.csv", "", "should have a header and rows"),
        ("a.doc", "x", "a card is drafted from .csv"),
        ("a.csv", "time,name\n2024-01-01,b\n2024-01-02,c\n", "no column holds numbers beside the time"),
    ],
)
def test_a_file_that_no_card_can_be_drafted_from_is_one_message(tmp_path, name, content, says):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=says):
        draft_card([tmp_path / name])
    assert is_one_message(run_cli("data", "init", tmp_path / name))
