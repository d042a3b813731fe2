import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.csv_files import WALKS, write

import st2llm
from st2llm.data import load_data
from st2llm.data.card.sequence import expand_pattern, matches_pattern
from st2llm.errors import ConfigError, DataError, St2llmError
from st2llm.types import Trajectory

PLT = "Geolife trajectory\nWGS 84\nAltitude is in Feet\nReserved 3\n0,2,255,My Track,0,0,2,8421376\n0\n"


def tracks(path: Path | str) -> list[Trajectory]:
    result = load_data(path)
    assert isinstance(result, list)
    return [trajectory for trajectory in result if isinstance(trajectory, Trajectory)]


def test_rows_become_one_trajectory_for_each_object_in_order_of_time(tmp_path: Path) -> None:
    head, *rows = WALKS.splitlines()
    result = tracks(write(tmp_path, "\n".join([head, *reversed(rows)]) + "\n"))
    assert [trajectory.id for trajectory in result] == ["bob", "ann"]
    assert all((np.diff(trajectory.time) == 3600).all() for trajectory in result)
    assert result[1].xy is not None
    np.testing.assert_array_equal(result[1].xy[2], [20, 10])


def test_a_split_by_object_keeps_the_trips_of_an_object_together(tmp_path: Path) -> None:
    rows = "who,when,east,north\n" + "".join(
        f"{who},2024-03-{day:02d}T{h:02d}:00:00,{h},{day}\n"
        for who in "abcdefgh"
        for day in (1, 3, 5)
        for h in range(12)
    )
    keys = {
        "harmonise": [{"trips": "6h"}],
        "split": {"by": "object", "train": 0.5, "validation": 0.25, "test": 0.25},
    }
    data = tracks(write(tmp_path, rows, **keys))
    assert len(data) == 24
    splits = st2llm.split(data, st2llm.tasks.forecast(history=4, horizon=2))
    whole = {trip.id: trip.whole_id for trip in data}
    people = [{whole[s.place[0]] for s in part} for part in (splits.train, splits.validation, splits.test)]
    assert [len(part) for part in people] == [4, 2, 2]
    assert set.union(*people) == set("abcdefgh")


def test_degrees_become_metres_from_the_centre(tmp_path: Path) -> None:
    text = "t,lon,lat\n2024-01-01,10.0,50.0\n2024-01-02,10.01,50.0\n"
    (trajectory,) = tracks(write(tmp_path, text, object=None, time="t", x=None, y=None, lon="lon", lat="lat"))
    assert trajectory.id == "all"
    assert trajectory.xy is not None
    np.testing.assert_allclose(trajectory.xy, [[-358.5, 0], [358.5, 0]], atol=1)
    assert trajectory.lonlat is not None
    assert "azimuthal equidistant" in trajectory.provenance.steps[0]


def test_each_object_may_be_its_own_origin(tmp_path: Path) -> None:
    text = "who,t,lon,lat\na,2024-01-01,10,50\na,2024-01-02,10,51\nb,2024-01-01,-100,0\nb,2024-01-02,-99,0\n"
    keys = {
        "object": "who",
        "time": "t",
        "x": None,
        "y": None,
        "lon": "lon",
        "lat": "lat",
        "origin": "object",
    }
    a, b = tracks(write(tmp_path, text, **keys))
    assert a.xy is not None
    assert b.xy is not None
    assert a.xy[0].tolist() == b.xy[0].tolist() == [0, 0]
    np.testing.assert_allclose([a.xy[1, 1], b.xy[1, 0]], [111_238, 111_319], rtol=1e-3)


def test_tables_with_labels_keep_their_objects_apart_and_parts_are_kept(tmp_path: Path) -> None:
    for name in ("one.txt", "two.txt"):
        (tmp_path / name).write_text("0 1 0.5 2\n10 1 1.5 3\n", encoding="utf-8")
    table = [
        {"file": "one.txt", "label": "north", "part": "train"},
        {"file": "two.txt", "label": "south", "part": "test"},
    ]
    path = write(
        tmp_path, None, table=table, header=False, columns=["f", "who", "x", "y"], separator="whitespace", x="x", y="y",
        time={"frame": "f", "fps": 25}, freq="0.4s", split={"by": "given"},
    )  # fmt: skip
    north, south = tracks(path)
    assert (north.id, north.label, south.id, south.label) == ("north/1", "north", "south/1", "south")
    assert north.time.tolist() == [0, 400]
    assert (north.unit_s, north.step) == (0.001, 400)
    assert north.part is not None
    assert south.part is not None
    assert (north.part.tolist(), south.part.tolist()) == ([0, 0], [2, 2])


