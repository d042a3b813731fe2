"""Copies a finished run into evaluation/reports as a report to commit."""

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from st2llm.errors import ConfigError
from st2llm.evaluate.run_folder.reading import read_json, read_lines, read_table
from st2llm.evaluate.run_folder.store import run_folders

_FILES = (
    "run.json",
    "results.jsonl",
    "curves.jsonl",
    "controls.json",
    "memory.json",
    "report.md",
    "report.html",
)
_OPTIONAL = {"curves.jsonl", "controls.json", "memory.json"}
_OVER_RUNS = (".md", ".html", ".svg", ".json", ".jsonl")
"""Endings of the files that a ladder, a curve or another report over several runs has beside their folders."""
_MIN_SEEDS = 3
_LARGE_BYTES = 1_000_000
_MACHINE_PATH = re.compile(
    r"(?<![\w.:/~-])/(?:home|Users|root|tmp|private|mnt|opt|srv|var|work|workspace)/[\w.+/@-]+"
)
"""An absolute path as it stands in a record or a page; the path of a web address does not match."""


@dataclass(frozen=True)
class Publication:
    """A report that was copied. notes: limitations of the run that a reader of the report should know."""

    folder: Path
    notes: tuple[str, ...]


def publish(run: Path, reports: Path = Path("evaluation/reports"), *, name: str | None = None) -> Publication:
    """Copies a finished run, or the runs of a list of suites, to `reports`/<date>-<suite> for committing.

    The copy holds the pages, records, curves, controls, arm results, scores.parquet and validation_scores.parquet, from
    which `st2llm report --rescore` computes the records again; predictions and answers stay behind. The report over
    several runs that lies beside their folders, such as that of a ladder, is copied as well. name: the folder's name
    instead of <date>-<suite>.

    Raises ConfigError where a part of the run was made from a tree with uncommitted changes or from no known commit, is
    not finished, or mentions a path of this machine, and where `reports` does not exist or holds the report already.
    """
    runs = run_folders(run)
    cards = {folder: read_json(folder / "run.json") for folder in runs}
    target = _target(run, cards, reports, name)
    for folder, card in cards.items():
        _check_finished(folder, card)
        _check_clean(folder, card)
        _check_paths(folder)
    over_runs = _files_over_runs(run, runs)
    for path in over_runs:
        _check_path(path)
    with tempfile.TemporaryDirectory(dir=reports, prefix=".publish-") as temporary:
        staged = Path(temporary) / target.name
        for folder in runs:
            _copy(folder, staged / folder.relative_to(run))
        for path in over_runs:
            shutil.copyfile(path, staged / path.name)
        notes = tuple(
            note
            for folder in runs
            for note in _notes(folder, cards[folder], staged / folder.relative_to(run))
        )
        staged.replace(target)
    return Publication(target, notes)


def _target(run: Path, cards: Mapping[Path, Mapping[str, Any]], reports: Path, name: str | None) -> Path:
    if not reports.is_dir():
        raise ConfigError(
            f"There is no folder {reports} to publish to. Run the command in the root of a clone of st2llm."
        )
    suite = next(iter(cards.values()))["suite"]["id"] if run in cards else run.resolve().name
    date = min(str(card["started"]) for card in cards.values())[:10]
    target = reports / (name or f"{date}-{suite}")
    if target.exists():
        raise ConfigError(
            f"{target} exists already. Remove it with `git rm -r {target}` to replace it, or give another --name."
        )
    return target


def _check_finished(folder: Path, card: Mapping[str, Any]) -> None:
    missing = [n for n in (*_FILES, "scores.parquet") if n not in _OPTIONAL and not (folder / n).is_file()]
    if "finished" not in card or missing:
        what = f"it has no {missing[0]}" if missing else "its run.json has no `finished`"
        raise ConfigError(
            f"{folder} is not a finished run: {what}. Finish it with `st2llm compare ... --out {folder} --resume`."
        )


def _check_clean(folder: Path, card: Mapping[str, Any]) -> None:
    for start in (card, *card.get("resumed", [])):
        if start["commit"] == "unknown":
            raise ConfigError(
                f"The code that ran {folder} on {start['started']} has no known commit, so its report cannot be "
                f"published. Run the suite from a git checkout of st2llm."
            )
        if start["dirty"]:
            changed = ", ".join(start.get("changed", [])) or "files outside the package and the recipes"
            raise ConfigError(
                f"{folder} was run on {start['started']} from commit {start['commit'][:7]} with uncommitted changes "
                f"({changed}), so its report cannot be published. Commit them and run the suite again."
            )


def _check_paths(folder: Path) -> None:
    texts = [folder / name for name in _FILES if (folder / name).is_file()]
    for path in [*texts, *sorted((folder / "arms").glob("*.json"))]:
        _check_path(path)


def _check_path(path: Path) -> None:
    if found := _machine_path(path.read_text(encoding="utf-8")):
        raise ConfigError(
            f"{path} mentions {found}, a path of this machine, so it cannot be published. Name data, models and "
            f"checkpoints in the suite by name or by a path relative to the clone, and run it again."
        )


def _files_over_runs(run: Path, runs: Sequence[Path]) -> list[Path]:
    """The files of a report over several runs; none where `run` is the folder of one."""
    if run in runs:
        return []
    return sorted(path for path in run.iterdir() if path.is_file() and path.suffix in _OVER_RUNS)


def _machine_path(text: str) -> str | None:
    """The first path of this machine in a text: below the home or the working directory, or below a usual root."""
    for folder in (Path.home(), Path.cwd()):
        if len(folder.parts) > 2 and (at := text.find(f"{folder}/")) >= 0:
            return text[at : at + 100].split('"')[0].split()[0]
    match = _MACHINE_PATH.search(text)
    return match.group() if match else None


def _copy(folder: Path, target: Path) -> None:
    (target / "arms").mkdir(parents=True)
    for path in (folder / name for name in _FILES):
        if path.is_file():
            shutil.copyfile(path, target / path.name)
    for path in sorted((folder / "arms").glob("[!.]*.json")):
        shutil.copyfile(path, target / "arms" / path.name)
    for path in folder.glob("*scores.parquet"):
        table = read_table(path)
        table.to_parquet(target / path.name, index=False, compression="zstd", compression_level=19)


def _notes(folder: Path, card: Mapping[str, Any], copy: Path) -> Iterator[str]:
    name = card["suite"]["id"]
    seeds = len(card["seeds"])
    trained = any(record.get("lr") is not None for record in read_lines(folder / "results.jsonl"))
    if trained and seeds < _MIN_SEEDS:
        yield f"{name}: {seeds} of at least {_MIN_SEEDS} seeds, so the noise of training is not measured"
    if card["suite"].get("demo"):
        yield f"{name}: a demo, whose results are not to be quoted"
    if trained and card.get("llm") and not (folder / "controls.json").is_file():
        yield f"{name}: no planted controls"
    others = sorted({start["commit"][:7] for start in card.get("resumed", [])} - {card["commit"][:7]})
    if others:
        yield f"{name}: started at commit {card['commit'][:7]}, resumed at {', '.join(others)}"
    size = sum(path.stat().st_size for path in copy.glob("*.parquet"))
    if size > _LARGE_BYTES:
        yield f"{name}: scores of {size / 1e6:.1f} MB"
