"""The provenance of data: its source, its licence, and a hash of its files and card."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from st2llm.data import fetch
from st2llm.data.card import Card
from st2llm.types import Provenance

_EARLIER_MISSING = {"NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None"}
"""Texts that counted as missing in every graph before `missing` was a key: stated, they change nothing."""


def provenance_of(card: Card, files: Mapping[str, Path], steps: tuple[str, ...]) -> Provenance:
    """The provenance of data that were read from these files. steps: what was done to them, in words.

    sha256 covers the hashes of the files and the keys of the card, so it identifies both. Keys at their defaults are
    left out, so that a key that is added to cards later does not change earlier hashes.
    """
    digest = hashlib.sha256(json.dumps(_hashed_keys(card), sort_keys=True).encode())
    hashes = {name: _sha256(files[name]) for name in sorted(files)}
    for name, sha256 in hashes.items():
        digest.update(f"{name} {sha256}\n".encode())
    return Provenance(
        source=(card.source.origin if card.source else "") or ", ".join(sorted(files)),
        sha256=digest.hexdigest(),
        licence=card.licence,
        citation=card.citation,
        leakage=card.leakage,
        steps=steps,
        files=tuple(hashes[name] for name in _value_files(card, hashes)),
    )


def _value_files(card: Card, files: Iterable[str]) -> list[str]:
    """The files that `values`, `table` or `files` of a card name; all where these are patterns."""
    keys = card.model_dump(mode="json", include={"values", "table", "files"})
    mentioned = json.dumps(keys, ensure_ascii=False)
    return [name for name in files if name in mentioned] or list(files)


def _hashed_keys(card: Card) -> dict[str, Any]:
    """The keys of a card that enter its hash, under their earliest names, so that a renamed key keeps the hash.

    Where a person gets the files is no property of the data.
    """
    keys = card.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"obtain"})
    if card.kind == "graph" and "clock" in keys.get("time", {}):
        time = dict(keys["time"])
        keys["time"] = {**time, "hour": time.pop("clock")}
        del keys["time"]["clock"]
    if card.kind == "graph" and set(keys.get("missing", ())) <= _EARLIER_MISSING:
        keys.pop("missing", None)
    return keys


def _sha256(path: Path) -> str:
    """The hash of a file; for a folder (a Zarr store, a saved data set), of the names and hashes of its files."""
    if not path.is_dir():
        return fetch.sha256_of(path)
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()} {fetch.sha256_of(file)}\n".encode())
    return digest.hexdigest()
