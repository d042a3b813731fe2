"""The command line as a user meets it: messages, exit codes, prompts, help."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from support import tiny_card
from support.command_line import is_one_message, run_cli, run_process

from st2llm import cli
from st2llm.cli import main
from st2llm.commands import catalog
from st2llm.errors import DataError

pytestmark = pytest.mark.slow

COMMANDS = [
    "data list",
    "data show",
    "data fetch",
    "data instruct",
    "prompt",
    "ask",
    "check-description",
    "pretrain",
    "predict",
    "compare",
    "report",
    "doctor",
]


@pytest.fixture
def tiny(tmp_path):
    return tiny_card.write(tmp_path, tiny_card.card(), tiny_card.tables())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["data", "show", "auckland-pedestrian"], "Did you mean 'auckland-pedestrians'"),
        (["data", "show", "none.yaml"], "none.yaml"),
        (["data", "fetch", "smollm2-135"], "Did you mean 'smollm2-135m'"),
        (["compare", "evaluation/suites/dem.yaml"], "Did you mean 'demo.yaml'"),
        (["report", "no-such-run"], "no-such-run"),
    ],
)
def test_an_unknown_name_is_one_message_that_offers_the_nearest(arguments, says, tmp_path):
    done = run_cli(*arguments, cwd=tmp_path)
    assert is_one_message(done), done.stderr
    assert says in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["graph/forcast"], "Did you mean"),
        (["graph/forecast", "--index", 99], "--index 99 is not in the test part of tiny"),
        (["graph/forecast", "--index", -1], "--index -1 is not in the test part"),
        (["graph/forecast", "--place", "aa"], "no place 'aa'"),
        (["graph/forecast", "--history", 9999], "9999"),
        (["graph/forecast", "--history", 0], "at least 1 step"),
        (["graph/forecast", "--llm", "smollm2-135"], "Did you mean 'smollm2-135m'"),
    ],
)
def test_a_prompt_that_cannot_be_made_is_one_message(tiny, arguments, says):
    done = run_cli("prompt", *arguments, "--data", tiny)
    assert is_one_message(done), done.stderr
    assert says in done.stderr
    assert done.stdout == ""


def test_a_prompt_as_json_has_exactly_the_promised_keys(tiny):
    done = run_cli("prompt", "graph/forecast", "--data", tiny, "--place", "b", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert list(shown) == ["messages", "text", "tokens", "truth", "template", "dropped", "told"]
    assert list(shown["template"]) == ["id", "version", "sha256"]
    assert shown["template"]["id"] == "graph/forecast"
    assert shown["tokens"] is None
    assert shown["truth"].count(",") == 5


def test_samples_are_counted_one_default_horizon_apart(tiny):
    values = tiny_card.tables()["values"]["b"]
    start = len(values) * 3 // 4 + 24  # the test part, past the first history
    for index in (0, 1):
        done = run_cli(
            "prompt",
            "graph/forecast",
            "--data",
            tiny,
            "--place",
            "b",
            "--json",
            "--index",
            index,
            "--horizon",
            2,
        )
        want = values[start + 6 * index : start + 6 * index + 2].astype(int)
        got = [int(word) for word in json.loads(done.stdout)["truth"].split(",")]
        assert got == want.tolist()


def test_a_prompt_is_its_text_and_the_lint_finds_no_leak_in_it(tiny):
    plain = run_cli("prompt", "graph/forecast", "--data", tiny)
    linted = run_cli("prompt", "graph/forecast", "--data", tiny, "--lint")
    assert (linted.returncode, linted.stderr) == (0, "lint: clean, no leak of the answer was found\n")
    assert linted.stdout == plain.stdout != ""


def test_a_leaking_template_is_found_and_fails(tiny, tmp_path):
    done = run_cli(
        "prompt", "graph/leak", "--data", tiny, "--lint", ST2LLM_RECIPES=str(_leaking_recipes(tmp_path))
    )
    assert done.returncode == 1, done.stdout
    assert "lint: " in done.stderr


def _leaking_recipes(folder):
    """The shipped template, with the answer written into it by hand for this very sample."""
    shipped = (Path(__file__).resolve().parents[1] / "prompts/graph/forecast.md").read_text(encoding="utf-8")
    truth = tiny_card.tables()["values"]["a"].astype(int)[384:390]
    target = folder / "own/prompts/graph/leak.md"
    target.parent.mkdir(parents=True)
    target.write_text(shipped + "\n" + ",".join(map(str, truth)) + "\n", encoding="utf-8")
    return folder / "own"


@pytest.mark.parametrize("module", ["st2llm", "st2llm.cli"])
def test_python_m_is_the_command(module):
    done = subprocess.run(
        [sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0 and done.stdout.startswith("st2llm ")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_holds_an_example(command):
    done = run_cli(*command.split(), "--help")
    assert done.returncode == 0
    assert f"Example: st2llm {command}" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["prompt", "graph/forecast"],
        ["dat"],
        ["data", "lst"],
        ["prompt", "x", "--data", "y", "--index", "z"],
        ["--what"],
        ["compare", "demo", "--prune"],
    ],
)
def test_a_command_that_is_not_understood_exits_2(arguments):
    done = run_cli(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_an_output_path_that_is_a_file_is_one_message_and_left_as_it_is(tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("mine")
    done = run_cli("compare", "evaluation/suites/demo.yaml", "--out", taken)
    assert is_one_message(done), done.stderr
    assert str(taken) in done.stderr
    assert taken.read_text() == "mine"


def test_commands_without_a_model_leave_torch_unimported(tiny):
    code = """
