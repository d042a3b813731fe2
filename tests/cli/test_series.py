"""The options of `st2llm ladder` and `st2llm curve` reach what they run."""

from pathlib import Path

import pytest
from support.command_line import run_cli

from st2llm.evaluate.curve import run as curve_run
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


def test_every_option_of_a_curve_arrives(monkeypatch):
    seen = {}

    def record(suite, **options):
        seen.update(options, suite=suite)
        raise _StopError

    monkeypatch.setattr(curve_run, "curve", record)
    words = "curve town --data d --llm m --out o --resume --quick --set budget.steps=7 --quiet"
    run_cli(*words.split())
    overrides = seen.pop("overrides")
    assert (overrides.data, overrides.llm, overrides.settings) == ("d", "m", {"budget.steps": 7})
    assert seen == {"suite": "town", "out": Path("o"), "quick": True, "resume": True, "progress": False}
