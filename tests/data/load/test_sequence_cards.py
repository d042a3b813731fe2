"""The cards of trajectories and events, against the real files where they are here."""

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import st2llm
from st2llm import tasks
from st2llm.data import card, card_path, positions
from st2llm.data.card.sequence import SequenceCard
from st2llm.data.windows import cut_parts, sequences
from st2llm.types import Events, Trajectory

HERE = [
    "eth-ucy", "geolife-stays", "foursquare-nyc", "geolife-sample", "san-jacinto", "nyc-crime",
]  # fmt: skip
FROM_WHEELS = ["ibtracs-wmo", "taiwan-dengue"]
real = pytest.mark.skipif(
    not (Path(os.environ.get("ST2LLM_DATA", "nowhere")) / "trajectory/eth_ucy").is_dir(),
    reason="needs the real files",
)


load = cache(st2llm.load_data)
"""Data are not changed by what reads them: each file is read once."""


def tracks(name: str) -> list[Trajectory]:
    result = load(name)
    assert isinstance(result, list)
    return [trajectory for trajectory in result if isinstance(trajectory, Trajectory)]


def events(name: str) -> Events:
    result = load(name)
    assert isinstance(result, Events)
    return result


@pytest.mark.parametrize("name", HERE + FROM_WHEELS)
def test_a_card_says_where_data_are_from_and_what_they_may_be_used_for(name: str) -> None:
    result = card.read_card(card_path(name))
    assert isinstance(result, SequenceCard)
    assert result.source is not None
    assert all(result.source.files.values())
    assert set(result.files()) <= {Path(file).name for file in result.source.files}
    assert result.licence
    assert result.citation
    assert result.leakage
    assert result.description
    assert len(tasks.from_config(result.default_task)) == 1


@real
@pytest.mark.parametrize(
    ("scene", "windows", "ade", "fde"),
    [
        ("eth", 364, 1.075, 2.282),
        ("hotel", 1197, 0.319, 0.614),
        ("univ", 24334, 0.524, 1.165),
        ("zara1", 2356, 0.427, 0.952),
        ("zara2", 5910, 0.324, 0.724),
    ],
)
def test_eth_ucy_leaves_one_scene_out_with_the_published_windows(
    scene: str, windows: int, ade: float, fde: float
) -> None:
    train, _, test = cut_parts(load(f"eth-ucy#{scene}"), tasks.forecast(8, 12))
    assert len(test) == windows
    assert isinstance(test, sequences.SequenceWindows)
    error = constant_velocity_error(test)
    assert error.mean() == pytest.approx(ade, abs=6e-4)
    assert error[:, -1].mean() == pytest.approx(fde, abs=6e-4)
    scenes = {sample.place[0].split("/")[0] for sample in (test[i] for i in range(0, windows, 97))}
    learnt = {sample.place[0].split("/")[0] for sample in (train[i] for i in range(0, len(train), 997))}
    assert not scenes & learnt


@pytest.mark.slow
@real
def test_the_windows_of_at_least_two_pedestrians_are_those_of_social_gan() -> None:
    errors = []
    for scene in ("eth", "hotel", "univ", "zara1", "zara2"):
        _, _, test = cut_parts(load(f"eth-ucy#{scene}"), tasks.forecast(8, 12))
        assert isinstance(test, sequences.SequenceWindows)
        error = constant_velocity_error(sequences.with_company(test))
        errors.append([error.mean(), error[:, -1].mean()])
    np.testing.assert_allclose(np.mean(errors, axis=0), [0.520, 1.141], atol=6e-4)


def constant_velocity_error(part: sequences.SequenceWindows) -> np.ndarray:
    """Metres between the truth and going on as in the last step, by window and step."""
    assert isinstance(part.source, sequences.TrajectoryWindows)
    xy = np.concatenate([track.xy for track in part.source.objects if track.xy is not None])
    window = xy[part.rows[:, None] + np.arange(20)]
    step = window[:, 7] - window[:, 6]
    guess = window[:, 7, None] + step[:, None] * np.arange(1, 13)[None, :, None]
    return np.asarray(np.linalg.norm(guess - window[:, 8:], axis=-1))


@real
@pytest.mark.parametrize(
    ("name", "stays", "objects", "places", "questions", "top"),
    [("geolife-stays", 16622, 45, 1182, 3459, 0.3620), ("foursquare-nyc", 95372, 535, 3817, 12141, 0.2446)],
)
def test_next_place_asks_llm_mob_s_questions(
    name: str, stays: int, objects: int, places: int, questions: int, top: float
) -> None:
    data = tracks(name)
    assert (len(data), sum(len(trajectory.time) for trajectory in data)) == (objects, stays)
    _, _, test = cut_parts(data, tasks.next_place())
    assert len(test) == questions
    assert len(test[0].side.options) == places
    assert isinstance(test, sequences.SequenceWindows)
    right = sum(commonest(test, row) for row in test.rows)
    assert right / questions == pytest.approx(top, abs=6e-5)


