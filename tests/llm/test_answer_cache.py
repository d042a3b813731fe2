"""The file of cached answers: with several writers, after kills and with damage."""

import math
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest

from st2llm.errors import StorageError
from st2llm.llm.answer_cache import AnswerStore
from st2llm.types import Answer, Decoding

SAMPLED = Decoding(draws=3, temperature=0.7, seed=4)
ANSWER = Answer(
    "1,2\u2028é", 9, 3, 0.25, logprob=-1.5, prompt_sha256="ab", draw=2, tokens_shared=4, finish="length"
)


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


# the file


def test_an_answer_comes_back_as_it_went_in_but_for_being_cached(store):
    store.put([(key(1), ANSWER)])
    assert store.get([key(1), key(2)]) == {key(1): replace(ANSWER, cached=True)}


@pytest.mark.parametrize("logprob", [None, -math.inf, 1e-300])
def test_any_log_probability_comes_back(store, logprob):
    store.put([(key(1), replace(ANSWER, logprob=logprob))])
    assert store.get([key(1)])[key(1)].logprob == logprob


def test_more_keys_than_one_question_to_sqlite_holds_are_found(store):
    store.put((key(i), replace(ANSWER, draw=i)) for i in range(1203))
    found = store.get([key(i) for i in range(1300)])
    assert [found[key(i)].draw for i in range(1203)] == list(range(1203))
    assert len(found) == len(store) == 1203


def test_the_first_answer_of_a_key_stays(store):
    store.put([(key(1), replace(ANSWER, text="first"))])
    store.put([(key(1), replace(ANSWER, text="second")), (key(2), ANSWER)])
    assert store.get([key(1)])[key(1)].text == "first"
    assert len(store) == 2


def test_a_put_that_fails_keeps_nothing_of_it_and_the_store_goes_on(store):
    def half():
        yield key(1), ANSWER
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.put(half())
    assert len(store) == 0
    store.put([(key(1), ANSWER)])
    assert len(store) == 1


def test_answers_are_there_when_the_file_is_opened_again(tmp_path):
    path = tmp_path / "new/folder/answers.sqlite3"
    with AnswerStore(path) as one:
        one.put([(key(1), ANSWER)])
    with AnswerStore(path) as two:
        assert two.get([key(1)])[key(1)].text == ANSWER.text


def test_two_stores_of_one_process_see_what_the_other_puts(store):
    with AnswerStore(store.path) as other:
        other.put([(key(1), ANSWER)])
        assert key(1) in store.get([key(1)])


# several processes, kills

