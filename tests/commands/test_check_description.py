"""`st2llm check-description`: claims of a text against the sample that a prompt shows."""

import pytest
from support import five_kinds

from st2llm.commands import prompt
from st2llm.commands.check_description import check_description
from st2llm.commands.prompt import PromptRequest
from st2llm.errors import DataError

SAMPLE = PromptRequest("graph/describe", "graph")


@pytest.fixture(autouse=True)
def _data(monkeypatch):
    monkeypatch.setattr(prompt, "load_data", lambda name: five_kinds.graph(20))


def test_each_claim_has_a_line_with_its_verdict_and_the_value_of_the_data():
    checked = check_description(
        "The highest value at Gate 0 is 140. Gate 0 is busier than Gate 1. It may rain.", SAMPLE
    )
    assert checked.contradicted
    assert checked.lines() == [
        "supported: maximum 140 (data: 140) in 'The highest value at Gate 0 is 140.'",
        "contradicted: comparison gate-0 above gate-1 (data: gate-0 below gate-1) in 'Gate 0 is busier than Gate 1.'",
        "2 claims: 1 supported, 1 contradicted, 0 uncheckable.",
    ]


def test_an_empty_description_is_refused():
    with pytest.raises(DataError, match="description is empty"):
        check_description(" \n", SAMPLE)