def test_plt_files_of_a_user_are_one_track_and_their_folders_name_it(tmp_path: Path) -> None:
    for user, name, day in (("000", "a", 1), ("000", "b", 2), ("001", "a", 3)):
        folder = tmp_path / f"Data/{user}/Trajectory"
        folder.mkdir(parents=True, exist_ok=True)
        rows = "".join(f"39.9,116.3{i},0,492,39744.5,2008-10-{20 + day},02:53:0{i}\r\n" for i in range(3))
        (folder / f"{name}.plt").write_text(PLT + rows, encoding="utf-8")
    keys = {
        "object": None,
        "time": {"date": "date", "clock": "clock"},
        "x": None,
        "y": None,
        "lon": "lon",
        "lat": "lat",
    }
    result = tracks(write(tmp_path, None, table="Data/*/Trajectory/*.plt", **keys))
    assert [(trajectory.id, len(trajectory.time)) for trajectory in result] == [("000", 6), ("001", 3)]
    assert result[0].time[0] == pd.Timestamp("2008-10-21T02:53:00Z").timestamp()
    result = tracks(write(tmp_path, None, table="Data/*/Trajectory/*.plt", **{**keys, "object": "file"}))
    assert [trajectory.id for trajectory in result] == ["000/a", "000/b", "001/a"]


def test_stays_know_their_places_and_attributes(tmp_path: Path) -> None:
    text = "who,day,min,wd,place,dur\n1,0,60,2,7,30\n1,1,0,3,NA,\n"
    path = write(
        tmp_path, text, time={"day": "day", "minute": "min", "weekday": "wd"}, x=None, y=None, place="place",
        attributes={"duration_min": "dur"}, freq="any",
    )  # fmt: skip
    (trajectory,) = tracks(path)
    assert trajectory.place == ("7", "NA")
    np.testing.assert_array_equal(trajectory.attributes["duration_min"], [30, np.nan])
    assert trajectory.step == 0


def test_harmonisation_is_named_in_the_provenance(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        harmonise=[{"max_speed": 50}, {"trips": "6h"}, {"resample": {"step": "30min", "max_gap": "2h"}}],
    )
    result = tracks(path)
    assert [step.split()[0] for step in result[0].provenance.steps] == ["max_speed", "trips", "resample"]
    assert result[0].step == 1800
    assert (np.diff(result[0].time) == 1800).all()


def test_the_hash_names_the_card_and_the_rows(tmp_path: Path) -> None:
    first = tracks(write(tmp_path))[0].provenance.sha256
    assert tracks(write(tmp_path))[0].provenance.sha256 == first
    assert tracks(write(tmp_path, quantity="steps"))[0].provenance.sha256 != first
    assert tracks(write(tmp_path, WALKS.replace("1000", "1001")))[0].provenance.sha256 != first


def test_local_clocks_that_are_put_forward_lose_the_rows_that_never_were(tmp_path: Path) -> None:
    text = "who,when,east,north\n" + "".join(f"a,2024-03-10T{h:02d}:30,{h},0\n" for h in range(5))
    (trajectory,) = tracks(write(tmp_path, text, timezone="America/New_York"))
    assert len(trajectory.time) == 4
    assert (np.diff(trajectory.time) == 3600).all()
    assert "skips where clocks go forward" in trajectory.provenance.steps[0]


def test_a_track_of_one_fix_is_read_but_makes_no_sample(tmp_path: Path) -> None:
    data = st2llm.load_data(write(tmp_path, "who,when,east,north\na,2024-01-01,1,2\n"))
    with pytest.raises(DataError, match="the train part has"):
        st2llm.split(data, st2llm.tasks.forecast(1, 1))


