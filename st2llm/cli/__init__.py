"""The command line: every command calls one function of the package and prints what it returns."""

import errno
import io
import shlex
import sys
import traceback
from typing import Annotated

import typer

from st2llm.cli import checks, comparison, data, environment, listing, prompts, records, series, training
from st2llm.cli.terminal import Verbosity, use_verbosity, visible
from st2llm.errors import St2llmError

app = typer.Typer(
    name="st2llm",
    help="Put spatio-temporal data into a language model, and find out whether it was worth it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (prompts, training, comparison, series, records, checks, environment):
    app.add_typer(group.app)
app.add_typer(data.app, name="data")
app.add_typer(listing.app, name="list")

_RESUMABLE = ("compare", "ladder", "curve", "shift", "calibrate", "pretrain", "align", "finetune", "instruct")
"""Commands that `--resume` continues."""
_VERBOSITY: dict[str, Verbosity] = {
    "--quiet": "quiet",
    "-q": "quiet",
    "--verbose": "verbose",
    "-v": "verbose",
}


def _print_version(wanted: bool) -> None:
    if wanted:
        import st2llm

        typer.echo(f"st2llm {st2llm.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; anywhere in a command.")
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="No progress and no notes, only results and errors; anywhere."),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also print what is done; anywhere.")
    ] = False,
) -> None:
    """Put spatio-temporal data into a language model, and find out whether it was worth it."""


_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


def _message(error: Exception) -> str:
    """The one message that a user sees for an error."""
    if isinstance(error, St2llmError):
        return str(error)
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        where = f" for {error.filename}" if error.filename else ""
        return f"There is no space left on the disk{where}. Free some and run the same command again."
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename or 'no file named'}. Give a path that can be used."
    return (
        f"Unexpected {type(error).__name__}: {error}. This is a bug in st2llm: run again with --debug and report the "
        f"traceback."
    )


def main(arguments: list[str] | None = None) -> None:
    """Runs a command and exits: 0 done, 1 failed, 2 usage error, 130 interrupted.

    arguments: those of the process where None. `--debug`, `--quiet` and `-v` may stand anywhere among them.
    """
    given = sys.argv[1:] if arguments is None else arguments
    words = [word for word in given if word != "--debug" and word not in _VERBOSITY]
    verbosity: Verbosity = next((_VERBOSITY[word] for word in given if word in _VERBOSITY), "normal")
    _replace_unprintable()
    if (unreadable := next((word for word in given if not _is_utf8(word)), None)) is not None:
        typer.echo(
            f"error: {unreadable!r} is not UTF-8, which reports and tables of predictions need. Rename that file or "
            f"folder.",
            err=True,
        )
        sys.exit(2)
    try:
        with use_verbosity(verbosity):
            app(args=words, prog_name="st2llm")
    except KeyboardInterrupt:
        sys.exit(_interrupted(words))
    except SystemExit as leaving:
        sys.exit(_interrupted(words) if leaving.code == 130 else leaving.code)
    except Exception as error:
        if "--debug" in given:
            traceback.print_exc()
        typer.echo(f"error: {visible(_message(error))}", err=True)
        sys.exit(1)


def _is_utf8(word: str) -> bool:
    """Whether a word of the command line can be written as UTF-8; bytes that it lacks come as surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in word)


def _replace_unprintable() -> None:
    """Lets a terminal or pipe without some characters (a dash in ASCII) show ? for them, not end the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _interrupted(words: list[str]) -> int:
    """Prints the command that continues the interrupted one, or repeats one that cannot be continued."""
    resumed = words if "--resume" in words else [*words, "--resume"]
    if any(word in _RESUMABLE for word in words[:2]):
        message = f"Interrupted. Finished work is kept. Continue with: st2llm {shlex.join(resumed)}"
    else:
        message = f"Interrupted. Start again with: st2llm {shlex.join(words)}"
    typer.echo(message, err=True)
    return 130
