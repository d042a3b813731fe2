"""Completion of commands and names in bash, zsh and fish."""

import pytest
from support.command_line import run_cli


@pytest.mark.parametrize(
    ("line", "offers"),
    [
        ("st2llm comp", "compare"),
        ("st2llm list pro", "prompts"),
        ("st2llm compare dem", "demo"),
        ("st2llm finetune finetune-gra", "finetune-graph"),
        ("st2llm prompt graph/forecast.cha", "graph/forecast.chat"),
        ("st2llm data show auckland", "auckland-pedestrians"),
    ],
)
def test_bash_completes_commands_and_the_names_that_they_take(line, offers):
    words = str(len(line.split()) - 1)
    done = run_cli(_ST2LLM_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=words)
    assert offers in done.stdout.split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_that_calls_the_command(shell):
    done = run_cli(_ST2LLM_COMPLETE=f"source_{shell}")
    assert f"complete_{shell}" in done.stdout
    assert "st2llm" in done.stdout
