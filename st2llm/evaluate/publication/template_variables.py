"""The reference page of template variables, written from what each kind of data offers to templates."""

from collections.abc import Mapping, Sequence, Sized
from dataclasses import fields, is_dataclass
from typing import Any

from st2llm.serialize import KINDS
from st2llm.serialize.template.interface import KindSpec
from st2llm.serialize.text.sequence import ItemList

_HEAD = """# Template variables

<!-- Written by `make figures` from `st2llm.serialize`. -->

The variables that a [template](../template-authoring.md) of each kind may list under `variables` and use in its body.
*all* means every task of the kind; *per place* and *per sample* mean templates whose head says so. Lines of `history`,
`neighbours` and tables are objects: print their parts (`{{ line.label }}:{{ line.numbers }}`) in a loop. `examples`
holds the solved examples of `.examples` templates, and `soft` the number of soft tokens. `documents` holds the texts
that were published by the last known time of the sample, the newest first: print `{{ document }}` in a loop, or its
`.text`, `.source`, `.when` and `.place`. A template that lists `notes` but not `documents` shows documents after the
notes, so the templates that ship show them as they are.

Examples are the values in prompts of real samples, shortened; of a list the first item, of an object its parts. A
variable without an example is empty in all of these samples.
"""
_LONGEST = 60
"""The longest example, in characters."""
_NOT_SHOWN = ("step", "steps_away", "start", "told")
"""Parts of lines and items that templates do not print."""

Examples = Mapping[str, Mapping[str, Any]]
"""By kind: the values of variables in real samples, by name."""


def template_variables_page(examples: Examples) -> str:
    """The page: a table for each kind with each variable, its meaning, an example and where it is offered."""
    return "\n".join([_HEAD, *(_section(kind, spec, examples.get(kind, {})) for kind, spec in KINDS.items())])


def is_empty(value: object) -> bool:
    """Whether a value says nothing as an example: no text, no item."""
    return value is None or (isinstance(value, Sized) and not len(value))


def _section(kind: str, spec: KindSpec, examples: Mapping[str, Any]) -> str:
    meanings: dict[str, str] = {}
    offered: dict[str, set[tuple[str, str]]] = {}
    places = [(task, per) for task in spec.tasks for per in ("place", "sample")]
    for task, per in places:
        for name, meaning in spec.variables(task, per).items():
            meanings.setdefault(name, meaning)
            offered.setdefault(name, set()).add((task, per))
    rows = [
        f"| `{name}` | {_cell(meanings[name])} | {_cell(_example(examples.get(name)))} "
        f"| {_where(offered[name], spec.tasks)} |"
        for name in sorted(meanings)
    ]
    return "\n".join(
        [
            f"## {kind.capitalize()}",
            "",
            "| variable | meaning | example | tasks |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _where(offered: set[tuple[str, str]], tasks: Mapping[str, tuple[str, ...]]) -> str:
    """The tasks that offer a variable, shortly."""
    if len(offered) == 2 * len(tasks):
        return "all"
    names = []
    for task in tasks:
        pers = [per for per in ("place", "sample") if (task, per) in offered]
        if len(pers) == 2:
            names.append(task)
        elif pers:
            names.append(f"{task} (per {pers[0]})")
    return ", ".join(names)


def _example(value: object) -> str:
    """A value as an example: the first item of a list, the parts of an object; '' for an empty one."""
    if is_empty(value):
        return ""
    if isinstance(value, Sequence | ItemList) and not isinstance(value, str):
        return _example(value[0]) + (", ..." if len(value) > 1 else "")
    if is_dataclass(value):
        parts = {name: getattr(value, name) for f in fields(value) if (name := f.name) not in _NOT_SHOWN}
        return ", ".join(f".{name} {_example(part)}" for name, part in parts.items() if not is_empty(part))
    return f"`{_shortened(str(value))}`"


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
