"""The errors that a user can cause. Each message says what was expected, what came, where, and what to do."""

import difflib
from collections.abc import Iterable


class St2llmError(Exception):
    """The base class of errors that a user can cause; the command line prints them without a traceback."""


class DataError(St2llmError):
    """A file, data card or container does not hold what it should."""


class ConfigError(St2llmError):
    """A suite, config, template or name does not exist, or a setting is invalid."""


class ArtefactError(St2llmError):
    """A download or cached file is missing, truncated or not the one that was pinned."""


class AlignmentError(St2llmError):
    """Soft tokens, heads and prompts have different sizes."""


class TrainingError(St2llmError):
    """Training cannot continue, for instance because the loss is NaN."""


class StorageError(St2llmError):
    """Results could not be written."""


class EngineError(St2llmError):
    """Jobs could not be run on other processes or machines, or one of them failed there."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for the end of an error message: the nearest known name, or all names."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Known: {', '.join(names) or 'none'}."