WRITER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from st2llm.llm.answer_cache import AnswerStore
    from st2llm.types import Answer

    path, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    with AnswerStore(path) as store:
        print("open", flush=True)
        sys.stdin.readline()
        for i in range(first, first + count):
            store.put([(i.to_bytes(32, "big"), Answer(f"answer {i} " + "x" * 2000, 1, 1, 0.1))])
            print(i, flush=True)
    """
)


def writer(path, first, count):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(first), str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def started(processes):
    """Lets all begin at the same moment, once each has opened the file."""
    for process in processes:
        assert process.stdout.readline() == "open\n", process.stderr.read()
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()


@pytest.mark.slow
def test_two_processes_that_write_at_once_lose_nothing(tmp_path):
    path = tmp_path / "answers.sqlite3"
    both = [writer(path, 0, 400), writer(path, 200, 400)]
    started(both)
    for process in both:
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, "")
    with AnswerStore(path) as store:
        found = store.get([key(i) for i in range(600)])
        assert len(store) == 600
        assert all(found[key(i)].text.startswith(f"answer {i} x") for i in range(600))


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 7, 60])
def test_after_a_kill_the_file_opens_and_holds_every_answer_whose_put_had_returned(tmp_path, after):
    path = tmp_path / "answers.sqlite3"
    process = writer(path, 0, 10**6)
    started([process])
    said = [process.stdout.readline() for _ in range(after)]
    process.send_signal(signal.SIGKILL)
    said += process.stdout.readlines()
    process.communicate(timeout=60)
    returned = [int(line) for line in said if line.endswith("\n")]
    assert process.returncode == -signal.SIGKILL
    assert len(returned) >= after
    with AnswerStore(path) as store:
        found = store.get([key(i) for i in returned])
        assert sorted(found) == sorted(key(i) for i in returned)
        assert len(store) - len(returned) in (0, 1)  # one may have been put, but not told
    assert [p.name for p in tmp_path.glob("*damaged*")] == []


@pytest.mark.slow
def test_a_kill_while_another_process_writes_leaves_the_other_one_unharmed(tmp_path):
    path = tmp_path / "answers.sqlite3"
    killed, other = writer(path, 10**6, 10**6), writer(path, 0, 150)
    started([killed, other])
    for _ in range(5):
        killed.stdout.readline()
    killed.kill()
    killed.communicate(timeout=60)
    _, errors = other.communicate(timeout=120)
    assert (other.returncode, errors) == (0, "")
    with AnswerStore(path) as store:
        assert len(store.get([key(i) for i in range(150)])) == 150


# damage


def filled(path, count=300):
    with AnswerStore(path) as store:
        store.put((key(i), replace(ANSWER, text=f"answer {i} " + "x" * 500)) for i in range(count))
    return path


def test_a_file_that_is_no_database_is_set_aside_with_a_warning_and_not_lost(tmp_path):
    path = tmp_path / "answers.sqlite3"
    path.write_bytes(b"\0" * 5000)
    with (
        pytest.warns(UserWarning, match="is damaged .*moved to .*; 0 answers"),
        AnswerStore(path) as store,
    ):
        store.put([(key(1), ANSWER)])
        assert len(store) == 1
    (aside,) = tmp_path.glob("*.damaged-*")
    assert aside.read_bytes() == b"\0" * 5000


def test_what_can_be_read_in_a_damaged_file_is_taken_over(tmp_path):
    path = filled(tmp_path / "answers.sqlite3")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = os.urandom(4096)
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="is damaged"), AnswerStore(path) as store:
        found = store.get([key(i) for i in range(300)])
        assert 250 < len(found) < 300
        assert all(found[key(i)].text.startswith(f"answer {i} x") for i in range(300) if key(i) in found)
    with AnswerStore(path) as again:  # and no warning any more
        assert len(again) == len(found)


def test_a_file_that_was_cut_short_is_set_aside(tmp_path):
    path = filled(tmp_path / "answers.sqlite3")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.warns(UserWarning, match="is damaged"), AnswerStore(path) as store:
        store.put([(key(999), ANSWER)])
        assert key(999) in store.get([key(999)])
    assert len(list(tmp_path.glob("*.damaged-*"))) == 1


def test_files_damaged_in_the_same_second_are_set_aside_under_different_names(tmp_path):
    path = tmp_path / "answers.sqlite3"
    for content in (b"one" * 500, b"two" * 500):
        path.write_bytes(content)
        with pytest.warns(UserWarning, match="is damaged"):
            AnswerStore(path).close()
        path.unlink()
    assert {p.read_bytes()[:3] for p in tmp_path.glob("*.damaged-*") if p.stat().st_size == 1500} == {
        b"one",
        b"two",
    }


def test_a_database_of_another_program_is_refused_and_left_as_it_is(tmp_path):
    path = tmp_path / "places.sqlite3"
    with sqlite3.connect(path) as file:
        file.execute("CREATE TABLE place (name TEXT)")
    file.close()
    before = path.read_bytes()
    with pytest.raises(StorageError, match="a database of another program"):
        AnswerStore(path)
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_an_error_that_says_what_to_do(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="ST2LLM_ANSWERS=off"):
        AnswerStore(tmp_path / "file/answers.sqlite3")


def test_a_full_disk_is_an_error_that_says_what_to_do_and_keeps_what_was_there(store):
    store.put([(key(0), ANSWER)])
    pages = store._database.execute("PRAGMA page_count").fetchone()[0]
    store._database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageError, match="full.*Free space"):
        store.put((key(i), ANSWER) for i in range(1, 500))
    assert len(store) == 1
    store._database.execute("PRAGMA max_page_count = 100000")
    store.put([(key(1), ANSWER)])
    assert len(store) == 2
