"""Template variables of grids, and the order in which truncation drops them."""

from collections.abc import Iterator, Mapping
from typing import Any

from st2llm.serialize.answer.series import SERIES_TASKS
from st2llm.serialize.template import truncation
from st2llm.serialize.text.field_variables import CONTEXT_VARIABLES, TARGET_VARIABLES

MAP_VARIABLES: Mapping[str, str] = {
    "table": "the latest step as a coarse table, north on top: lines with .label and .numbers; -- for no value",
    "columns": "the labels of the table's columns (a list)",
    "table_time": "time of the table",
    "each": "meaning of a number in the table: the mean of 4 x 6 cells",
    "top": "the cells of the largest latest values as text (a list)",
    "regions": "mean of each region at that time and its change since the first step: .label and .numbers",
}


PLACE_VARIABLES: Mapping[str, str] = {
    **CONTEXT_VARIABLES,
    **TARGET_VARIABLES,
    "place": "name of the cell: 60.5°N 20.0°W",
    "about": "description of the cell, such as its land use; may be empty",
    "history": "lines, oldest first, each with .label and .numbers; ? stands for a target entry",
    "covariates": "the lines of `history` that are of covariates",
    "asked": "label of the line to continue",
    "asked_stamps": "short time stamps of the target steps (a list)",
    "order": "order of the target series where there are several: 24 of inflow, then 24 of outflow",
    "neighbours": "lines of the adjacent cells, each with .label, .numbers and .where (north)",
    "recent": "number of values shown for each neighbour",
    "number_step": "the value of a difference of one, in the unit",
    "number_shift": "offset added to every number; 0 where no value is negative",
    "number_note": "a sentence that explains the numbers; '' for plain numbers",
    "missing": "whether a missing value is shown as x",
    **MAP_VARIABLES,
}


SAMPLE_VARIABLES: Mapping[str, str] = {
    **CONTEXT_VARIABLES,
    **TARGET_VARIABLES,
    "history": "the means of each region, oldest first, as lines with .label and .numbers",
    "asked": "the target regions in order, with the number of values of each",
    "total": "total number of target values",
    "number_step": PLACE_VARIABLES["number_step"],
    "number_shift": PLACE_VARIABLES["number_shift"],
    "number_note": PLACE_VARIABLES["number_note"],
    "missing": PLACE_VARIABLES["missing"],
    **MAP_VARIABLES,
}


TABLE_VARIABLES: Mapping[str, str] = {
    **CONTEXT_VARIABLES,
    **MAP_VARIABLES,
    "first_table": "the first step shown, as a table of the same form",
    "first_time": "time of that table",
    "named": "readings of the cells that the question or its options name: .label and .lines",
    "missing": PLACE_VARIABLES["missing"],
}


QUESTION_VARIABLES: Mapping[str, str] = {
    **TABLE_VARIABLES,
    "question": "text of the question",
    "options": "options to choose from; empty where the answer is free (a list)",
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
