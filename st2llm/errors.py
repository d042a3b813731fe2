"""What can go wrong through no fault of ours. Each message says what was expected, what came, where, and what to do."""

import difflib
from collections.abc import Iterable


class St2llmError(Exception):
    """The root of all errors a user can cause; the command line prints these without a traceback."""


class DataError(St2llmError):
    """A file, card or container does not hold what its description promises."""


class ConfigError(St2llmError):
    """A suite, config, template or name is not one that exists."""


class ArtefactError(St2llmError):
    """A download or cached file is missing, truncated or not the one that was pinned."""


class AlignmentError(St2llmError):
    """Soft tokens, heads and prompts do not fit each other."""


class TrainingError(St2llmError):
    """Training cannot go on, for instance because the loss is not a number."""


class StorageError(St2llmError):
    """Results could not be written."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that ends an error message: the nearest known name, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Known: {', '.join(names) or 'none'}."
