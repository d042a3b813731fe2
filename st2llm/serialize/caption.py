"""A description of what is visible of a sample, in words that were computed from its values."""

import hashlib

import numpy as np

from st2llm.serialize.questions import questions
from st2llm.types import Sample

_MOST = 8


def caption(sample: Sample, *, seed: int = 0) -> str:
    """What the visible values say, one clause a question that has an exact answer: `peak hour: 15:00; ...`.

    At most eight clauses, each of another topic, drawn by `seed` and the sample's id: the same sample always has the
    same caption. Nothing that is asked for, nor anything computed from it, is in it.
    """
    known = questions(sample.without_truth(), seed=seed)
    digest = hashlib.sha256(f"{seed}\n{sample.id}".encode()).digest()
    order = np.random.default_rng(int.from_bytes(digest[:8], "big")).permutation(len(known))
    clauses: dict[str, str] = {}
    for i in order.tolist():
        one = known[i]
        if one.topic in clauses or len(clauses) == _MOST:
            continue
        where = ", ".join(sample.side.labels[node] for node in one.places[:2])
        unit = f" {one.unit}" if one.unit else ""
        clauses[one.topic] = (
            f"{one.topic.replace('-', ' ')}{f' ({where})' if where else ''}: {one.answer}{unit}"
        )
    return "; ".join(clauses[topic] for topic in sorted(clauses)) + "."