@pytest.mark.parametrize(
    ("text", "keys", "message"),
    [
        ("", {}, "is empty"),
        ("who,when,east,north\n", {}, "has no rows"),
        ("who,when,east\na,2024-01-01,1\n", {}, "has no column 'north'"),
        (
            "who,when,east,north\na,2024-01-01,1,2\nb,2024-01",
            {},
            "row 2 has 2 cells, but 4 columns are expected",
        ),
        ("who,when,east,north\na,2024-01-01,1,\n", {}, "row 1 has no coordinates"),
        ("who,when,east,north\na,2024-01-01,1,2\na,2024-01-01,1,3\n", {}, "two rows at time"),
        ("who,when,east,north\n,2024-01-01,1,2\n", {}, "'who' is empty in row 1"),
        ("who,when,east,north\na,2024-01-01T00:00Z,1,2\na,2024-01-02,1,2\n", {}, "mixes timestamps"),
        ("who,when,east,north\na,then,1,2\n", {}, "row 1 holds 'then'"),
        ("who,when,east,north\na,2024-01-01,1,2\n", {"label": "east"}, "as text and as numbers"),
        (
            "who,when,east,north\na,2024-01-01,1,2\na,2024-01-02,1,2\n",
            {"label": "when"},
            "as text and as numbers",
        ),
        (
            "who,when,east,north,sort\na,2024-01-01,1,2,x\na,2024-01-02,1,2,y\n",
            {"label": "sort"},
            "differ in 'sort'",
        ),
        (
            "who,when,lon,lat\na,2024-01-01,39,116\n",
            {"x": None, "y": None, "lon": "lon", "lat": "lat"},
            "swapped?",
        ),
    ],
)
def test_a_faulty_table_gives_one_message(tmp_path: Path, text: str, keys: dict, message: str) -> None:
    with pytest.raises(DataError) as caught:
        load_data(write(tmp_path, text, **keys))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"x": None, "y": None}, "give `lon` and `lat`, `x` and `y`, or `place`"),
        ({"y": None}, "`x` with `y`"),
        ({"time": {"column": "when", "frame": "f", "fps": 5}}, "exactly one of"),
        ({"time": {"frame": "f"}}, "`frame` with `fps`"),
        ({"header": False}, "needs `columns`"),
        ({"freq": "soon"}, "a step such as"),
        ({"harmonise": [{"max_speed": 1, "jumps": 2}]}, "one step is expected"),
        ({"harmonise": [{"speed": 1}]}, "unknown key"),
        ({"frame": "scaled", "harmonise": [{"max_speed": 1}]}, "needs metres"),
        ({"split": {"by": "label", "train": 1.0}}, "needs `test`"),
        ({"split": {"train": 0.5, "test": ["a"]}}, "add `by: object`"),
        ({"known": ["rain"]}, "which is not an attribute"),
        ({"objekt": "who"}, "Did you mean 'object'?"),
    ],
)
def test_a_faulty_card_gives_one_message(tmp_path: Path, keys: dict, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_data(write(tmp_path, **keys))
    assert message in str(caught.value)


def test_a_table_that_lies_outside_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "rows.csv").write_text(WALKS, encoding="utf-8")
    with pytest.raises(DataError, match="leads out of"):
        load_data(write(tmp_path / "inner", None, table="../rows.csv"))


@pytest.mark.parametrize("pattern", ["../*.csv", "*.plt"])
def test_a_pattern_that_fits_nothing_inside_the_folder_is_refused(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "rows.csv").write_text(WALKS, encoding="utf-8")
    with pytest.raises(DataError):
        load_data(write(tmp_path / "inner", None, table=pattern))


@pytest.mark.parametrize("pattern", ["*.csv", "**/*.csv", "a/*.csv", "a/**/c.csv", "**/b/*", "[xc].csv"])
def test_the_files_that_a_pattern_finds_are_those_that_it_matches(tmp_path: Path, pattern: str) -> None:
    names = ["x.csv", "a/c.csv", "a/b/c.csv", "a/b/c.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = expand_pattern(tmp_path, pattern)
    assert found and found == sorted(name for name in names if matches_pattern(name, pattern))


@given(at=st.integers(0, len(WALKS) - 1), byte=st.integers(0, 255))
def test_mutated_rows_are_read_or_refused_and_never_break(
    at: int, byte: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = bytearray(WALKS[:400].encode())
    rows[at % len(rows)] = byte
    path = write(tmp_path_factory.mktemp("m"), bytes(rows))
    try:
        assert tracks(path)
    except St2llmError as error:
        assert "\n" not in str(error)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "keys", "message"),
    ids=["cut short", "swapped"],
    argvalues=[
        (gzip.compress(WALKS.encode())[:60], {}, "rows.csv is damaged"),
        (
            b"who,when,lon,lat\na,2024-01-01,39.9,116.3\n",
            {"x": None, "y": None, "lon": "lon", "lat": "lat"},
            "swapped?",
        ),
    ],
)
def test_the_command_line_tells_a_faulty_table_in_one_line(
    tmp_path: Path, rows: bytes, keys: dict, message: str
) -> None:
    path = write(tmp_path, rows, **keys)
    code = "import sys; from st2llm.cli import main; sys.exit(main(['data', 'show', sys.argv[1]]))"
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert {file.name for file in tmp_path.iterdir()} == {"rows.csv", "tiny-tracks.yaml"}


def test_a_step_that_no_two_fixes_have_is_refused_with_the_measured_one(tmp_path: Path) -> None:
    data = load_data(write(tmp_path, WALKS, freq="5min"))
    with pytest.raises(
        DataError, match="`freq` is 300s, but .* most .100%. are 3600s apart. Write `freq: 3600s`"
    ):
        st2llm.split(data, st2llm.tasks.forecast(history=4, horizon=2))


def test_stamps_with_the_month_first_are_refused_without_a_format(tmp_path: Path) -> None:
    rows = WALKS.replace("2024-03-01T", "03/01/2024 ").replace("2024-03-02T", "03/02/2024 ")
    with pytest.raises(DataError, match="Day and month cannot be told apart"):
        load_data(write(tmp_path, rows))
    (ann, _) = tracks(write(tmp_path, rows, time={"column": "when", "format": "%m/%d/%Y %H:%M:%S"}))
    assert str(ann.time[0].astype("datetime64[s]")) == "2024-03-01T00:00:00"
