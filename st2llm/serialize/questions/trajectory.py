"""Questions about trajectories: paths of coordinates, or visits to places."""

from collections.abc import Iterator

import numpy as np

from st2llm.serialize.questions.question import QuestionAnswer, choice_question, number_question
from st2llm.serialize.text import compass, statistics
from st2llm.serialize.text.formatting import decimals_showing
from st2llm.types import Sample

_CANDIDATES = 4
_KM, _FAR_M = 1000.0, 10_000.0


def generate(sample: Sample, draw: np.random.Generator) -> Iterator[QuestionAnswer]:
    """Distance travelled and direction; how many places, where most often and longest, how long at a place."""
    yield from _along(sample)
    yield from _stays(sample, draw)


def _along(sample: Sample) -> Iterator[QuestionAnswer]:
    xy, steps = statistics.visible_path(sample)
    if len(xy) < 2 or (np.diff(steps) != 1).any():  # a hidden span within the way has no known length
        return
    way, straight = statistics.path_length(xy), xy[-1] - xy[0]
    if way <= 0:
        return
    metric = compass.is_metric(sample.side.unit)
    scale, unit = (
        (_KM, "kilometres") if metric and way >= _FAR_M else (1.0, "metres" if metric else sample.side.unit)
    )
    yield number_question(
        "distance",
        "How long is the way along all the positions shown, in straight lines from one to the next?",
        way / scale,
        decimals=0 if way / scale >= 100 else decimals_showing(way / scale, least=2),
        unit=unit,
        provenance=f"sum of the {len(xy) - 1} distances between consecutive visible fixes: {way:.6g}",
        tolerance=0.02,
    )
    clear = float(np.hypot(*straight)) > 0.1 * way
    if clear and _off_border(*straight):
        word = compass.direction(float(straight[0]), float(straight[1]))
        yield choice_question(
            "direction",
            "In which direction does the last position shown lie from the first?",
            word,
            compass.DIRECTIONS,
            provenance=f"{straight[0]:.6g} east and {straight[1]:.6g} north from the first visible fix to the last",
        )


def _off_border(east: float, north: float) -> bool:
    """Whether a direction is at least three degrees from the border between two winds."""
    return (
        abs((compass.bearing_deg(east, north) + 22.5) % 45) > 3
        and (compass.bearing_deg(east, north) + 22.5) % 45 < 42
    )


def _stays(sample: Sample, draw: np.random.Generator) -> Iterator[QuestionAnswer]:
    codes, steps = statistics.visible_codes(sample, "place")
    if len(codes) < 2:
        return
    places = statistics.option_texts(sample)
    visited = sorted(set(codes))
    yield number_question(
        "different-places",
        "How many different places are visited in what is shown?",
        len(visited),
        decimals=0,
        provenance=f"distinct visible places of {len(codes)} stays",
    )
    yield from _top(
        "most-visits",
        "Which of these places is visited most often in what is shown?",
        {place: float(codes.count(place)) for place in visited},
        places,
        "number of visible stays",
    )
    yield from _durations(sample, codes, steps, places, draw)


def _durations(
    sample: Sample, codes: list[int], steps: np.ndarray, places: tuple[str, ...], draw: np.random.Generator
) -> Iterator[QuestionAnswer]:
    minutes = statistics.visible_channel(sample, "duration_min")
    if minutes is None:
        return
    spent: dict[int, float] = {}
    for code, step in zip(codes, steps.tolist(), strict=True):
        spent[code] = spent.get(code, 0.0) + float(minutes[step])
    complete = {code: total for code, total in spent.items() if np.isfinite(total)}
    if not complete:
        return
    if len(complete) == len(spent):
        yield from _top(
            "longest-at",
            "At which of these places is most time spent, all its stays shown taken together?",
            complete,
            places,
            "sum of the durations of the visible stays",
        )
    chosen = sorted(complete)[int(draw.integers(len(complete)))]
    yield number_question(
        "time-at",
        f"How many minutes are spent at {_place(places[chosen])} in all the stays shown?",
        complete[chosen],
        decimals=0,
        unit="minutes",
        provenance=f"sum of the durations of the {codes.count(chosen)} visible stays at {sample.side.options[chosen]}",
    )


def _place(word: str) -> str:
    """Places that are known by number alone are called `place 9` in prompts."""
    return f"place {word}" if word.isdigit() else word


def _top(
    topic: str, question: str, score: dict[int, float], places: tuple[str, ...], how: str
) -> Iterator[QuestionAnswer]:
    """The place that scores most among the few best."""
    order = sorted(score, key=lambda place: (-score[place], place))
    kept = order[:_CANDIDATES]
    if len(kept) < 2 or score[kept[0]] == score[kept[1]]:
        return
    listed = sorted(kept)
    scores = "; ".join(f"{places[place]} {score[place]:g}" for place in kept)
    yield choice_question(
        topic,
        question,
        places[kept[0]],
        tuple(places[place] for place in listed),
        provenance=f"{how}: {scores}",
    )
