"""Folders are taken as they are, repositories of the hub by their id, and failures say what to do."""

from pathlib import Path

import pytest
from huggingface_hub.errors import HFValidationError

from st2llm import hub
from st2llm.errors import ArtefactError, ConfigError, StorageError


def test_a_folder_is_taken_as_it_is(tmp_path):
    assert hub.local_folder(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("source", ["owner/name", "hub:owner/name"])
def test_a_repository_is_downloaded_at_its_revision(monkeypatch, tmp_path, source):
    monkeypatch.delenv("ST2LLM_OFFLINE", raising=False)
    asked = []
    monkeypatch.setattr(
        hub, "snapshot_download", lambda name, **options: asked.append((name, options)) or str(tmp_path)
    )
    assert hub.local_folder(source, revision="v1") == tmp_path
    assert asked == [("owner/name", {"revision": "v1", "local_files_only": False})]


def test_what_is_neither_a_folder_nor_a_repository_is_refused():
    with pytest.raises(ConfigError, match="no folder runs/a/b, .*owner/name"):
        hub.local_folder("runs/a/b")


def test_a_repository_that_cannot_be_had_says_so(monkeypatch):
    monkeypatch.setenv("ST2LLM_OFFLINE", "1")

    def refuse(name, **options):
        assert options["local_files_only"]
        raise OSError("not in the cache")

    monkeypatch.setattr(hub, "snapshot_download", refuse)
    with pytest.raises(ArtefactError, match="owner/name .*not in the cache.*unset ST2LLM_OFFLINE"):
        hub.local_folder("owner/name")


def test_an_upload_that_the_hub_refuses_says_so(monkeypatch, tmp_path):
    class Refusing:
        def create_repo(self, *_, **__):
            raise HFValidationError("bad name")

    monkeypatch.setattr(hub, "HfApi", Refusing)
    with pytest.raises(StorageError, match="refused hub:me/mine: bad name.*hf auth login"):
        hub.upload(Path(tmp_path), "me/mine")
