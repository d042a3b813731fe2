"""GPX tracks and GeoJSON points and lines, as trajectories and events."""

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from st2llm.data import load_data
from st2llm.errors import DataError
from st2llm.types import Events, Trajectory

HEAD = '<?xml version="1.0"?><gpx version="1.1" xmlns="http://www.topografix.com/GPX/1/1">'
WALK = (
    HEAD
    + '<wpt lat="1" lon="1"><name>Car</name><time>2020-01-01T00:00:00Z</time></wpt><trk><name>Morning</name><trkseg>'
    '<trkpt lat="47.1" lon="8.5"><ele>400.5</ele><time>2024-05-01T06:00:00Z</time></trkpt>'
    '<trkpt lat="47.2" lon="8.6"><ele>410</ele><time>2024-05-01T06:01:00Z</time></trkpt></trkseg><trkseg>'
    '<trkpt lat="47.3" lon="8.7"><time>2024-05-01T07:00:00.500Z</time></trkpt></trkseg></trk></gpx>'
)
TWO = WALK.replace("</gpx>", WALK[len(HEAD) :].partition("</wpt>")[2].replace("Morning", "Evening"))


def _load(folder: Path, kind: str, **keys: Any) -> Any:
    path = folder / "points.yaml"
    path.write_text(yaml.safe_dump({"name": "points", "kind": kind, **keys}), encoding="utf-8")
    return load_data(path)


def _tracks(folder: Path, **keys: Any) -> list[Trajectory]:
    return list(_load(folder, "trajectory", **keys))


def test_a_gpx_track_needs_no_more_than_its_name(tmp_path: Path) -> None:
    (tmp_path / "walk.gpx").write_text(WALK, encoding="utf-8")
    (track,) = _tracks(tmp_path, table="walk.gpx", attributes=["ele"])
    assert track.id == "Morning"
    assert track.lonlat is not None
    np.testing.assert_allclose(track.lonlat, [[8.5, 47.1], [8.6, 47.2], [8.7, 47.3]])
    assert [str(t) for t in track.time.astype("datetime64[s]")] == [
        "2024-05-01T06:00:00",
        "2024-05-01T06:01:00",
        "2024-05-01T07:00:00",
    ]
    np.testing.assert_array_equal(track.attributes["ele"], [400.5, 410, np.nan])


def test_tracks_of_several_files_stay_apart_though_their_names_are_equal(tmp_path: Path) -> None:
    for folder in ("ann", "bob"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mon.gpx").write_text(WALK, encoding="utf-8")
    (tmp_path / "ann" / "two.gpx.gz").write_bytes(gzip.compress(TWO.encode()))
    names = [track.id for track in _tracks(tmp_path, table=["*/*.gpx", "ann/two.gpx.gz"])]
    assert names == ["ann/mon", "bob/mon", "ann/two/Morning", "ann/two/Evening"]
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as bundle:
        bundle.writestr("mon.gpx", WALK)
        bundle.writestr("tue.gpx", WALK)
    both = _tracks(tmp_path, table=["all.zip:mon.gpx", "all.zip:tue.gpx"])
    assert [track.id for track in both] == ["mon", "tue"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (WALK.replace("<time>2024-05-01T06:01:00Z</time>", ""), "column 'time' is empty in row 2"),
        (HEAD + '<wpt lat="1" lon="2"/></gpx>', "has no track point"),
        (
            WALK.replace('lon="8.6"', 'lon="east"'),
            "track point 2 should have lon in degrees, but it is 'east'",
        ),
        (WALK.replace('lon="8.6"', 'lon="inf"'), "column 'lon' holds inf in row 2"),
        (WALK[:-40], "walk.gpx is not XML"),
        ("<html></html>", "should be GPX, but its first element is 'html'"),
        (
            WALK.replace('version="1.0"?>', 'version="1.0"?><!DOCTYPE gpx [<!ENTITY a "b">]>'),
            "declares a document type",
        ),
    ],
)
def test_a_gpx_file_that_does_not_fit_is_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "walk.gpx").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        _tracks(tmp_path, table="walk.gpx")


def _point(lon: Any, lat: Any, **properties: Any) -> dict[str, Any]:
    geometry = None if lon is None else {"type": "Point", "coordinates": [lon, lat]}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _write(folder: Path, *features: Any, **more: Any) -> None:
    content = {"type": "FeatureCollection", "features": list(features), **more}
    (folder / "f.geojson").write_text(json.dumps(content), encoding="utf-8")


QUAKES = [
    _point(-122.1, 37.5, when="2024-01-02T00:00:00Z", mag=4.5, sort="quake", code=7),
    _point(-121.9, 37.6, when="2024-01-01T00:00:00Z", mag=None, sort="blast", code="007"),
]


