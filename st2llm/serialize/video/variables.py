"""Template variables of videos, and the order in which truncation drops them."""

from collections.abc import Iterator, Mapping
from typing import Any

from st2llm.serialize.answer.series import SERIES_TASKS
from st2llm.serialize.template import truncation

CLIP_VARIABLES: Mapping[str, str] = {
    "dataset": "name of the data set",
    "description": "description from the data card; may be empty",
    "unit": "unit of brightness and motion: levels of 0 to 255",
    "notes": "notes that are known in advance (a list of sentences)",
    "picture": "width and height of the picture in pixels: 160 x 120; may be empty",
    "fps": "mean number of frames per second",
    "seen": "number of frames shown",
    "seconds": "duration of the frames shown, in seconds",
    "regions": "the names of the regions, row by row: top left, top centre, ...",
    "looks": "some frames as text: .time, .brightness, .motion, .moves, .colours and .labels (each may be '')",
    "labelled": "whether the looks have labels of their content",
    "movement": "movement in each region over all frames shown: .label and .text",
    "cuts": "the times at which a new shot begins (a list)",
}


SAMPLE_VARIABLES: Mapping[str, str] = {
    **CLIP_VARIABLES,
    "channel": "target channel: brightness or motion",
    "count": "number of target frames",
}


PLACE_VARIABLES: Mapping[str, str] = {
    **SAMPLE_VARIABLES,
    "place": "name of the region",
    "history": "lines, oldest first, each with .label and .numbers; ? stands for a target entry",
    "asked": "label of the line to continue: frames 13 to 18",
    "asked_frames": "numbers of the target frames (a list)",
    "neighbours": "lines of the adjacent regions, each with .label and .numbers",
    "recent": "number of values shown for each neighbour",
    "other": "the last `recent` values of the other channel in the same region",
    "other_channel": "name of the other channel: motion or brightness",
    "number_step": "the value of a difference of one, in the unit",
    "number_shift": "offset added to every number; 0 where no value is negative",
    "number_note": "a sentence that explains the numbers; '' for plain numbers",
    "missing": "whether a missing value is shown as x",
}


LABEL_VARIABLES: Mapping[str, str] = {
    **CLIP_VARIABLES,
    "question": "text of the question; may be empty",
    "options": "options to choose from; empty where the answer is free (a list)",
}


def drop_order(variables: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields what truncation drops, in order: the name of the part, and the remaining variables.

    The order is: neighbours (last first), the other channel, colours of the frames, every second frame (repeatedly,
    newest first, until one is left), movement, the description, history (oldest lines first). One frame, the newest
    line of history, lines with a target entry, and one neighbour of a region without history stay.
    """
    left = dict(variables)
    for dropped in truncation.drop_neighbours(left):
        yield dropped, truncation.with_missing_flag(left)
    if left.get("other"):
        left["other"] = ()
        yield (
            f"values of {left.get('other_channel', 'the other channel')}",
            truncation.with_missing_flag(left),
        )
    if any(look.colours for look in left.get("looks", ())):
        left["looks"] = tuple(look.without_colours() for look in left["looks"])
        yield "colours", truncation.with_missing_flag(left)
    while len(left.get("looks", ())) > 1:
        for position in range(len(left["looks"]) - 2, -1, -2):
            look = left["looks"][position]
            left["looks"] = (*left["looks"][:position], *left["looks"][position + 1 :])
            yield f"look at {look.time}", truncation.with_missing_flag(left)
    if left.get("movement"):
        left["movement"] = ()
        yield "movement", truncation.with_missing_flag(left)
    if left.get("description"):
        left["description"] = ""
        yield "description", truncation.with_missing_flag(left)
    for dropped in truncation.drop_history(left):
        yield dropped, truncation.with_missing_flag(left)


def variable_names(task: str, per: str) -> Mapping[str, str]:
    if task in SERIES_TASKS:
        return PLACE_VARIABLES if per == "place" else SAMPLE_VARIABLES
    return LABEL_VARIABLES
