"""`st2llm list`: what the other commands take by name."""

from typing import TYPE_CHECKING

import typer

from st2llm.cli.options import AsJson, example
from st2llm.cli.terminal import print_json, print_table

if TYPE_CHECKING:
    from st2llm.commands.catalog import ListedItem

app = typer.Typer(
    help="List suites, prompt templates, training configs, models and plug-ins.", no_args_is_help=True
)


@app.command("suites", epilog=example("st2llm list suites"))
def list_suites(as_json: AsJson = False) -> None:
    """List the suites that `compare` takes by name."""
    from st2llm.commands import catalog

    _print(catalog.list_suites(), "kind", as_json)


@app.command("prompts", epilog=example("st2llm list prompts --json"))
def list_prompts(as_json: AsJson = False) -> None:
    """List the templates that `prompt` takes by name."""
    from st2llm.commands import catalog

    _print(catalog.list_prompts(), "kind", as_json)


@app.command("configs", epilog=example("st2llm list configs"))
def list_configs(as_json: AsJson = False) -> None:
    """List the configs of pretrain, align and finetune."""
    from st2llm.commands import catalog

    _print(catalog.list_configs(), "command", as_json)


@app.command("models", epilog=example("st2llm list models"))
def list_models(as_json: AsJson = False) -> None:
    """List the language models that have a name of their own; Hugging Face ids and folders work as well."""
    from st2llm.commands import catalog

    _print(catalog.list_models(), "files", as_json)


@app.command("plugins", epilog=example("st2llm list plugins"))
def list_plugins(as_json: AsJson = False) -> None:
    """List the parts that installed packages add to st2llm, each with its package."""
    from st2llm.commands import catalog

    _print(catalog.list_plugins(), "part", as_json)


def _print(items: "list[ListedItem]", group: str, as_json: bool) -> None:
    if as_json:
        print_json([{"name": item.name, group: item.group, "about": item.about} for item in items])
    else:
        print_table(["name", group, "about"], [item.row() for item in items], whole=True)
