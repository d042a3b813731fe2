"""What the tests of language models share: tiny models on disk, and prompts of plain words."""

from collections.abc import Callable

import pytest
from tiny_llm import tiny

from st2llm.types import Numbers, Prompt, Slot, TemplateId

__all__ = ["prompt", "tiny"]


@pytest.fixture(scope="session")
def prompt() -> Callable[..., Prompt]:
    """A prompt of plain words: prompt(text, grammar, messages=..., slots=...)."""

    def make(text: str, grammar: Numbers | None = None, messages=(), slots: tuple[Slot, ...] = ()) -> Prompt:
        identity = TemplateId("t", 1, "")
        return Prompt(messages=messages, parts=(text, *slots), truth="", template=identity, grammar=grammar)

    return make
