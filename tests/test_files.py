"""Files appear whole or not at all, a folder has one writer, and what a kill left behind is removed."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from st2llm import files
from st2llm.errors import ConfigError, StorageError
from st2llm.files import (
    exclusive,
    is_locked,
    locked,
    nearest_file,
    remove_temporary,
    write_atomically,
    write_text,
)

HOLD = """
import sys, time
from pathlib import Path
from st2llm.files import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_content_and_name_are_on_the_disk_before_the_call_returns(tmp_path, monkeypatch):
    events, fsync, replace = [], os.fsync, files.Path.replace
    monkeypatch.setattr(
        os,
        "fsync",
        lambda handle: events.append(str(Path(f"/proc/self/fd/{handle}").readlink())) or fsync(handle),
    )
    monkeypatch.setattr(files.Path, "replace", lambda a, b: events.append("renamed") or replace(a, b))
    write_atomically(tmp_path / "x.txt", lambda file: file.write_text("new"))
    synced, renamed, folder = events
    assert synced.startswith(str(tmp_path / ".x.txt.")) and renamed == "renamed" and folder == str(tmp_path)


def test_a_folder_has_one_writer_and_is_left_as_it_was(tmp_path):
    folder = tmp_path / "a/run"
    with exclusive(folder):
        with pytest.raises(ConfigError, match="run is being written by another process"), exclusive(folder):
            raise AssertionError("two writers")
        (folder / "result.txt").write_text("x")
    assert [path.name for path in folder.iterdir()] == ["result.txt"]
    with exclusive(folder):
        pass
    with pytest.raises(ZeroDivisionError), exclusive(tmp_path / "failed"):
        raise ZeroDivisionError
    assert not (tmp_path / "failed").exists()


@pytest.mark.slow
def test_another_process_is_refused_until_the_writer_is_gone_even_when_it_was_killed(tmp_path):
    writer = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert writer.stdout is not None and writer.stdout.readline() == "held\n"
    with pytest.raises(ConfigError, match="being written by another process"), exclusive(tmp_path):
        raise AssertionError("two writers")
    writer.kill()
    writer.wait()
    writer.stdout.close()
    time.sleep(0.1)
    with exclusive(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_be_a_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="file is a file, but a folder"), exclusive(tmp_path / "file"):
        raise AssertionError("held a file")
    with pytest.raises(StorageError, match="could not be written"), exclusive(tmp_path / "file/below"):
        raise AssertionError("held a folder below a file")


def test_what_a_kill_left_is_removed_and_nothing_else(tmp_path):
    for name in (
        ".run.json.a1b2c3d4.json",
        "arms/.k.json.a_b2c3d4.json",
        ".last.x9y8z7w6/state.json",
        ".best.abcd_123/x",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("half")
    kept = (".last.old/state.json", ".lock", ".hidden.json", "arms/k.json", "last/state.json")
    for name in kept:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    remove_temporary(tmp_path)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == sorted(kept)


def test_a_missing_file_is_answered_with_the_nearest_name_of_its_kind_in_its_folder(tmp_path):
    for name in ("readings.csv", "readings.yaml"):
        (tmp_path / name).touch()
    assert nearest_file(tmp_path / "reading.csv") == f" Did you mean {str(tmp_path / 'readings.csv')!r}?"
    assert nearest_file(tmp_path / "positions.csv") == ""
    assert nearest_file(tmp_path / "gone" / "reading.csv") == ""


LOCK = """
import sys, time
from pathlib import Path
from st2llm.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_is_waited_for_and_ends_with_the_process_that_held_it(tmp_path):
    path = tmp_path / "job.lock"
    holder = subprocess.Popen([sys.executable, "-c", LOCK, path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    assert is_locked(path)
    waited = []

    def kill():
        waited.append(True)
        holder.kill()

    with locked(path, kill):
        assert waited == [True] and is_locked(path)
    holder.wait()
    holder.stdout.close()
    assert not is_locked(path)
    with locked(path, kill):
        assert waited == [True], "a free lock is not waited for"


def test_a_lock_that_cannot_be_made_names_its_path(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not be locked"), locked(tmp_path / "file/job.lock"):
        pass
    assert not is_locked(tmp_path / "nothing.lock")


def test_text_is_written_in_utf_8_and_replaces_a_file_as_a_whole(tmp_path):
    path = tmp_path / "page.md"
    write_text(path, "old, and longer than the new text\n")
    write_text(path, "größer – 5 °C\n")
    assert path.read_bytes() == "größer – 5 °C\n".encode()
    assert [file.name for file in tmp_path.iterdir()] == ["page.md"]
    with pytest.raises(StorageError, match=re.escape(str(tmp_path / "page.md" / "x"))):
        write_text(path / "x", "a file is no folder")
