"""Round-trip check: synthetic answers are written and must be read back."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from st2llm.serialize.template.template import Template
from st2llm.types import Prediction, Prompt, Sample

_CODES = ("place", "mark")
_EXAMPLE_ANSWERS = {
    "numbers": "12",
    "text": "yes",
    "time": "09:30",
    "date": "2024-06-11",
    "datetime": "2024-06-11 09:30",
}
_LABEL_TASKS = ("anomaly", "classify", "describe", "question-answer")
"""Tasks whose answer is `Sample.label`."""


def is_code(sample: Sample, channel: int) -> bool:
    """Whether a channel holds codes, indices into Side.options, instead of values."""
    names = sample.side.channels
    return channel < len(names) and names[channel] in _CODES and bool(sample.side.options)


def round_trip_findings(template: Template, sample: Sample) -> Iterator[str]:
    """Findings where the correct answer is not read back."""
    if template.head.answer is None:
        return
    for solved in _with_synthetic_answers(template, sample):
        prompt = template.render(solved)
        read = template.read(prompt.truth, sample.without_truth())
        if read.unread_reason is not None:
            yield f"A perfect answer cannot be read: {read.unread_reason}. Change `answer` in the head."
        elif not _same(template, solved, read, prompt):
            precision = template.serializer.precision(solved)
            within = "the same" if precision is None else f"within {precision}"
            yield f"A perfect answer is not read back {within}. Change `answer` in the head."


def _same(template: Template, solved: Sample, read: Prediction, prompt: Prompt) -> bool:
    """Whether numbers agree within the precision, texts exactly, and a ranking starts with the label."""
    if read.ranking is not None and solved.label is not None:
        head = template.head.answer
        answer = (head.extract(prompt.truth) if head is not None else "") or ""
        return _same_label(read.ranking[0], solved.label) or _same_label(read.ranking[0], answer)
    if read.value is None or solved.truth is None:
        return read.ranking is not None
    precision = template.serializer.precision(solved)
    if precision is None:
        return (
            template.render(replace(solved, truth=np.where(solved.wanted, read.value, np.nan))).truth
            == prompt.truth
        )
    errors = np.abs(read.value - solved.truth)
    return bool(
        np.nanmax(errors, initial=0.0) <= precision * (1 + 1e-6)
        and np.isfinite(read.value[solved.wanted]).all()
    )


def _same_label(read: str, label: str) -> bool:
    if read == label:
        return True
    try:
        return float(read) == float(label)
    except ValueError:
        return False


def _with_synthetic_answers(template: Template, sample: Sample) -> Iterator[Sample]:
    """The sample with synthetic answers: values in the visible range, options, or texts."""
    if sample.wanted.any() and template.head.task not in _LABEL_TASKS:
        yield _with_synthetic_truth(sample)
    elif sample.side.options and (
        template.head.answer is None or template.head.answer.grammar not in ("numbers", "time")
    ):
        for option in dict.fromkeys([sample.side.options[0], sample.side.options[-1]]):
            yield replace(sample, label=option)
    else:
        head = template.head.answer
        grammar = "" if head is None else getattr(head, "form", head.grammar)
        options = getattr(head, "options", ())
        if word := (options[0] if options else _EXAMPLE_ANSWERS.get(grammar, "")):
            yield replace(sample, label=word)


def _with_synthetic_truth(sample: Sample) -> Sample:
    """The sample with random values in the visible range of each channel, and codes of random options."""
    draw, options = np.random.default_rng(1), sample.side.options
    truth = np.full(sample.values.shape, np.nan)
    label = sample.label
    for channel in range(sample.values.shape[2]):
        wanted, visible = sample.wanted[:, :, channel], sample.values[:, :, channel]
        if is_code(sample, channel):
            code = int(draw.integers(len(options)))
            truth[:, :, channel][wanted] = code
            label = options[code] if wanted.any() and label is not None else label
        else:
            range_values = visible[:, list(sample.wanted_nodes)]
            range_values = (
                range_values[np.isfinite(range_values)]
                if np.isfinite(range_values).any()
                else visible[np.isfinite(visible)]
            )
            low, high = (
                (float(range_values.min()), float(range_values.max())) if range_values.size else (0.0, 1.0)
            )
            truth[:, :, channel] = np.where(wanted, draw.uniform(low, high, wanted.shape), np.nan)
    if label is None and sample.task == "next-place" and options:
        label = options[int(draw.integers(len(options)))]
    return replace(sample, truth=truth, label=label)
