"""Real data in words: 15 random samples of every card whose data is here (of clips 5) fit a budget, and the lint finds
no leak."""

import os

import numpy as np
import pytest

from st2llm.commands.prompt import task_for
from st2llm.data import cards, load_data
from st2llm.data.windows import split
from st2llm.errors import ArtefactError, DataError
from st2llm.llm.tokenizer import load_tokenizer
from st2llm.serialize.lint.leaks import lint
from st2llm.serialize.questions import generate_questions, question_sample
from st2llm.serialize.template.budget import plan_budget
from st2llm.serialize.template.template import load_prompt

pytestmark = pytest.mark.slow

BUDGET, SAMPLES = 1500, int(os.environ.get("ST2LLM_RENDER_SAMPLES", "15"))
WINDOW = 12
"""Steps of a window of which entries are hidden; eleven channels of 48 steps would fit into no such budget."""
EVENTS = ("event/next-event", "event/describe", "event/question-answer")
MOVES = ("trajectory/forecast", "trajectory/describe", "trajectory/question-answer")
TEMPLATES = {
    "graph": ("graph/forecast", "graph/impute", "graph/krige", "graph/describe", "graph/question-answer"),
    "grid": ("grid/forecast", "grid/forecast.regions", "grid/krige", "grid/describe", "grid/question-answer"),
    "trajectory": MOVES,
    "event": EVENTS,
    "video": ("video/forecast", "video/describe", "video/question-answer"),
}
MAIN = {"next-place": "trajectory/next-place", "classify": "video/classify"}


def _templates(data):
    """The main template of the data's own task, and those about what it shows."""
    first = data[0] if isinstance(data, list) else data
    (own,) = first.default_task or {"forecast": {}}
    names = TEMPLATES[first.kind]
    if first.default_task.get("next-event", {}).get("asked") == ["mark"]:  # a mark is answered in words
        return ("event/next-event.place", *names[1:])
    if first.kind == "graph" and len(first.places) == 1:  # no place is left to krige from
        names = tuple(name for name in names if not name.endswith("krige"))
    return (MAIN[own], *(name for name in names if not name.endswith("forecast"))) if own in MAIN else names


def _asked(template, sample):
    """The sample as the template asks it; None where there is nothing that it could ask about."""
    if template.head.task == "question-answer":
        found = generate_questions(sample)
        return question_sample(sample, found[0]) if found else None
    if template.head.per == "place":
        return sample.at(
            sample.place[
                sample.wanted_nodes[int(np.argmax(sample.wanted.sum(axis=(0, 2))[list(sample.wanted_nodes)]))]
            ]
        )
    return sample


def _leaks(template, sample):
    """What the lint finds. Of what is past, reports of its time may state it; a forecast forbids that."""
    return [
        finding
        for finding in lint(template, sample)
        if template.head.task in ("forecast", "next-event", "next-place")
        or not finding.startswith("The document")
    ]


def _here(name):
    try:
        return load_data(name)
    except (ArtefactError, DataError) as error:
        absent = ("there is no file", "no command can download")
        if isinstance(error, ArtefactError) or any(words in str(error) for words in absent):
            pytest.skip(f"{name} is not here: {str(error)[:80]}")
        raise


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", cards())
def test_random_samples_of_a_card_render_within_the_budget_and_tell_no_answer(name):
    data, tokenizer = _here(name), load_tokenizer("smollm2-135m")
    first = data[0] if isinstance(data, list) else data
    if first.kind == "video" and first.pixels:  # pixels are for models, not for text
        with pytest.raises(DataError, match="channels, but a prompt asks for one of"):
            sample = split(data, task_for("forecast", data)).test[0]
            load_prompt("video/forecast").render(sample.at(sample.place[0]))
        return
    draw = np.random.default_rng(0)
    for prompt in _templates(data):
        template = load_prompt(prompt)
        length = WINDOW if template.head.task in ("impute", "krige") else None
        parts = split(data, task_for(template.head.task, data, length))
        test = parts.test if len(parts.test) else parts.train  # an instance of Context is Key has one window
        # Each window of a clip is decoded and measured anew; there are many templates of them.
        count = SAMPLES if first.kind != "video" else max(1, SAMPLES // 3)
        chosen = draw.permutation(len(test))[:count].tolist()
        asked = [one for one in (_asked(template, test[int(i)]) for i in chosen) if one is not None]
        if not asked:
            assert template.head.task == "question-answer"
            continue
        made = plan_budget(template, asked, tokenizer, BUDGET)
        assert made.impossible == (), f"{prompt} on {name}: {made}"
        assert all(cost.fitted_tokens <= BUDGET for cost in made.costs)
        for one in asked[:3]:
            assert _leaks(template, one) == [], f"{prompt} on {name}, {one.id}"
        assert first.kind == template.head.kind
