"""The run card holds what it takes to run again, and to tell whether it was the same."""

import subprocess
from dataclasses import replace

import numpy as np
import pytest
from support import tiny_suite

from st2llm.config.suite import Suite
from st2llm.data import load_data
from st2llm.data.windows import split
from st2llm.evaluate.run.data_summary import data_sha256
from st2llm.evaluate.run.inputs import Inputs, TaskData
from st2llm.evaluate.run.progress import NO_PROGRESS
from st2llm.evaluate.run.run_card import CodeState, code_state, environment, run_card
from st2llm.types import Note


@pytest.fixture(scope="module")
def town(card):
    return load_data(str(card))


def card_of(town, **changes):
    suite = Suite.model_validate(tiny_suite.rules("town", **changes))
    task = suite.tasks[0]
    splits = split(town, task, stride=24)
    return run_card(Inputs(suite, TaskData(town, task, splits), NO_PROGRESS)), splits


def test_every_promised_field_is_there(town):
    found, splits = card_of(town)
    promised = {"environment", "config", "config_sha256", "seeds", "commit", "data_sha256", "split_sha256"}
    assert promised <= set(found)
    assert found["split_sha256"] == splits.sha256
    assert found["seeds"] == [0]
    assert found["tasks"] == ["forecast-48-24"]
    assert found["llm"] is None
    assert found["split"] == {
        "train": 38,
        "validation": 14,
        "test": 22,
        "selected": [sample.id for sample in splits.test],
    }


def test_the_config_is_the_whole_suite_and_loads_again(town):
    found, _ = card_of(town)
    assert Suite.model_validate(found["config"]).bootstrap.draws == 200


def test_the_hash_of_the_config_changes_with_every_setting(town):
    same, again, other = (card_of(town, **c)[0]["config_sha256"] for c in ({}, {}, {"seeds": [1]}))
    assert same == again != other


def test_it_says_whether_higher_is_better(town):
    directions = {m: card_of(town, primary_metric=m)[0]["suite"]["higher_is_better"] for m in ("mae", "r2")}
    assert directions == {"mae": False, "r2": True}


@pytest.mark.parametrize(
    "change",
    [
        lambda data: {"values": np.where(np.isnan(data.values), 1.0, data.values)},
        lambda data: {"time": data.time + 3600},
        lambda data: {"places": (*data.places[:-1], "elsewhere")},
        lambda data: {"notes": (Note(0, 1, "a note"),)},
    ],
    ids=["values", "time", "places", "notes"],
)
def test_the_hash_of_the_data_changes_with_all_that_is_read(town, change):
    assert data_sha256(replace(town, **change(town))) != data_sha256(town)
    assert data_sha256(replace(town)) == data_sha256(town)


def test_places_are_listed_with_coordinates_and_edges_by_index(town):
    found = card_of(town)[0]["data"]
    assert [place["label"] for place in found["places"]] == list(tiny_suite.PLACES)
    assert found["places"][1]["lat"] == -36.848
    assert all(source < 3 and target < 3 for source, target, _ in found["edges"])


def test_places_without_coordinates_are_listed_without(town):
    suite = Suite.model_validate(tiny_suite.rules("town"))
    bare, task = replace(town, lonlat=None, xy=None), suite.tasks[0]
    splits = split(bare, task, stride=24)
    found = run_card(Inputs(suite, TaskData(bare, task, splits), NO_PROGRESS))
    assert found["data"]["places"][0]["lon"] is None


def test_the_environment_names_versions_and_machine():
    found = environment()
    for name in ("python", "torch", "transformers", "numpy", "st2llm", "cores", "memory_gb", "platform"):
        assert found[name], name


def git(folder, *arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """A committed checkout with a package, a recipe and a page."""
    for name in ("st2llm/a.py", "prompts/a.yaml", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("before")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "all")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "dirty", "changed"),
    [
        ("st2llm/a.py", True, ("st2llm/a.py",)),
        ("prompts/new one.yaml", True, ("prompts/new one.yaml",)),
        ("README.md", True, ()),
        ("notes.txt", False, ()),
    ],
)
def test_a_changed_file_makes_the_tree_dirty_and_a_new_one_only_where_a_run_reads_it(
    checkout, name, dirty, changed
):
    clean = CodeState(git(checkout, "rev-parse", "HEAD"))
    assert code_state(checkout / "st2llm") == clean
    (checkout / name).write_text("after")
    assert code_state(checkout / "st2llm") == replace(clean, dirty=dirty, changed=changed)


def test_the_commit_of_another_repository_is_not_taken_for_that_of_the_package(checkout):
    (checkout / "venv/st2llm").mkdir(parents=True)
    assert code_state(checkout / "venv/st2llm") == CodeState("unknown")
