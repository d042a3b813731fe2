"""What a file of predictions shows about how it was made: its windows, gaps, copies, own truth and clock."""

from collections.abc import Iterator

import numpy as np

from st2llm.evaluate.audit.alignment import Aligned
from st2llm.evaluate.audit.problem import Problem
from st2llm.evaluate.audit.units import ClockShift

_DROPPED = (8, 16, 32, 64, 128, 256, 512, 1024)


def describe(
    scored: Aligned, everything: Aligned, problem: Problem, shift: ClockShift | None
) -> Iterator[str]:
    """A sentence for each thing that was found."""
    yield _windows(everything, problem)
    extra = len(everything.origins) - len(scored.origins)
    if extra:
        yield f"{extra:,} windows are not of st2llm's test part and are not scored; " + _where(
            everything, problem
        )
    if everything.padded:
        yield (
            f"The last window is in the file {everything.padded + 1} times: the test part was padded to fill a batch. "
            f"It is scored once here."
        )
    if scored.missing:
        yield (
            f"{scored.missing:,} true values of the file's windows have no prediction; they are not scored, which may "
            f"flatter."
        )
    if everything.own_truth is not None:
        yield from _own_truth(everything)
    if shift is not None:
        yield (
            f"Check the clock: {shift.in_words(problem.data.freq_s)}. That is another time zone, or a forecast that "
            f"copies what was known."
        )


def _windows(everything: Aligned, problem: Problem) -> str:
    for windows in problem.sets:
        if np.array_equal(everything.origins, windows.origins):
            return f"The file has the {len(windows.origins):,} windows of: {windows.name}."
    for windows in problem.sets:
        count, kept = len(windows.origins), len(everything.origins)
        if kept < count and np.array_equal(everything.origins, windows.origins[:kept]):
            sizes = [str(size) for size in _DROPPED if count - count % size == kept]
            how = (
                f"as if the last batch of {' or '.join(sizes)} was dropped"
                if sizes
                else "the last ones are missing"
            )
            return f"The file has the first {kept:,} of {count:,} windows ({windows.name}): {how}."
    held = len(everything.at(problem.scored.origins).origins)
    return (
        f"The file has {held:,} of the {len(problem.scored.origins):,} test windows ({problem.scored.name}), and its "
        f"windows are those of no known protocol."
    )


def _where(everything: Aligned, problem: Problem) -> str:
    first = int(problem.scored.origins[0]) - problem.task.history
    before = int((everything.origins + problem.task.horizon <= first).sum())
    crossing = int((everything.origins < first).sum()) - before
    texts = [
        f"{before:,} predict steps before the test part alone" if before else "",
        f"{crossing:,} predict steps on both sides of its beginning" if crossing else "",
        "the others lie in it" if before + crossing < len(everything.origins) else "",
    ]
    return ", ".join(filter(None, texts)) + "."


def _own_truth(everything: Aligned) -> Iterator[str]:
    """How the truth in the file differs from that of the data."""
    own, truth = everything.own_truth, everything.truth
    if own is None:
        return
    both = np.isfinite(own) & np.isfinite(truth)
    close = np.isclose(own[both], truth[both], rtol=1e-4, atol=1e-4 * float(np.nanstd(truth) or 1.0))
    yield f"The truth in the file is that of the data at {100 * close.mean():.1f} % of {int(both.sum()):,} entries."
    zeros = int(((own == 0) & ~np.isfinite(truth)).sum())
    if zeros:
        yield f"The truth in the file is 0 at {zeros:,} entries whose reading is missing: were they scored?"
