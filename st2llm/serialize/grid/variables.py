"""Template variables of grids, and the order in which truncation drops them."""

from collections.abc import Iterator, Mapping
from typing import Any

from st2llm.serialize.answer.series import SERIES_TASKS
from st2llm.serialize.template import truncation
from st2llm.serialize.text.field_variables import CONTEXT_VARIABLES, TARGET_VARIABLES

MAP_VARIABLES: Mapping[str, str] = {
    "table": "the latest step as a coarse table, north on top: lines with .label and .numbers; -- where none is read",
    "columns": "the labels of the table's columns (a list)",
    "table_time": "the moment of the table",
    "each": "what a number of the table is: the mean of 4 x 6 cells",
    "top": "the cells of the greatest latest values, in words (a list)",
    "regions": "the mean of each region at that moment, and how it changed since the first step: .label and .numbers",
}


PLACE_VARIABLES: Mapping[str, str] = {
    **CONTEXT_VARIABLES,
    **TARGET_VARIABLES,
    "place": "name of the cell: 60.5°N 20.0°W",
    "about": "words about the cell, such as what is in it; may be empty",
    "history": "lines, oldest first, each with .label and .numbers; ? stands for what is asked for amid them",
    "asked": "label of the line to be continued",
    "asked_stamps": "the moments asked for, in short (a list)",
    "order": "what is asked for one after another, where it is more than one thing: 24 of inflow, then 24 of outflow",
    "neighbours": "lines of the cells beside, each with .label, .numbers and .where (north)",
    "recent": "how many values of each neighbour are shown",
    "number_step": "what a difference of one stands for, in the unit",
    "number_shift": "what was added to every number; 0 where nothing is negative",
    "number_note": "how to read the numbers, in a sentence; '' where they are plain numbers",
    "missing": "whether an x for a missing value is shown",
    **MAP_VARIABLES,
}


SAMPLE_VARIABLES: Mapping[str, str] = {
    **CONTEXT_VARIABLES,
    **TARGET_VARIABLES,
    "history": "the means of each region, oldest first, as lines with .label and .numbers",
    "asked": "the regions in the order in which they are asked for, with the number of values of each",
    "total": "how many numbers are asked for in all",
    "number_step": PLACE_VARIABLES["number_step"],
    "number_shift": PLACE_VARIABLES["number_shift"],
    "number_note": PLACE_VARIABLES["number_note"],
    "missing": PLACE_VARIABLES["missing"],
    **MAP_VARIABLES,
}


TABLE_VARIABLES: Mapping[str, str] = {
    **CONTEXT_VARIABLES,
    **MAP_VARIABLES,
    "first_table": "the first step shown, as such a table",
    "first_time": "the moment of that table",
    "named": "the readings of the cells that the question or its options name: .label and .lines, as of a history",
    "missing": PLACE_VARIABLES["missing"],
}


QUESTION_VARIABLES: Mapping[str, str] = {
    **TABLE_VARIABLES,
    "question": "what is asked, in words",
    "options": "what can be chosen from; empty where the answer is free (a list)",
}


def drop_order(variables: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields what truncation drops, in order: the name of the part, and the remaining variables.

    The order is: the first table, top cells (smallest first), the table, covariates, the description, the text about
    the cell, neighbours (last first), regions, mentioned cells (last first), history of a cell (oldest lines first).
    The newest line of history, lines with a target entry, the histories of target regions, and one neighbour of a cell
    without history stay.
    """
    left = dict(variables)
    if left.get("first_table"):
        left["first_table"] = ()
        yield "table of the first step", truncation.with_missing_flag(left)
    while left.get("top"):
        cell, left["top"] = left["top"][-1], left["top"][:-1]
        yield f"top cell {cell}", truncation.with_missing_flag(left)
    if left.get("table"):
        left["table"] = ()
        yield "table of the latest step", truncation.with_missing_flag(left)
    for dropped in truncation.drop_extra_readings(left):
        yield dropped, truncation.with_missing_flag(left)
    for name, label in (("description", "description"), ("about", "words about the cell")):
        if left.get(name):
            left[name] = ""
            yield label, truncation.with_missing_flag(left)
    for dropped in truncation.drop_neighbours(left):
        yield dropped, truncation.with_missing_flag(left)
    if left.get("regions"):
        left["regions"] = ()
        yield "regions", truncation.with_missing_flag(left)
    while left.get("named"):
        block, left["named"] = left["named"][-1], left["named"][:-1]
        yield f"cell {block.label}", truncation.with_missing_flag(left)
    for dropped in () if "total" in left else truncation.drop_history(left):
        yield dropped, truncation.with_missing_flag(left)


def variable_names(task: str, per: str) -> Mapping[str, str]:
    if task in SERIES_TASKS:
        per_sample = SAMPLE_VARIABLES if task == "forecast" else {**CONTEXT_VARIABLES, **TARGET_VARIABLES}
        return PLACE_VARIABLES if per == "place" else per_sample
    return {"describe": TABLE_VARIABLES, "question-answer": QUESTION_VARIABLES}[task]
