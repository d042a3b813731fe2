"""Notes that state a level in words, of which training, validation and test share none.

A bag of words learns nothing about the words of the test part, and subwords (character n-grams) next to nothing: the
words were drawn at random from lists of synonyms until a logistic regression on character n-grams was at chance. In the
last hidden states of SmolLM2-135M, mean over the prompt, the same probe names the level of 94 % of the test notes
(92 % with 6 of 30 layers); with random weights, of 40 %.
"""

import numpy as np

LEVELS = (-1, 0, 1)
"""Low, usual, high: the sign of the planted effect."""
CARRIERS = (
    "Activity now: {}.",
    "It is {} here.",
    "Observers call it {}.",
    "In one word, {}.",
    "Expect it to be {}.",
)
"""The same in all parts and for all levels, so they carry no information."""
WORDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "train": (
        ("dormant", "low", "deserted", "hushed", "barren", "slow", "subdued", "minimal", "sparse", "empty"),
        (
            "everyday",
            "middling",
            "conventional",
            "balanced",
            "standard",
            "usual",
            "unsurprising",
            "familiar",
            "typical",
            "moderate",
        ),
        (
            "overrun",
            "massive",
            "swarming",
            "jammed",
            "booming",
            "frantic",
            "packed",
            "bustling",
            "turbulent",
            "huge",
        ),
    ),
    "validation": (
        ("faint", "idle", "peaceful"),
        ("customary", "commonplace", "unremarkable"),
        ("rushed", "frenzied", "teeming"),
    ),
    "test": (
        ("vacant", "calm", "tranquil", "tiny", "lifeless", "quiet", "desolate", "inactive"),
        ("habitual", "mediocre", "regular", "ordinary", "expected", "routine", "medium", "average"),
        ("crowded", "intense", "enormous", "lively", "heavy", "thronged", "feverish", "hectic"),
    ),
}
"""By part of the split, the words for each level."""


def level_note(part: str, level: int, rng: np.random.Generator) -> str:
    """A sentence that states a level of LEVELS in a word that occurs in this part of the split alone.

    part: train, validation or test.
    """
    words = WORDS[part][LEVELS.index(level)]
    return CARRIERS[int(rng.integers(len(CARRIERS)))].format(words[int(rng.integers(len(words)))])
