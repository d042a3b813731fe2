"""Sentences that state a level, in phrases of which training, validation and test share none.

Only a model that learned before which phrases mean the same can carry the level from training to test.
"""

import numpy as np

LEVELS = (0.4, 1.0, 1.6)
"""The factor of each level: low, usual, high."""
_CARRIERS = ("Note for the day: {}.", "Today {}.", "The warden writes: {}.")
_PHRASES: dict[str, tuple[tuple[str, ...], ...]] = {
    "train": (
        (
            "the streets are nearly empty",
            "hardly anyone is about",
            "the town is deserted",
            "it is very quiet",
            "almost nobody comes",
            "the place feels abandoned",
            "only a few people pass",
        ),
        (
            "it is an ordinary day",
            "things are as usual",
            "nothing special is going on",
            "a normal number of people pass",
            "it is a typical day",
            "all is at its regular level",
            "there is an average crowd",
        ),
        (
            "the streets are packed",
            "huge crowds are out",
            "the town is overflowing with people",
            "it is extremely busy",
            "everyone is coming",
            "the pavements are jammed",
            "a great many people pass",
        ),
    ),
    "validation": (
        (
            "there is barely a soul around",
            "the centre lies empty and silent",
            "scarcely any visitors show up",
        ),
        ("everything runs its normal course", "the turnout is standard", "it is a day like any other"),
        (
            "masses of visitors fill the centre",
            "there is a huge throng",
            "the squares are bursting with people",
        ),
    ),
    "test": (
        (
            "the centre is a ghost town",
            "hardly a visitor shows up",
            "few walkers are around",
            "the roads are silent and bare",
            "there is next to no one outside",
        ),
        (
            "the usual numbers turn up",
            "a routine day unfolds",
            "visitors come as they normally do",
            "everything is about average",
            "it is business as normal",
        ),
        (
            "the centre is swarming with shoppers",
            "an enormous crowd gathers",
            "the place is crammed full",
            "streams of visitors fill the roads",
            "there are throngs everywhere",
        ),
    ),
}


def level_note(part: str, level: int, rng: np.random.Generator) -> str:
    """A sentence that states a level (0 to 2) in phrases that occur in this part of the split alone."""
    phrases = _PHRASES[part][level]
    return _CARRIERS[int(rng.integers(len(_CARRIERS)))].format(phrases[int(rng.integers(len(phrases)))])