def commonest(part: sequences.SequenceWindows, row: int) -> bool:
    """Whether the commonest place of the history (of the first where several are) is the right one."""
    visits = part.source
    assert isinstance(visits, sequences.NextPlaceWindows)
    track, at = visits.windows.locate(int(row))
    assert track.part is not None
    assert track.place is not None
    history = [track.place[i] for i in np.flatnonzero(track.part < 2)[-40:]]
    return max(dict.fromkeys(history), key=history.count) == track.place[at]


@real
def test_samples_of_next_place_hold_history_and_context_of_the_last_week() -> None:
    test = st2llm.split(load("geolife-stays"), tasks.next_place()).test
    for index in range(0, len(test), 331):
        sample = test[index]
        day = sample.time // 86_400
        context = (day[:-1] >= day[-1] - 7) & (np.arange(len(day) - 1) >= len(day) - 6)
        assert 3 <= context.sum() <= 5
        assert len(sample.time) - 1 - context.sum() <= 40
        assert sample.label == sample.side.options[int(np.nanmax(sample.truth))]


@real
def test_the_stamps_of_geolife_stays_fall_on_their_weekdays() -> None:
    first = tracks("geolife-stays")[0]
    assert (first.time[0] // 86_400 + 3) % 7 == 3
    assert first.time[0] % 86_400 == 183 * 60


@real
def test_the_geolife_sample_is_put_on_a_minute_and_says_how() -> None:
    data = tracks("geolife-sample")
    assert {trajectory.id[:3] for trajectory in data} == {"001", "005"}
    assert all(
        (np.diff(trajectory.time) == 60).all()
        for trajectory in data
        if len(trajectory.time) > 1 and trajectory.step == 60 and trajectory.id == "001/2"
    )
    steps = data[0].provenance.steps
    assert [step.split()[0] for step in steps[-4:]] == ["max_speed", "trips", "resample", "shortest"]
    speed = np.concatenate([positions.step_lengths_m(trajectory.lonlat, None) for trajectory in data]) / 60
    assert np.percentile(speed, 99.5) < 60


@real
def test_earthquakes_lie_in_metres_where_their_degrees_say() -> None:
    data = events("san-jacinto")
    assert len(data.time) == 21291
    assert data.lonlat is not None
    assert data.xy is not None
    assert np.abs(data.xy - positions.metres_from(positions.centroid(data.lonlat), data.lonlat)).max() < 150
    assert data.magnitude is not None
    assert data.magnitude.min() >= 1


@real
def test_crimes_are_read_from_the_zip_by_the_clock_of_new_york() -> None:
    data = events("nyc-crime")
    assert len(data.time) == 191580
    assert data.marks == ("BURGLARY", "FELONY ASSAULT", "GRAND LARCENY", "ROBBERY")
    assert np.bincount(np.asarray(data.mark)).tolist() == [31799, 40429, 85899, 33453]
    assert data.window == (1388552400, 1451624400)
    assert "60 rows at local times that occur twice in America/New_York" in data.provenance.steps[0]


@real
@pytest.mark.parametrize("name", HERE)
def test_the_default_task_makes_samples_in_every_part(name: str) -> None:
    data = load(name)
    trajectory = data[0] if isinstance(data, list) else data
    splits = st2llm.split(data, tasks.from_config(trajectory.default_task)[0])
    for part in (splits.train, splits.validation, splits.test):
        for index in np.linspace(0, len(part) - 1, 10).astype(int):
            sample = part[int(index)]
            assert sample.wanted.any()
            assert np.isfinite(sample.truth[sample.wanted]).all()
            assert np.isnan(sample.values[sample.wanted]).all()
            assert not (sample.visible & sample.wanted).any()
    ids = [splits.test[i].id for i in range(200)] if len(splits.test) >= 200 else []
    assert len(set(ids)) == len(ids)


@pytest.mark.slow
def test_cyclones_are_read_from_the_wheel() -> None:
    data = tracks("ibtracs-wmo")
    assert (len(data), sum(len(trajectory.time) for trajectory in data)) == (4736, 149_703)
    assert data[0].xy is not None
    assert data[0].xy[0].tolist() == [0, 0]
    assert np.isnan(
        np.concatenate([trajectory.attributes["wind_kn"] for trajectory in data])
    ).mean() == pytest.approx(0.2817, abs=1e-3)
    assert all(
        np.abs(trajectory.lonlat[:, 0]).max() <= 180 for trajectory in data if trajectory.lonlat is not None
    )


@pytest.mark.slow
def test_cases_of_dengue_are_read_from_the_wheel() -> None:
    data = events("taiwan-dengue")
    assert len(data.time) == 107_117 - 787
    assert data.marks == ("N", "Y")
    assert (np.diff(data.time) % 86_400 == 0).all()
