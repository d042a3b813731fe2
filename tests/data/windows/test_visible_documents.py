"""The documents that the samples of each kind of data show."""

from pathlib import Path

import pytest
import yaml
from support import csv_files, video_files

import st2llm
from st2llm.data import load_data

DOCUMENTS = {"table": "news.csv", "text": "words", "published": "out", "place": "where", "limit": 100}
ALL = {"train": 1.0}


def news(folder: Path, times: list[str], places: list[str]) -> None:
    rows = [f"{time},{place},At {time} in {place or 'all'}." for time in times for place in places]
    (folder / "news.csv").write_text("out,where,words\n" + "\n".join(rows) + "\n", encoding="utf-8")


def shown_places(samples) -> set[str]:
    """The places of all documents of some samples, each of which shows all that was published and nothing later."""
    places = set()
    for sample in samples:
        published = [document.published for document in sample.side.documents]
        assert all(time <= sample.last_known_time for time in published)
        places |= {document.place for document in sample.side.documents}
    return places


def test_tracks_show_documents_about_their_object_and_about_all(tmp_path: Path):
    news(tmp_path, [f"2024-03-01T{hour:02d}:30" for hour in range(0, 24, 3)], ["", "ann", "bob"])
    data = load_data(csv_files.write(tmp_path, split=ALL, side={"documents": DOCUMENTS}))
    train = st2llm.split(data, st2llm.tasks.forecast(history=4, horizon=2), stride=3).train
    for sample in train:
        assert shown_places([sample]) <= {"", sample.place[0]}
        past = [time for time in _times(data[0]) if time <= sample.last_known_time]
        assert len(sample.side.documents) == 2 * len(past)


def test_events_show_what_was_published_at_the_last_event_never_what_the_next_one_brings(tmp_path: Path):
    rows = "when,east,north\n" + "".join(f"2024-03-{day:02d}T06:00,{day},1\n" for day in range(1, 29))
    news(tmp_path, [f"2024-03-{day:02d}T07:00" for day in range(1, 29)], [""])
    card = csv_files.write(tmp_path, rows, csv_files.EVENT, split=ALL, side={"documents": DOCUMENTS})
    samples = st2llm.split(load_data(card), st2llm.tasks.next_event(history=3)).train
    assert shown_places(samples) == {""}
    for sample in samples:  # news of the morning of the last event came out an hour after it
        assert sample.side.documents[0].published == int(sample.time[-2]) - 23 * 3600


def test_clips_show_what_was_said_by_the_last_visible_frame(tmp_path: Path):
    for name in ("a", "b"):
        video_files.write(tmp_path / f"{name}.mkv", video_files.square_film(75))
    (tmp_path / "news.csv").write_text("out,where,words\n1,a,One.\n2,a,Two.\n0,b,Other.\n", encoding="utf-8")
    card = {
        "name": "films",
        "kind": "video",
        "files": "*.mkv",
        "split": ALL,
        "side": {"documents": DOCUMENTS},
    }
    (tmp_path / "films.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")
    data = load_data(tmp_path / "films.yaml")
    train = st2llm.split(data, st2llm.tasks.forecast(history=26, horizon=5), stride=5).train
    by_start = {sample.id: [document.text for document in sample.side.documents] for sample in train}
    assert by_start["films/a/0"] == ["One."] and by_start["films/b/0"] == ["Other."]
    at = train[0].at(train[0].place[2])
    assert at.side.documents == train[0].side.documents


def test_clips_have_no_other_side_information(tmp_path: Path):
    notes = {"file": "n.csv", "start": "a", "end": "b", "text": "c"}
    card = {"name": "films", "kind": "video", "files": "*.mkv", "side": {"notes": notes}}
    (tmp_path / "films.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")
    with pytest.raises(st2llm.ConfigError, match="clips have `documents` alone"):
        load_data(tmp_path / "films.yaml")


def _times(data) -> list[int]:
    return [document.published for document in data.documents.items if not document.place]
