"""One reader of YAML for cards, suites, recipes, template heads and `--set`: limited in size, depth and aliases."""

import re
from typing import Any

import yaml
from yaml.events import Event
from yaml.nodes import MappingNode, Node, ScalarNode

from st2llm.errors import ConfigError

MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 40
MAX_NODES = 100_000
"""Values of a document, those that aliases repeat among them."""

_MAX_BITS = 63
_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")

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
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except _LimitError as error:
        raise ConfigError(f"{where}, line {error.line}: {error}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = (error.problem or error.context or str(error)).splitlines()[0]
        raise ConfigError(f"{where}{line} is not readable as YAML: {problem}. Correct it there.") from error
    except _CONSTRUCTION_ERRORS as error:  # from a collection whose tag does not fit it
        raise ConfigError(f"{where} is not readable as YAML: {str(error)[:80]}. Correct its tags.") from error
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{where} is not readable as YAML: {str(error).splitlines()[0]}. Correct its syntax."
        ) from error


class _LimitError(Exception):
    def __init__(self, message: str, event: Event) -> None:
        super().__init__(message)
        self.line = event.start_mark.line + 1 if event.start_mark is not None else 0


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with limits, with the line of every fault, and without keys that are given twice."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.nodes = self.depth = 0
        self.anchored_nodes: dict[str, int] = {}

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """Composes a node; counts nodes as if every alias were written out, before any value is built."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self.anchors and event.anchor not in self.anchored_nodes:
                raise _LimitError(f"*{event.anchor} stands inside of what it names. Write it out.", event)
            self._count(self.anchored_nodes.get(str(event.anchor), 1), event)
            return super().compose_node(parent, index)
        before = self.nodes
        self._count(1, event)
        nested = isinstance(event, yaml.CollectionStartEvent)
        self.depth += nested
        if self.depth > MAX_DEPTH:
            raise _LimitError(f"values are nested more than {MAX_DEPTH} deep. Flatten them.", event)
        node = super().compose_node(parent, index)
        self.depth -= nested
        if event.anchor is not None:
            self.anchored_nodes[event.anchor] = self.nodes - before
        return node

    def _count(self, nodes: int, event: Event) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            raise _LimitError(
                f"with its aliases written out it holds over {MAX_NODES:,} values. Shorten it.", event
            )

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)  # type: ignore[no-untyped-call]
        except _CONSTRUCTION_ERRORS as error:
            kind = str(node.tag).rsplit(":", 1)[-1]
            value = f" {str(node.value)[:40]!r}" if isinstance(node.value, str) else ""
            problem = f"the value{value} is no {kind} ({str(error)[:80]}); quote it if it is text"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error

    def construct_scalar(self, node: ScalarNode | MappingNode) -> Any:
        """The text of a scalar. Raises ValueError for characters that no file name or file in UTF-8 can hold."""
        value = super().construct_scalar(node)  # type: ignore[no-untyped-call]
        if isinstance(value, str) and _UNWRITABLE.search(value):
            raise ValueError("it holds a NUL or half of a character")
        return value

    def construct_yaml_int(self, node: ScalarNode) -> int:
        """A whole number of 64 bits at most, beyond which arrays and floating-point numbers cannot hold it."""
        value = int(super().construct_yaml_int(node))  # type: ignore[no-untyped-call]
        if value.bit_length() > _MAX_BITS:
            raise ValueError(f"whole numbers have at most {_MAX_BITS} bits")
        return value

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value if isinstance(node, MappingNode) else ():  # `!!set [1]` is none
            if key.tag == "tag:yaml.org,2002:merge" or not isinstance(key.value, str):
                continue
            if (name := (str(key.tag), key.value)) in seen:
                problem = f"the key {key.value[:40]!r} is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep=deep)  # type: ignore[no-any-return, no-untyped-call]


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)  # type: ignore[no-untyped-call]
