"""Template variables of videos, and the order in which truncation drops them."""

from collections.abc import Iterator, Mapping
from typing import Any

from st2llm.serialize.answer.series import SERIES_TASKS
from st2llm.serialize.template import truncation

CLIP_VARIABLES: Mapping[str, str] = {
    "dataset": "name of the data set",
    "description": "what the data are, in the card's words; may be empty",
    "unit": "unit of brightness and motion: levels of 0 to 255",
    "notes": "sentences known in advance (a list)",
    "picture": "width and height of the picture in pixels: 160 x 120; may be empty",
    "fps": "frames a second, on average",
    "seen": "how many frames are shown",
    "seconds": "how long what is shown lasts",
    "regions": "the names of the regions, row by row: top left, top centre, ...",
    "looks": "some frames in words: .time, .brightness, .motion, .moves, .colours and .labels (each may be '')",
    "labelled": "whether the looks have labels; without them nobody has said what the frames show",
    "movement": "what moves in each region over all that is shown: .label and .text",
    "cuts": "the times at which a new shot begins (a list)",
}


SAMPLE_VARIABLES: Mapping[str, str] = {
    **CLIP_VARIABLES,
    "channel": "what is asked for: brightness or motion",
    "count": "how many frames are asked for",
}


PLACE_VARIABLES: Mapping[str, str] = {
    **SAMPLE_VARIABLES,
    "place": "name of the region",
    "history": "lines, oldest first, each with .label and .numbers; ? stands for what is asked for amid them",
    "asked": "label of the line to be continued: frames 13 to 18",
    "asked_frames": "the numbers of the frames that are asked for (a list)",
    "neighbours": "lines of the adjacent regions, each with .label and .numbers",
    "recent": "how many values of each neighbour are shown",
    "other": "the last `recent` values of what is not asked for (motion or brightness) in the same region",
    "other_channel": "what that is: motion or brightness",
    "number_step": "what a difference of one stands for, in the unit",
    "number_shift": "what was added to every number; 0 where nothing is negative",
    "number_note": "how to read the numbers, in a sentence; '' where they are plain numbers",
    "missing": "whether an x for a missing value is shown",
}


LABEL_VARIABLES: Mapping[str, str] = {
    **CLIP_VARIABLES,
    "question": "what is asked, in words; may be empty",
    "options": "what can be chosen from; empty where the answer is free (a list)",
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
