"""What a command prints in a pipe, and how much of it."""

import json
import logging
import os
import subprocess
import sys

import pytest
from support.command_line import run_cli

from st2llm.cli import terminal
from st2llm.commands import catalog


def test_a_row_of_a_piped_table_is_one_line_however_long(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    terminal.print_table(["name", "about"], [["a", "word " * 60 + "end"], ["b", "short"]])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].endswith("end")
    assert lines[2] == "b     short"


def test_quiet_leaves_notes_out_and_ends_with_its_command(capsys):
    with terminal.use_verbosity("quiet"):
        terminal.print_note("not shown")
    terminal.print_note("shown")
    assert capsys.readouterr().err == "shown\n"


@pytest.mark.parametrize(
    ("words", "shown"), [([], ["careful"]), (["-q"], []), (["-v"], ["careful", "in detail"])]
)
def test_warnings_are_shown_unless_quiet_and_details_with_v_anywhere(monkeypatch, words, shown):
    def entries():
        logging.getLogger("st2llm.test").warning("careful")
        logging.getLogger("st2llm.test").info("in detail")
        return []

    monkeypatch.setattr(catalog, "entries", entries)
    assert run_cli("data", "list", *words).stderr.splitlines() == shown
    assert run_cli(*words, "data", "list").stderr.splitlines() == shown


def test_libraries_show_no_bars_in_a_pipe(monkeypatch):
    seen = {}
    monkeypatch.setattr(catalog, "entries", lambda: seen.update(os.environ) or [])
    assert run_cli("data", "list").returncode == 0
    assert {name: seen.get(name) for name in terminal._NO_BARS} == dict.fromkeys(terminal._NO_BARS, "1")


@pytest.mark.slow
def test_the_variables_turn_off_the_bars_of_the_libraries_themselves():
    code = (
        "import datasets, huggingface_hub.utils as hub, tqdm\n"
        "hub.tqdm(range(3)).close(); tqdm.tqdm(range(3)).close()\n"
        "datasets.Dataset.from_dict({'a': [1, 2]}).map(lambda row: row)"
    )
    environment = {**os.environ, **dict.fromkeys(terminal._NO_BARS, "1")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stderr == ""


@pytest.mark.slow
def test_lists_and_findings_as_json():
    entries = json.loads(run_cli("data", "list", "--json").stdout)
    assert set(entries[0]) == {"name", "kind", "is_local", "about", "obtain"}
    findings = json.loads(run_cli("doctor", "--json").stdout)
    assert set(findings[0]) == {"group", "name", "value", "well"}
