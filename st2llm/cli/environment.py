"""`st2llm doctor`: what is installed, cached and missing."""

from dataclasses import asdict

import typer

from st2llm.cli.options import AsJson, example
from st2llm.cli.terminal import print_json, print_table

app = typer.Typer()


@app.command(epilog=example("st2llm doctor"))
def doctor(as_json: AsJson = False) -> None:
    """Check the environment: what is installed, cached and missing."""
    from st2llm.commands.doctor import examine

    findings = examine()
    if as_json:
        print_json([asdict(finding) for finding in findings])
        return
    rows = [
        [finding.group, finding.name, finding.value if finding.well else f"[red]{finding.value}[/red]"]
        for finding in findings
    ]
    print_table(["", "what", "found"], rows)
