"""The reference page of template variables, written from what each kind of data offers to templates."""

from collections.abc import Mapping

from st2llm.serialize import KINDS
from st2llm.serialize.template.interface import KindSpec

_HEAD = """# Template variables

<!-- Written by `make figures` from `st2llm.serialize`. -->

The variables that a [template](../template-authoring.md) of each kind may list under `variables` and use in its body.
*all* means every task of the kind; *per place* and *per sample* mean templates whose head says so. Lines of `history`,
`neighbours` and tables are objects: print their parts (`{{ line.label }}:{{ line.numbers }}`) in a loop. `examples`
holds the solved examples of `.examples` templates, and `soft` the number of soft tokens. `documents` holds the texts
that were published by the last known time of the sample, the newest first: print `{{ document }}` in a loop, or its
`.text`, `.source`, `.when` and `.place`. A template that lists `notes` but not `documents` shows documents after the
notes, so the templates that ship show them as they are.
"""


def template_variables_page() -> str:
    """The page: a table for each kind with each variable, its meaning and where it is offered."""
    return "\n".join([_HEAD, *(_section(kind, spec) for kind, spec in KINDS.items())])


def _section(kind: str, spec: KindSpec) -> str:
    meanings: dict[str, str] = {}
    offered: dict[str, set[tuple[str, str]]] = {}
    places = [(task, per) for task in spec.tasks for per in ("place", "sample")]
    for task, per in places:
        for name, meaning in spec.variables(task, per).items():
            meanings.setdefault(name, meaning)
            offered.setdefault(name, set()).add((task, per))
    rows = [
        f"| `{name}` | {_cell(meanings[name])} | {_where(offered[name], spec.tasks)} |"
        for name in sorted(meanings)
    ]
    return "\n".join(
        [f"## {kind.capitalize()}", "", "| variable | meaning | tasks |", "|---|---|---|", *rows, ""]
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


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
