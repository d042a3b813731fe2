"""Language models take prompts and plain strings, alone or in a list."""

import pytest

from st2llm.errors import DataError
from st2llm.types import as_prompts


def test_a_string_is_one_prompt_and_not_one_for_each_letter(prompt):
    (alone,) = as_prompts("two words")
    assert (alone.text, alone.messages, alone.grammar) == ("two words", (), None)
    assert as_prompts(["two words", prompt("own")]) == [alone, prompt("own")]
    assert as_prompts(prompt("own")) == [prompt("own")]
    assert as_prompts([]) == []


@pytest.mark.parametrize(
    ("given", "named"),
    [(12, "but int came"), (["fine", 3.5], "item 1 is of type float"), ({"role": "user"}, "but dict came")],
)
def test_anything_else_is_refused_with_what_to_pass(given, named):
    with pytest.raises(DataError, match=named):
        as_prompts(given)
