"""Videos in words: what a person reads off the prompt is true of the frames, and answers come back as they were."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import video_files

from st2llm import recipes, tasks
from st2llm.data.windows.video import split_clips
from st2llm.errors import ConfigError, DataError
from st2llm.features.image import load as load_classifier
from st2llm.serialize.lint.leaks import lint
from st2llm.serialize.template.template import load_prompt, parse_template
from st2llm.serialize.video.frames import direction
from st2llm.types import Choice, FreeText, Numbers, Sample, SplitPlan, Video

PLAN = SplitPlan(0.4, 0.3, 0.3)
# Without `.soft` and `.note`: these stand before soft tokens and are answered by no words.
NAMES = sorted(
    p.stem for p in recipes.listing("prompts", "video/*.md") if not p.stem.endswith((".soft", ".note"))
)
TASKS = {
    "forecast": tasks.forecast(12, 4),
    "impute": tasks.impute(12, 0.25),
    "interpolate": tasks.interpolate(9, 3),
    "krige": tasks.krige(6, 0.25),
}


def clip(name: str = "a", film: np.ndarray | None = None, **keys: object) -> Video:
    frames = video_files.square_film(60, 60, 72, step=3) if film is None else film
    return Video(
        name="films", id=name, frames=frames, time_s=np.arange(len(frames)) / 25, fps=25.0, split=PLAN, **keys
    )


def asked(task: str, clips: list[Video] | None = None) -> Sample:
    sample = split_clips(clips or [clip()], TASKS[task])[2][0]
    return sample.at(sample.place[sample.wanted_nodes[len(sample.wanted_nodes) // 2]])


def labelled(**keys: object) -> Sample:
    given = {"label": "goes_right", "labels": ("goes_right", "stands_still"), "part": 0, **keys}
    return split_clips([clip(**given)], tasks.classify())[0][0]


def question(words: str, label: str, options: tuple[str, ...] = ()) -> Sample:
    sample = split_clips([clip()], tasks.forecast(12, 4))[2][0]
    nothing = np.zeros_like(sample.wanted)
    return replace(
        sample, wanted=nothing, truth=None, label=label, question=words, task="question-answer",
        side=replace(sample.side, options=options),
    )  # fmt: skip


def sample_for(name: str) -> Sample:
    task = name.partition(".")[0]
    if task in TASKS:
        return asked(task)
    if task == "classify":
        return labelled()
    if name == "question-answer.number":
        return question("How bright is the centre at the end?", "40.0")
    if name == "question-answer.choice":
        return question("Which way does the square go?", "left", ("left", "right"))
    return question("Which way does the square go?", "to the right")


@pytest.mark.parametrize("name", NAMES)
def test_every_template_renders_and_reads_its_own_perfect_answer(name):
    template, sample = load_prompt(f"video/{name}"), sample_for(name)
    prompt = template.render(sample)
    assert len(prompt.text) > 100 and "None" not in prompt.text and "\n\n\n" not in prompt.text
    found = template.read(prompt.truth, sample)
    assert found.unread_reason is None
    if sample.wanted.any():
        within = template.serializer.precision(sample)
        assert within is not None and np.nanmax(np.abs(found.value - sample.truth)) <= within * (1 + 1e-9)
    else:
        assert found.label == sample.label or float(found.label) == float(sample.label)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_lint_finds_nothing_in_our_templates(name):
    assert lint(load_prompt(f"video/{name}"), sample_for(name)) == []


@settings(max_examples=40, deadline=None)
@given(
    level=st.floats(0, 255),
    spread=st.floats(0, 80),
    seed=st.integers(0, 999),
    channel=st.sampled_from([0, 1]),
)
def test_a_round_trip_of_a_forecast_moves_no_value_by_more_than_the_precision(level, spread, seed, channel):
    sample = asked("forecast")
    draw = np.random.default_rng(seed)
    values = np.clip(level + spread * draw.standard_normal(sample.values.shape), 0, 255)
    node = sample.wanted_nodes[0]
    wanted = np.zeros_like(sample.wanted)
    wanted[12:, node, channel] = True
    top = np.nanmax(values[:12, node, channel], initial=0)
    truth = np.where(wanted, np.minimum(values, top), np.nan)
    made = replace(sample, values=np.where(sample.visible, values, np.nan), wanted=wanted, truth=truth)
    template = load_prompt("video/forecast")
    precision = template.serializer.precision(made)
    assert precision is not None and precision <= max(0.5, top / 400)
    found = template.read(template.render(made).truth, made)
    assert np.nanmax(np.abs(found.value - truth)) <= precision * (1 + 1e-9)


@pytest.mark.parametrize("answer", ["", "I cannot say.", "1,2", "a,b,c,d"])
def test_an_answer_that_lacks_numbers_is_unread_not_an_error(answer):
    found = load_prompt("video/forecast").read(answer, asked("forecast"))
    assert found.value is None and found.unread_reason


def test_a_forecast_tells_the_region_its_neighbours_and_what_is_asked():
    prompt = load_prompt("video/forecast").render(asked("forecast"))
    for words in (
        "25 frames a second, 72 x 60 pixels",
        "brightness (levels of 0 to 255) in the region centre",
        "frames 1 to 10:",
        "frames 11 to 12:",
        "brightness in top centre, last 6 frames:",
        "the next 4 numbers",
        "What the frames show was not labelled.",
    ):
        assert words in prompt.text, words
    assert prompt.text.endswith("frames 13 to 16:")
    assert prompt.grammar == Numbers(4, 3, ",")


def test_the_numbers_of_the_history_are_the_brightness_of_the_region():
    sample = asked("forecast")
    words = load_prompt("video/forecast").serializer.variables(sample)
    said = [
        float(n) * float(words["number_step"]) for line in words["history"] for n in line.numbers.split(",")
    ]
    node = sample.wanted_nodes[0]
    assert np.allclose(said, sample.values[:12, node, 0], atol=float(words["number_step"]) / 2 + 1e-9)


def test_motion_can_be_asked_for_and_is_named():
    sample = asked("forecast", [clip(asked=("motion",))])
    text = load_prompt("video/forecast").render(sample).text
    assert "Asked for: motion" in text and "brightness in centre, last 6 frames" in text


def test_asking_for_both_channels_at_once_is_refused():
    with pytest.raises(DataError, match="asks for 2 channels, but a prompt asks for one of"):
        load_prompt("video/forecast").render(asked("forecast", [clip(asked=("brightness", "motion"))]))


def test_what_is_hidden_amid_the_seen_is_marked():
    sample = asked("impute")
    prompt = load_prompt("video/impute").render(sample)
    words = load_prompt("video/impute").serializer.variables(sample)
    line = ",".join(one.numbers for one in words["history"]).split(",")
    assert [i for i, word in enumerate(line) if word == "?"] == np.flatnonzero(
        sample.wanted.any(axis=(1, 2))
    ).tolist()
    assert (
        f"frames {', '.join(words['asked_frames'])}, in this order" in prompt.text
        or len(words["asked_frames"]) == 1
    )


def test_movement_names_the_way_a_square_goes():
    words = load_prompt("video/classify").serializer.variables(labelled())
    said = {line.label: line.text for line in words["movement"]}
    assert "right" in said["middle left"] and "left" not in said["centre"].partition("looks")[2]
    assert said["bottom right"] == "still"
    still = labelled(film=np.repeat(video_files.square_film(1, 60, 72), 20, axis=0))
    assert {line.text for line in load_prompt("video/classify").serializer.variables(still)["movement"]} == {
        "still"
    }


@pytest.mark.parametrize("xy, way", [
    ((3, 0), "right"), ((-3, 0), "left"), ((0, 3), "down"), ((0, -3), "up"), ((2, 2), "down and right"),
    ((-2, -2), "up and left"), ((0.2, 0.1), ""),
])  # fmt: skip
def test_directions_are_those_of_the_picture(xy, way):
    assert direction(np.array(xy, dtype=np.float64)) == way


def test_colours_and_cuts_are_told():
    film = np.zeros((30, 48, 48, 3), dtype=np.uint8)
    film[:15], film[15:] = (200, 20, 20), (20, 20, 200)
    words = load_prompt("video/classify").serializer.variables(labelled(film=film))
    assert words["looks"][0].colours == "red 100%" and words["looks"][-1].colours == "blue 100%"
    assert tuple(words["cuts"]) == ("0.60 s",)
    assert "A new shot begins at 0.60 s." in load_prompt("video/classify").render(labelled(film=film)).text


def test_labels_come_from_outside_for_the_frames_that_are_told_alone():
    given = []

    def describe(frames: np.ndarray) -> list[list[tuple[str, float]]]:
        given.append(frames)
        return [[("suit", 0.53), ("bow tie", 0.2)] for _ in frames]

    template = load_prompt("video/classify")
    told = replace(template, serializer=replace(template.serializer, label_frames=describe))
    sample = labelled()
    text = told.render(sample).text
    assert "perhaps in it: suit 53%, bow tie 20%" in text and "not labelled" not in text
    assert len(given) == 1 and len(given[0]) == 6 and np.array_equal(given[0][-1], sample.side.frames[-1])
    assert "not labelled" in template.render(sample).text


@pytest.mark.slow
def test_a_template_that_asks_for_labels_gets_those_of_a_real_classifier():
    asks = load_prompt("video/describe.labels")
    text = asks.render(labelled()).text
    told = re.findall(r"perhaps in it: (\D+) (\d+)%, (\D+) (\d+)%\.", text)
    assert len(told) == 6
    assert all({first, second} <= set(load_classifier().names) for first, _, second, _ in told)
    assert all(100 >= int(best) >= int(next_best) for _, best, _, next_best in told)


def test_the_class_is_chosen_among_the_words_of_the_data_set_and_never_told():
    sample, template = labelled(), load_prompt("video/classify")
    prompt = template.render(sample)
    assert prompt.grammar == Choice(("goes right", "stands still")) and prompt.truth == "goes right"
    assert template.read("Goes right.", sample).ranking == ("goes_right",)
    assert template.read("It flies", sample).unread_reason
    other = replace(sample, label="stands_still")
    assert template.render(other).text == prompt.text


def test_the_id_of_a_clip_and_its_caption_stay_out_of_the_question_for_its_class():
    sample = split_clips(
        [clip("secret-word", label="x", labels=("x", "y"), part=0, caption="A secret caption.")],
        tasks.classify(),
    )[0][0]
    assert all(
        "secret" not in load_prompt(f"video/{n}").render(sample).text
        for n in NAMES
        if n.startswith("classify")
    )


def test_thoughts_come_before_the_answer_line():
    sample, template = labelled(), load_prompt("video/classify.reason")
    prompt = template.render(sample)
    assert isinstance(prompt.grammar, FreeText) and prompt.truth == "Answer: goes right"
    assert template.read("It goes on and on.\nAnswer: stands still", sample).label == "stands_still"


def test_examples_are_solved_in_their_own_numbers():
    part = split_clips([clip()], TASKS["forecast"])
    sample = part[2][0].at("r1c1")
    template = load_prompt("video/forecast.examples")
    text = template.render(sample, examples=[part[0][0], part[0][5]]).text
    truth = template.serializer.truth(part[0][5].at("r1c1"))
    assert "Solved example 2:" in text and f"frames 13 to 16:{truth}" in text
    classes = split_clips(
        [clip(n, label=n, labels=("a", "b"), part=0) for n in "ab"], tasks.classify(20), 20
    )[0]
    said = load_prompt("video/classify.examples").render(classes[1], examples=[classes[0]]).text
    assert "It is: a" in said


def test_a_number_answers_a_question():
    template, sample = load_prompt("video/question-answer.number"), sample_for("question-answer.number")
    assert template.render(sample).truth == "40.0"
    assert template.read(" 41.5", sample).ranking == ("41.5",)


def test_a_question_without_a_question_is_refused():
    with pytest.raises(DataError, match="asks no question"):
        load_prompt("video/question-answer").render(replace(sample_for("question-answer"), question=""))


class Words:
    """A tokenizer of words."""

    def encode(self, text: str) -> list[int]:
        return list(range(len(text.split())))

    def decode(self, ids):
        return ""


def test_the_budget_is_kept_in_the_stated_order_of_sacrifices():
    sample = split_clips([clip(description="A square on grey.")], TASKS["forecast"])[2][0].at("r1c1")
    template, tokens = load_prompt("video/forecast"), Words()
    whole = template.render(sample, tokenizer=tokens).tokens
    least = None
    for budget in range(whole - 1, 0, -10):
        try:
            least = template.render(sample, tokenizer=tokens, budget=budget)
        except DataError as error:
            assert "Raise the budget" in str(error)
            break
        assert least.tokens <= budget
    sorts = list(dict.fromkeys(part.split()[0] for part in least.dropped))
    order = ["neighbour", "values", "colours", "look", "movement", "description", "history"]
    assert sorts == [sort for sort in order if sort in sorts] and sorts[0] == "neighbour"


def test_looks_go_one_by_one_until_one_is_left():
    template = load_prompt("video/classify")
    words = template.serializer.variables(labelled())
    gone = [name for name, _ in template.serializer.drop_order({"looks": words["looks"]})]
    assert gone[0] == "colours" and len([name for name in gone if name.startswith("look")]) == 5


def test_words_that_no_template_tells_are_not_looked_for(monkeypatch):
    monkeypatch.setattr("st2llm.serialize.video.text.region_movements", lambda sample: 1 / 0)
    assert load_prompt("video/forecast").render(asked("forecast")).text


def test_a_sample_without_frames_is_told_by_its_values():
    sample = asked("forecast")
    text = load_prompt("video/forecast").render(replace(sample, side=replace(sample.side, frames=None))).text
    assert "motion by region: top left" in text and "colours" not in text


@pytest.mark.parametrize("change, message", [
    (("per: sample", "per: place"), "set `per: sample`"),
    (("frames: 6", "frame: 6"), "unknown key 'frame'"),
    (("frames: 6", "frames: many"), "a whole number"),
    (("{grammar: choice}", "{grammar: numbers}"), "answered in choice or ranking"),
])  # fmt: skip
def test_a_head_without_sense_is_refused_with_the_reason(change, message):
    path = next(path for path in recipes.listing("prompts", "video/*.md") if path.name == "classify.md")
    source = Path(path).read_text(encoding="utf-8").replace(*change)
    with pytest.raises(ConfigError) as error:
        parse_template(source, where="classify.md")
    assert message in str(error.value)
