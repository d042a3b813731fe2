"""Made clips are the same for a seed, hold every sort of answer, and refuse what makes no clip."""

from collections import Counter

import numpy as np
import pytest

import st2llm
from st2llm import tasks
from st2llm.data.load.moving_shapes import moving_shapes
from st2llm.errors import DataError
from st2llm.serialize.questions import generate_questions


def test_the_same_seed_makes_the_same_clips():
    first, second = moving_shapes(3, seed=1), moving_shapes(5, seed=1)
    for a, b in zip(first, second, strict=False):
        assert a.id == b.id and np.array_equal(a.frames, b.frames)
    assert not np.array_equal(first[0].frames, moving_shapes(1, seed=2)[0].frames)


@pytest.mark.slow
def test_every_topic_has_several_answers_and_none_is_nearly_always_right():
    part = st2llm.split(moving_shapes(120, frames=17), tasks.forecast(16, 1), stride=17).train
    assert len(part) == 120
    answers: dict[str, Counter] = {}
    for i in range(len(part)):
        for first in generate_questions(part[i]):
            answers.setdefault(first.topic, Counter())[first.answer] += 1
    for topic in ("most-motion", "brighter-when", "is-there-a-cut", "direction"):
        counts = answers[topic]
        assert len(counts) >= 2 and max(counts.values()) < 0.85 * sum(counts.values()), (topic, counts)


@pytest.mark.parametrize(("count", "frames"), [(0, 16), (3, 2)])
def test_what_makes_no_clip_is_refused(count, frames):
    with pytest.raises(DataError, match="At least 1 clip and 4 frames"):
        moving_shapes(count, frames=frames)
