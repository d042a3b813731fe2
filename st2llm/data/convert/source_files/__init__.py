"""Makes files that loaders read from files of a source that they do not: once, into the cache."""

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from st2llm.data import fetch
from st2llm.data.card.base import Conversion
from st2llm.data.convert.source_files import context_is_key, power_outages, storm_places, tourism
from st2llm.errors import ConfigError, StorageError, nearest

Converter = Callable[[Mapping[str, Path]], Mapping[str, str]]
"""Takes the source files by name and returns the text of the made files by name."""

CONVERTERS: Mapping[str, tuple[Converter, int]] = {
    "us-power-outages": (power_outages.convert, 1),
    "australia-tourism": (tourism.convert, 2),
    "storm-places": (storm_places.convert, 1),
    "context-is-key": (context_is_key.convert, 2),
}
"""By name: the converter and its version, which is raised whenever it makes other files of the same source."""


def converted(rule: Conversion, sources: Mapping[str, Path]) -> Path:
    """The folder with the files that a converter makes of these sources; they are made where it is not there yet.

    Raises ConfigError for an unknown converter, DataError for a source that it cannot read.
    """
    if rule.by not in CONVERTERS:
        raise ConfigError(f"There is no converter {rule.by!r}. {nearest(rule.by, CONVERTERS)}")
    convert, version = CONVERTERS[rule.by]
    hashes = "\n".join(f"{name} {fetch.sha256_of(path)}" for name, path in sorted(sources.items()))
    key = hashlib.sha256(f"{rule.by} {version}\n{hashes}".encode()).hexdigest()[:16]
    folder = fetch.cache_dir() / "converted" / f"{rule.by}-{key}"
    if not folder.is_dir():
        _write_folder(folder, convert(sources))
    return folder


def _write_folder(folder: Path, files: Mapping[str, str]) -> None:
    """Writes a folder as a whole; of several processes that write it at once, the first one's stays."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            made = Path(temporary) / folder.name
            made.mkdir()
            for name, text in files.items():
                (made / name).write_text(text, encoding="utf-8")
            if not folder.is_dir():
                made.rename(folder)
    except OSError as error:
        if not folder.is_dir():
            raise StorageError(
                f"{folder} could not be written: {error.strerror or error}. Free space, or set ST2LLM_CACHE to a "
                f"folder of your own."
            ) from error
