"""Fixtures of the tests of language models."""

import pytest

from st2llm.llm.answer_cache import AnswerStore


@pytest.fixture
def store(tmp_path):
    with AnswerStore(tmp_path / "answers.sqlite3") as opened:
        yield opened


@pytest.fixture
def prompts(prompt):
    return [prompt(f"question {i}") for i in range(5)]
