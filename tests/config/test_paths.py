"""Paths in a suite are relative to the suite, as those of a card are to the card."""

import pytest

from st2llm.config.paths import resolve_paths


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """A working folder, and a folder of suites in it, each with files of their own."""
    suites = tmp_path / "suites"
    suites.mkdir()
    for name in ("card.yaml", "answers.parquet", "own.md"):
        (suites / name).touch()
    (suites / "model").mkdir()
    (tmp_path / "here.yaml").touch()
    (tmp_path / "card.yaml").touch()
    monkeypatch.chdir(tmp_path)
    return suites


def test_a_path_beside_the_file_is_taken_first_at_any_depth(folders, caplog):
    content = {
        "data": "card.yaml#hotel",
        "llm": {"name": "./model", "depth": 2},
        "sweep": {"data": {"a": "card.yaml", "b": "los-loop"}},
        "encoder": {"warmup": {"data": "card.yaml"}},
        "predictors": [{"name": "x", "file": "answers.parquet", "template": "own.md"}],
    }
    found = resolve_paths(content, folders / "suite.yaml")
    assert found == {
        "data": f"{folders}/card.yaml#hotel",
        "llm": {"name": f"{folders}/model", "depth": 2},
        "sweep": {"data": {"a": f"{folders}/card.yaml", "b": "los-loop"}},
        "encoder": {"warmup": {"data": f"{folders}/card.yaml"}},
        "predictors": [{"name": "x", "file": f"{folders}/answers.parquet", "template": f"{folders}/own.md"}],
    }
    assert not caplog.messages


def test_a_path_in_the_working_folder_alone_is_taken_and_said(folders, caplog):
    assert resolve_paths({"data": "here.yaml"}, folders / "suite.yaml") == {"data": "here.yaml"}
    (message,) = caplog.messages
    assert "data here.yaml is taken from the working folder" in message


def test_names_hub_ids_and_absolute_paths_stay_as_they_are(folders, caplog):
    content = {
        "id": "card.yaml",
        "data": "los-loop",
        "llm": {"name": "org/model"},
        "predictors": [{"name": "card.yaml", "template": "graph/forecast", "model": "chronos:./model"}],
        "init_from": str(folders / "model"),
        "task": {"forecast": {"history": 3}},
    }
    assert resolve_paths(content, folders / "suite.yaml") == content
    assert not caplog.messages
