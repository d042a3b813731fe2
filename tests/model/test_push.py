"""A hub that cannot be reached is one message, and never a report of a bug."""

import pytest
from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled

from st2llm import hub
from st2llm.errors import StorageError
from st2llm.model import checkpoint, push


@pytest.fixture
def trained(tmp_path, monkeypatch):
    folder = tmp_path / "best"
    folder.mkdir()
    (folder / "README.md").write_text("a model card")
    monkeypatch.setattr(checkpoint, "read_checkpoint", lambda path: type("Loaded", (), {"folder": folder})())
    return folder


def test_pushing_offline_is_refused_before_anything_is_copied(trained, monkeypatch):
    monkeypatch.setenv("ST2LLM_OFFLINE", "1")
    with pytest.raises(StorageError, match="ST2LLM_OFFLINE forbids"):
        push.push_checkpoint(trained, "hub:me/model")


@pytest.mark.parametrize(
    "error", [HTTPError("no route"), OfflineModeIsEnabled("offline mode"), TimeoutError("timed out")]
)
def test_a_hub_that_cannot_be_reached_is_one_message(trained, monkeypatch, error):
    def refuse(*_, **__):
        raise error

    monkeypatch.delenv("ST2LLM_OFFLINE", raising=False)
    monkeypatch.setattr(hub.HfApi, "create_repo", refuse)
    with pytest.raises(StorageError, match="The hub could not be reached for hub:me/model"):
        push.push_checkpoint(trained, "hub:me/model")
