"""The options of `st2llm ladder` reach the ladder."""

from pathlib import Path

import pytest
from support.command_line import run_cli

from st2llm.evaluate.ladder import climb


class _StopError(Exception):
    """Ends the command once its options are known."""


def test_several_models_after_one_option_and_every_other_option_arrive(monkeypatch):
    seen = {}

    def record(suite, llms, **options):
        seen.update(options, suite=suite, llms=llms)
        raise _StopError

    monkeypatch.setattr(climb, "ladder", record)
    words = "ladder town --llm a b --data d --limit 3 c --out o --resume --set budget.steps=7 --llm e --quiet"
    run_cli(*words.split())
    overrides = seen.pop("overrides")
    assert (overrides.data, overrides.limit, overrides.settings) == ("d", 3, {"budget.steps": 7})
    assert sorted(seen.pop("llms")) == ["a", "b", "c", "e"]
    assert seen == {"suite": "town", "out": Path("o"), "resume": True, "progress": False}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["town"], "Name the language models"),
        (["town", "--llm", "a", "--sed", "1"], "No such option"),
    ],
)
def test_a_ladder_without_models_or_with_an_unknown_option_is_a_usage_error(words, message):
    done = run_cli("ladder", *words)
    assert done.returncode == 2
    assert message in done.stderr