import sys
from st2llm import cli
from st2llm.cli import main
for words in (["data", "list"], ["data", "show", sys.argv[1]], ["prompt", "graph/forecast", "--data", sys.argv[1]]):
    try:
        main(words)
    except SystemExit as leaving:
        print(words[:2], leaving.code, "torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny)], capture_output=True, text=True, check=False, timeout=300
    )
    ends = [line for line in done.stdout.splitlines() if line.endswith((" True", " False"))]
    assert [line.split("] ")[1] for line in ends] == 3 * ["0 False"], done.stderr


def test_the_list_of_data_names_both_data_sets():
    done = run_cli("data", "list")
    assert done.returncode == 0, done.stderr
    assert "auckland-pedestrians" in done.stdout
    assert "los-loop" in done.stdout


def test_the_doctor_names_what_is_installed_and_what_is_missing(tmp_path):
    done = run_cli("doctor", ST2LLM_CACHE=str(tmp_path), ST2LLM_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    for word in ("torch", "transformers", "cores", "memory", str(tmp_path), "ST2LLM_OFFLINE"):
        assert word in done.stdout
    assert "st2llm data fetch smollm2-135m" in done.stdout


def test_offline_with_nothing_cached_says_which_command_gets_it(tmp_path):
    done = run_cli("data", "fetch", "smollm2-135m", ST2LLM_CACHE=str(tmp_path / "cache"), ST2LLM_OFFLINE="1")
    assert is_one_message(done), done.stderr
    assert "st2llm data fetch smollm2-135m" in done.stderr
    assert "ST2LLM_OFFLINE" in done.stderr


def _raising(error):
    def raise_it(*_, **__):
        raise error

    return raise_it


def test_a_fault_of_ours_is_one_message_and_a_traceback_only_with_debug(monkeypatch):
    monkeypatch.setattr(catalog, "entries", _raising(ValueError("odd")))
    quiet = run_cli("data", "list")
    assert is_one_message(quiet), quiet.stderr
    assert "Unexpected ValueError: odd" in quiet.stderr
    for words in (["--debug", "data", "list"], ["data", "list", "--debug"]):
        loud = run_cli(*words)
        assert loud.returncode == 1
        assert "Traceback" in loud.stderr


def test_a_message_writes_out_what_would_command_a_terminal(monkeypatch):
    monkeypatch.setattr(catalog, "entries", _raising(DataError("row 1 holds '\x1b]0;owned\x07\x9b2J\u202e'")))
    done = run_cli("data", "list")
    assert done.stderr == "error: row 1 holds '\\x1b]0;owned\\x07\\x9b2J\\u202e'\n"


def test_a_terminal_without_a_dash_shows_a_question_mark(monkeypatch):
    monkeypatch.setattr(catalog, "entries", lambda: Console().print("Auckland \u2014 ok") or [])
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(SystemExit) as leaving:
        main(["data", "list"])
    assert not leaving.value.code
    assert written.getvalue().startswith(b"Auckland ? ok\n")


def test_a_full_disk_is_one_message_that_names_the_file(monkeypatch):
    monkeypatch.setattr(catalog, "entries", _raising(OSError(28, "x", "results.jsonl")))
    done = run_cli("data", "list")
    assert is_one_message(done), done.stderr
    assert "no space left" in done.stderr
    assert "results.jsonl" in done.stderr


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["compare", "demo", "--out", "my runs"], "st2llm compare demo --out 'my runs' --resume"),
        (["calibrate", "demo", "--resume"], "st2llm calibrate demo --resume"),
        (["pretrain", "los-loop-masked"], "st2llm pretrain los-loop-masked --resume"),
        (["align", "align-graph"], "st2llm align align-graph --resume"),
        (["finetune", "finetune-graph"], "st2llm finetune finetune-graph --resume"),
        (["data", "instruct", "los-loop", "--out", "s"], "st2llm data instruct los-loop --out s --resume"),
        (["data", "list"], "Start again with: st2llm data list"),
    ],
)
def test_an_interrupt_exits_130_and_names_the_command_that_goes_on(monkeypatch, words, hint):
    monkeypatch.setattr(cli, "app", _raising(KeyboardInterrupt()))
    done = run_cli(*words)
    assert done.returncode == 130
    assert done.stderr.endswith(f"{hint}\n")
    assert done.stderr.count("\n") == 1


def test_the_installed_command_is_the_same_and_ends_with_its_exit_code(tmp_path):
    unknown = run_process("data", "show", "none.yaml", cwd=tmp_path)
    assert is_one_message(unknown), unknown.stderr
    here = run_cli("data", "show", "none.yaml", cwd=tmp_path)
    assert (unknown.stdout, unknown.stderr) == (here.stdout, here.stderr)
    assert run_process("dat").returncode == 2


def test_tokens_are_counted_where_a_model_is_named(tiny):
    done = run_cli("prompt", "graph/forecast", "--data", tiny, "--llm", "smollm2-135m", "--json")
    shown = json.loads(done.stdout)
    assert shown["tokens"] > len(shown["text"]) / 10
    plain = run_cli("prompt", "graph/forecast", "--data", tiny, "--llm", "smollm2-135m")
    assert plain.stderr == f"{shown['tokens']:,} tokens of smollm2-135m\n"


def test_the_script_under_a_launcher_of_two_processes_does_the_work_once(tmp_path):
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
    ]  # what accelerate starts
    script = Path(__file__).resolve().parents[1] / "evaluation/compare.py"
    done = subprocess.run(
        [*launch, script, "evaluation/suites/dem.yaml"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.stderr.count("error: There is no evaluation/suites/dem.yaml") == 1, done.stderr


def test_a_folder_whose_name_is_not_utf_8_is_refused_before_any_work(tmp_path):
    done = run_cli("compare", "demo", "--out", tmp_path / os.fsdecode(b"run-\xff"))
    assert done.returncode == 2 and "is not UTF-8" in done.stderr and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
