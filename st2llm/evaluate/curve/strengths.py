"""The settings of a curve over the strength of injected drift, from the words of a command."""

from collections.abc import Sequence
from typing import Any

from st2llm.config.curve import DRIFT_KINDS
from st2llm.errors import ConfigError, nearest


def strength_settings(strengths: Sequence[str], kinds: Sequence[str]) -> dict[str, Any]:
    """Settings by dotted key: the strengths as the values of a curve, and the kinds of drift where some are named.

    strengths: numbers. kinds: `level` or `level=0.5`. Raises ConfigError for words that are no number or no kind.
    """
    values = [_number(word, "--strength") for word in strengths]
    settings: dict[str, Any] = {"curve": {"axis": "shift.strength", "values": values}}
    test = {}
    for word in kinds:
        kind, sign, size = word.partition("=")
        if kind not in DRIFT_KINDS:
            raise ConfigError(f"--kind: there is no drift {kind!r}. {nearest(kind, DRIFT_KINDS)}")
        test[kind] = _number(size, f"--kind {kind}") if sign else 1.0
    return settings | ({"shift.test": test} if test else {})


def _number(word: str, option: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ConfigError(f"{option} takes numbers, such as 0 0.5 1, but {word!r:.40} came.") from None