def test_geojson_points_with_properties_are_events(tmp_path: Path) -> None:
    _write(tmp_path, *QUAKES)
    data = _load(
        tmp_path, "event", table="f.geojson", time="when", magnitude="mag", mark="sort", object="code"
    )
    assert isinstance(data, Events)
    assert data.lonlat is not None
    assert data.lonlat.tolist() == [[-121.9, 37.6], [-122.1, 37.5]]
    np.testing.assert_array_equal(data.magnitude, [np.nan, 4.5])
    assert [data.marks[code] for code in data.mark] == ["blast", "quake"]
    assert [data.objects[code] for code in data.object] == ["007", "7"]


def test_numbers_since_1970_are_times_of_geojson_points(tmp_path: Path) -> None:
    _write(tmp_path, _point(1, 2, t=1_700_000_000_000), _point(1, 3, t=1_700_000_001_000))
    data = _load(tmp_path, "event", table="f.geojson", time={"column": "t", "unit": "ms"})
    assert data.time.tolist() == [1_700_000_000, 1_700_000_001]


def test_geojson_lines_with_times_are_trajectories(tmp_path: Path) -> None:
    times = ["2024-05-01T06:00:00Z", "2024-05-01T06:01:00Z"]
    line = {"type": "LineString", "coordinates": [[8.5, 47.1, 400], [8.6, 47.2, 410]]}
    lines = {"type": "MultiLineString", "coordinates": [[[1, 2]], [[3, 4]]]}
    own = {"coordinateProperties": {"times": [[times[0]], [times[1]]]}}
    _write(
        tmp_path,
        {"type": "Feature", "id": "ann", "geometry": line, "properties": {"coordTimes": times}},
        {"type": "Feature", "geometry": lines, "properties": own},
    )
    first, second = _tracks(tmp_path, table="f.geojson", attributes=["ele"])
    assert (first.id, second.id) == ("ann", "2")
    assert first.attributes["ele"].tolist() == [400, 410]
    assert second.lonlat is not None
    assert second.lonlat.tolist() == [[1, 2], [3, 4]]
    assert np.diff(second.time).tolist() == [60]


@pytest.mark.parametrize(
    ("features", "more", "message"),
    [
        ([_point(500_000, 4_400_000, when="2024-01-01")], {}, r"Are these metres\?"),
        ([_point(None, None, when="2024-01-01")], {}, "row 1 has no coordinates"),
        ([_point("1", 2, when="2024-01-01")], {}, "feature 1 should have positions"),
        (
            [_point(1, 2, when="2024-01-01")],
            {"crs": {"properties": {"name": "EPSG:3857"}}},
            "coordinate system",
        ),
        (
            [{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": []}}],
            {},
            "feature 1 is a Polygon",
        ),
        ([_point(1, 2)], {}, "has no column 'when'"),
        (
            [_point(1, 2, when="2024-01-01", mag="big")],
            {},
            "'mag' should hold numbers, but point 1 holds 'big'",
        ),
        ([_point(10**400, 2, when="2024-01-01")], {}, "a coordinate that is too large"),
    ],
)
def test_a_geojson_file_that_does_not_fit_is_one_clear_error(
    tmp_path: Path, features: list[Any], more: dict[str, Any], message: str
) -> None:
    for feature in features:
        feature.setdefault("properties", {}).setdefault("mag", 1)
    _write(tmp_path, *features, **more)
    with pytest.raises(DataError, match=message):
        _load(tmp_path, "event", table="f.geojson", time="when", magnitude="mag")


def test_points_without_an_object_are_not_taken_for_tracks(tmp_path: Path) -> None:
    _write(tmp_path, *QUAKES)
    with pytest.raises(DataError, match="name the property that identifies their object under `object`"):
        _tracks(tmp_path, table="f.geojson", time="when")
    lines = {"type": "LineString", "coordinates": [[1, 2], [3, 4]]}
    _write(tmp_path, {"type": "Feature", "geometry": lines, "properties": {"times": ["2024-01-01"]}})
    with pytest.raises(DataError, match="feature 1 has 2 positions, but 1 times"):
        _tracks(tmp_path, table="f.geojson")


def test_json_that_is_no_geojson_is_refused(tmp_path: Path) -> None:
    for text, message in (
        ("[" * 100_000, "is not JSON"),
        ("{", "is not JSON"),
        ("[1]", "should be a GeoJSON"),
    ):
        (tmp_path / "f.geojson").write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=message):
            _load(tmp_path, "event", table="f.geojson")
