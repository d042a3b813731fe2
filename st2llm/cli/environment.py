"""`st2llm doctor`: what is installed, cached and missing."""

import typer

from st2llm.cli.options import example, print_table

app = typer.Typer()


@app.command(epilog=example("st2llm doctor"))
def doctor() -> None:
    """Check the environment: what is installed, cached and missing."""
    from st2llm.commands.doctor import examine

    rows = [
        [finding.group, finding.name, finding.value if finding.well else f"[red]{finding.value}[/red]"]
        for finding in examine()
    ]
    print_table(["", "what", "found"], rows)
