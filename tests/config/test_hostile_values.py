"""Hostile values of keys in cards, suites, recipes, template heads and --set are one message that names file and key.

Each value goes through every reader, at three keys that change with the value, so that all pairs of reader and key
occur. Two of the three turns are slow tests.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import tiny_card, tiny_suite

from st2llm import config, recipes
from st2llm.config.suite import load_suites
from st2llm.config.training import PretrainRecipe
from st2llm.data import load_data
from st2llm.errors import ConfigError, St2llmError
from st2llm.serialize.template.template import parse_template
from st2llm.train.recipes import load_recipe, parse_overrides

VALUES = [
    "2024-13-45",
    "2024-02-30T25:61:00",
    "0001-01-01",
    "9999-12-31T23:59:59Z",
    "!!int x",
    "!!int 0x",
    "!!float .",
    "!!bool 7",
    "!!timestamp now",
    "!!binary '='",
    "!!null 3",
    "!!set [1]",
    "!!omap 3",
    "!!pairs {a: 1}",
    "!!python/name:os.system",
    "!!str [1]",
    "!!seq 3",
    "!!map x",
    "7" * 6000,
    "-" + "7" * 400,
    "1e400",
    "-1e400",
    "1e308",
    ".inf",
    "-.inf",
    ".nan",
    "1e-320",
    "0",
    "-0.0",
    "-1",
    "1",
    "2.5",
    "0x7fffffffffffffff",
    str(2**63),
    str(-(2**64)),
    str(2**31),
    "0o17",
    "1_000",
    "190:20:30",
    "true",
    "no",
    "~",
    "''",
    "' '",
    '"\\ud800"',
    '"\\udfff x"',
    '"\\0"',
    '"\\x1b[2J"',
    '"a\\nb"',
    '"\\u202e"',
    "'../../etc/passwd'",
    "/dev/null",
    "/",
    "~root",
    "'%s%n'",
    "'{{ 7 * 7 }}'",
    "'${HOME}'",
    "[]",
    "[[]]",
    "[[[[1]]]]",
    "[1, two, 3.5]",
    "[~]",
    "[null, .nan]",
    "{}",
    "{a: 1}",
    "{1: 2}",
    "{~: 1}",
    "{true: 1}",
    "{1.5: {a: 1}}",
    "{2024-01-01: 1}",
    "{'': 1}",
    "[{}]",
    "{a: {b: {c: {d: 1}}}}",
    "[" * 2000 + "]" * 2000,
    "{a: " * 500 + "1" + "}" * 500,
    "&a [*a]",
    "*nothing",
    "&x 1",
    "<<",
    "{<<: 3}",
    "? [1]\n: 2".replace("\n", " "),
    "|",
    ">",
    "@x",
    "`x`",
    "%TAG",
    "- 1",
    "a: b",
    "#",
    "'unclosed",
    "[1,",
    "x" * 5000,
    "'" + "é" * 300 + "'",
    "東京",
    "2024-01-01",
    "2024-01-01T00:00:00+99:00",
    "12:00",
    "1d",
    "-5min",
    "0min",
    "5 parsecs",
    "1e9min",
    "100000000000d",
    "UTC",
    "Mars/Phobos",
    "forecast",
    "{forecast: {history: 1e400, horizon: 12}}",
    "{forecast: {history: -1, horizon: 12}}",
    "{forecast: {history: 12, horizon: 99999999999999999999}}",
    "{forecast: 3}",
    "{forecast: {history: [12], horizon: {a: 1}}}",
    "{train: .nan, validation: 0.1, test: 0.2}",
    "{train: 1e308, validation: 1e308, test: 1}",
    "{train: -1, validation: 1, test: 1}",
    "{train: 0.7}",
    "{path: [1]}",
    "{path: '\"\\0\"'}",
    "{url: 3}",
    "{pypi: '../x', files: 3}",
    "{hf: ~}",
]

assert len(VALUES) >= 120
RECIPE = "alignment/configs/los-loop-masked.yaml"
SETTINGS = (
    "budget.steps",
    "id",
    "objectives.masked.ratio",
    "nothing.at.all",
    "split",
    "data",
    "..",
    "budget..x",
)
KEYS_PER_VALUE = 3


def document(base: Mapping[str, Any], key: str, value: str) -> str:
    """The base as YAML, with this text as the value of the key."""
    rest = {name: kept for name, kept in base.items() if name != key}
    return yaml.safe_dump(rest, allow_unicode=True, sort_keys=False) + f"{key}: {value}\n"


@pytest.fixture(scope="module")
def card_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("card")
    tables = {name: table.head(24 * 6) for name, table in tiny_card.tables().items()}
    tiny_card.write(folder, tiny_card.card(), tables)
    return folder


@pytest.fixture(scope="module")
def readers(card_folder: Path) -> dict[str, tuple[list[str], Callable[[str, str], object]]]:
    """By name: the keys that get a hostile value, and what reads the document with it."""
    card = tiny_card.card()
    suite = tiny_suite.everything(str(card_folder / "tiny.yaml"), "a-model")
    recipe = config.read_yaml(recipes.locate(RECIPE))
    template = recipes.locate("prompts/graph/forecast.md").read_text(encoding="utf-8")
    _, head, body = template.split("---", 2)
    head = yaml.safe_load(head)

    def read(
        name: str, base: Mapping[str, Any], load: Callable[[Path], object]
    ) -> Callable[[str, str], object]:
        def write_and_read(key: str, value: str) -> object:
            path = card_folder / name
            path.write_text(document(base, key, value), encoding="utf-8")
            return load(path)

        return write_and_read

    def set_key(key: str, value: str) -> object:
        return load_recipe(RECIPE, parse_overrides([f"{key}={value}"]), into=PretrainRecipe)

    def parse_head(key: str, value: str) -> object:
        return parse_template(f"---\n{document(head, key, value)}---{body}", "mine.md")

    return {
        "mine.yaml": ([*card, "start", "null", "splits", "unknown"], read("mine.yaml", card, load_data)),
        "suite.yaml": ([*suite, "windows", "limit", "unknown"], read("suite.yaml", suite, load_suites)),
        "recipe.yaml": (
            [*recipe, "init_from", "unknown"],
            read("recipe.yaml", recipe, lambda path: load_recipe(path, into=PretrainRecipe)),
        ),
        "mine.md": ([*head, "strategy", "unknown"], parse_head),
        "--set": (list(SETTINGS), set_key),
    }


@pytest.mark.parametrize(
    "turn", [0, *(pytest.param(turn, marks=pytest.mark.slow) for turn in range(1, KEYS_PER_VALUE))]
)
@pytest.mark.parametrize("reader", ["mine.yaml", "suite.yaml", "recipe.yaml", "mine.md", "--set"])
def test_a_hostile_value_is_a_setting_or_one_message_with_the_file(readers, reader, turn):
    """Forty of these values ended with `Unexpected ... This is a bug in st2llm`."""
    keys, read = readers[reader]
    faults = []
    for number, value in enumerate(VALUES):
        key = keys[(KEYS_PER_VALUE * number + turn) % len(keys)]
        try:
            read(key, value)
        except St2llmError as error:
            message = str(error)
            if "\ud800" in message or len(message) > 1500:
                faults.append(f"{key}: {value[:60]}: {message[:200]!r}")
            if (
                isinstance(error, ConfigError)
                and reader not in message
                and key.partition(".")[0] not in message
            ):
                faults.append(f"{key}: {value[:60]}: names neither file nor key: {message[:200]}")
        except OSError as error:  # a message on the command line, which names the path
            if not error.strerror:
                faults.append(f"{key}: {value[:60]}: {error}")
        except Exception as error:
            faults.append(f"{key}: {value[:60]}: {type(error).__name__}: {str(error)[:200]}")
    assert not faults, "\n".join(faults)
