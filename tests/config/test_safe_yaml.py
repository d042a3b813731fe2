"""Hostile and mistaken YAML is one message that names file and line, wherever YAML is read."""

from collections.abc import Callable
from pathlib import Path

import pytest

from st2llm import config
from st2llm.config.safe_yaml import MAX_CHARACTERS, load_yaml
from st2llm.config.suite import load_suites
from st2llm.data import card
from st2llm.errors import ConfigError, St2llmError
from st2llm.model import checkpoint
from st2llm.serialize.template.template import parse_template
from st2llm.train.recipes import parse_overrides

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(9 * ['*' + a])}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE = {
    "an alias bomb": (BOMB, "line 6: with its aliases written out"),
    "a ring of aliases": ("a: 1\nb: &b [1, *b]\n", "line 2: .b stands inside"),
    "a deep list": ("a: 1\nb: " + "[" * 2000 + "]" * 2000, "line 2: values are nested more than 40 deep"),
    "the month 13": ("a: 1\nstart: 2024-13-45\n", "line 2 .*'2024-13-45' is no timestamp"),
    "a tag that its value is not": ("a: 1\nb: !!int x\n", "line 2 .*'x' is no int"),
    "a float that is none": ("a: !!float x\n", "line 1 .*'x' is no float"),
    "an integer of 6,000 digits": ("a: 1\nb: " + "7" * 6000, "line 2 .*is no int"),
    "a hexadecimal integer of 6,000 digits": ("a: 1\nb: 0x" + "f" * 6000, "line 2 .*is no int .*63 bits"),
    "half of a character": ('a: 1\nb: "\\ud800"\n', "line 2 .*half of a character"),
    "a NUL": ('a: "\\0"\n', "line 1 .*a NUL"),
    "a tag of Python": (
        "a: !!python/object/apply:os.getcwd []\n",
        "line 1 .*could not determine a constructor",
    ),
    "binary that is none": ("a: !!binary 'a'\n", "line 1 .*base64"),
    "a list as a key": ("? [1, 2]\n: 3\n", "line 1 .*unhashable key"),
    "a key twice": ("a: 1\nb: 2\na: 3\n", "line 3 .*the key 'a' is given twice"),
    "two documents": ("a: 1\n---\nb: 2\n", "line 2 .*another document"),
    "an open bracket": ("a: [1, 2\n", "not readable as YAML"),
    "a tab": ("a:\n\tb: 1\n", "line 2 .*cannot start any token"),
    "a control character": ("a: \x07\n", "not readable as YAML"),
    "a megabyte": ("a: " + "x" * MAX_CHARACTERS, "characters"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_document_is_one_message_with_its_line(case: str) -> None:
    text, message = HOSTILE[case]
    with pytest.raises(ConfigError, match=message) as caught:
        load_yaml(text, "mine.yaml")
    assert str(caught.value).startswith("mine.yaml") and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_usual_yaml_is_what_pyyaml_makes_of_it() -> None:
    text = "a: &a {b: 1, c: [2, 3.5, true, null, ~]}\nd: {<<: *a, b: 2}\ne: *a\nf: 2024-01-02\n'7': x\n7: y\n"
    first = {"b": 1, "c": [2, 3.5, True, None, None]}
    loaded = load_yaml(text, "mine.yaml")
    assert (loaded["a"], loaded["d"], loaded["e"]) == (first, {**first, "b": 2}, first)
    assert (str(loaded["f"]), loaded["7"], loaded[7]) == ("2024-01-02", "x", "y")


def _file(read: Callable[[Path], object], name: str) -> Callable[[Path, str], object]:
    def write_and_read(folder: Path, text: str) -> object:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return read(path)

    return write_and_read


READERS: dict[str, Callable[[Path, str], object]] = {
    "a settings file": _file(config.read_yaml, "settings.yaml"),
    "a data card": _file(card.read_card, "card.yaml"),
    "a suite": _file(load_suites, "suite.yaml"),
    "a checkpoint": _file(lambda path: checkpoint.read_checkpoint(path.parent), "config.yaml"),
    "a template head": lambda _, text: parse_template(f"---\n{text}\n---\nbody", "mine.md"),
    "--set": lambda _, text: parse_overrides([f"key={text}"]),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "case", ["an alias bomb", "the month 13", "a deep list", "an integer of 6,000 digits"]
)
def test_every_reader_of_yaml_gives_that_message(tmp_path: Path, reader: str, case: str) -> None:
    with pytest.raises(St2llmError, match=HOSTILE[case][1].split("line")[-1].split(" ", 2)[-1]):
        READERS[reader](tmp_path, HOSTILE[case][0])
