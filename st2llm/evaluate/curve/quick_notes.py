"""What the quick form of a curve changes, and what it therefore cannot show."""

from collections.abc import Mapping
from typing import Any

from st2llm.evaluate.curve.points import CurvePlan

_CANNOT: Mapping[str, str] = {
    "curve": "what happens at the values that are left out",
    "budget": "what arms reach when they are trained for all steps",
    "encoder": "what arms reach with the encoder of the full form",
    "windows": "gains as small as the full form finds, since intervals are wider with fewer test windows",
    "limit": "gains as small as the full form finds, since intervals are wider with fewer test windows",
    "validation": "the choice of arms and of their best state as exactly, with fewer validation windows",
    "predictors": "the predictors that are left out",
    "seeds": "the variation between as many training runs",
    "llm": "the language model of the full form",
    "train": "what arms learn from all training windows",
}


def quick_notes(plan: CurvePlan) -> list[str]:
    """A sentence for each setting that the quick form changes; none for the full form."""
    if plan.full is None:
        return []
    before = plan.full.model_dump(mode="json")
    after = plan.suite.model_dump(mode="json")
    notes = []
    for key in plan.full.quick:
        root = key.partition(".")[0]
        old, new = _at(before, key), _at(after, key)
        cannot = _CANNOT.get(root, "the setting of the full form")
        notes.append(f"`{key}` is {_short(new)} in place of {_short(old)}: it cannot show {cannot}.")
    return notes


def _at(settings: Any, key: str) -> Any:
    for step in key.split("."):
        settings = settings.get(step) if isinstance(settings, Mapping) else None
    return settings


def _short(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], Mapping) and "name" in value[0]:
        return f"{len(value)} predictors ({', '.join(str(entry['name']) for entry in value)})"
    return "all" if value is None else str(value)
