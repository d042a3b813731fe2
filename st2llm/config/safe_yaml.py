"""One reader of YAML for cards, suites, recipes, template heads and `--set`: limited in size, depth and aliases."""

from typing import Any

import yaml
from yaml.nodes import MappingNode, Node

from st2llm.errors import ConfigError

MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 40
MAX_NODES = 100_000
"""Values of a document, those that aliases repeat among them."""

# What PyYAML's constructors raise for a scalar that is not what it looks like or what its tag says.
_CONSTRUCTION_ERRORS = (ValueError, TypeError, KeyError, AttributeError, OverflowError, LookupError)


def load_yaml(text: str, where: str) -> Any:
    """The content of a YAML document. where: what it is called in messages.

    Raises ConfigError with line and cause: a syntax error, an unknown tag, a value that is not of its type (the month
    13, an integer of 6,000 digits), a key that is given twice, nesting beyond MAX_DEPTH, and documents beyond
    MAX_CHARACTERS or MAX_NODES, which a few nested aliases reach.
    """
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(
            f"{where} has {len(text):,} characters, but at most {MAX_CHARACTERS:,} are read as YAML."
        )
    try:
        _check_size(text, where)
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = (error.problem or error.context or str(error)).splitlines()[0]
        raise ConfigError(f"{where}{line} is not readable as YAML: {problem}. Correct it there.") from error
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{where} is not readable as YAML: {str(error).splitlines()[0]}. Correct its syntax."
        ) from error


def _check_size(text: str, where: str) -> None:
    """Counts values as if every alias were written out, before any of them is built."""
    nodes = depth = 0
    anchored: dict[str, int] = {}
    open_anchors: list[tuple[str | None, int]] = []
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark is not None else 0
        if isinstance(event, yaml.AliasEvent):
            if any(event.anchor == anchor for anchor, _ in open_anchors):
                raise ConfigError(
                    f"{where}, line {line}: *{event.anchor} stands inside of what it names. Write it out."
                )
            nodes += anchored.get(str(event.anchor), 1)
        elif isinstance(event, yaml.CollectionStartEvent):
            nodes, depth = nodes + 1, depth + 1
            open_anchors.append((event.anchor, nodes))
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
            anchor, before = open_anchors.pop()
            if anchor is not None:
                anchored[anchor] = nodes - before + 1
        elif isinstance(event, yaml.ScalarEvent):
            nodes += 1
        if depth > MAX_DEPTH:
            raise ConfigError(
                f"{where}, line {line}: values are nested more than {MAX_DEPTH} deep. Flatten them."
            )
        if nodes > MAX_NODES:
            raise ConfigError(
                f"{where}, line {line}: with its aliases written out it holds over {MAX_NODES:,} values. Shorten it."
            )


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the line of every fault, and without keys that are given twice."""

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)  # type: ignore[no-untyped-call]
        except _CONSTRUCTION_ERRORS as error:
            kind = str(node.tag).rsplit(":", 1)[-1]
            value = f" {str(node.value)[:40]!r}" if isinstance(node.value, str) else ""
            problem = f"the value{value} is no {kind} ({str(error)[:80]}); quote it if it is text"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge" or not isinstance(key.value, str):
                continue
            if (name := (str(key.tag), key.value)) in seen:
                problem = f"the key {key.value[:40]!r} is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep=deep)  # type: ignore[no-any-return, no-untyped-call]
