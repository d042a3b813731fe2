"""Every template that ships: it loads, renders, reads its own writing, and tells nothing of the future."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.graph_samples import counts, forecast_sample
from support.text_samples import for_template, narrowed

from st2llm.serialize.lint.leaks import lint
from st2llm.serialize.template.template import load_prompt
from st2llm.types import FreeText, Slot

ROOT = Path(__file__).resolve().parents[1] / "prompts"
NAMES = sorted(str(path.relative_to(ROOT).with_suffix("")) for path in ROOT.glob("*/*.md"))
# The text is looked at first: to load every template takes a second wherever tests are collected.
WITH_EXAMPLES = [
    name
    for name in NAMES
    if "examples" in (ROOT / f"{name}.md").read_text(encoding="utf-8")
    and "examples" in load_prompt(name).body.variables
]
FORECASTS = [f"graph/{name}" for name in ("forecast", "forecast.chat", "forecast.soft", "forecast.examples")]
COMMITTED = {
    "forecast": "6accca85487a",
    "forecast.chat": "0b4679679401",
    "forecast.note": "224e1194f3fe",
    "forecast.reason": "9bc2de4ba2e8",
    "forecast.soft": "3afa01820418",
}
RENDERED = {
    "graph/forecast": "83a7623952c6",
    "graph/question-answer": "4e811ccd07ec",
    "grid/forecast": "cb90554a9fda",
    "grid/forecast.regions": "f78ea75dd601",
    "trajectory/forecast": "58d02e87acfc",
    "trajectory/next-place": "558ebfd3d01f",
    "event/next-event": "1dae4200b672",
    "video/forecast": "a9075f425cfc",
}
GAPS = np.where(np.arange(192)[:, None] % 50 == 7, np.nan, counts(192, 3))
SAMPLES = {
    "whole days": forecast_sample(),
    "partial days": forecast_sample(start="2024-06-03T10:00"),
    "clocks go forward": forecast_sample(start="2024-09-24T00:00"),
    "negative": forecast_sample(counts(192, 3) - 150),
    "large": forecast_sample(counts(192, 3) * 1000),
    "fractions": forecast_sample(counts(192, 3) / 7),
    "gaps": forecast_sample(GAPS),
    "five minutes": forecast_sample(counts(24, 3), horizon=12, freq_s=300),
    "daily": forecast_sample(counts(60, 3), horizon=7, freq_s=86400),
    "notes": forecast_sample(side={"notes": ("A festival fills the square.",), "description": ""}),
    "nothing": forecast_sample(np.zeros((192, 3))),
}


def cases(template):
    """Every sample for the main template of a task; two for its variants, which say the same in other words."""
    samples = for_template(template)
    return samples if "." not in template.id else dict(list(samples.items())[:2])


def asked(template, sample):
    return sample if template.head.per == "sample" else sample.at(sample.place[0])


def test_every_kind_has_a_completion_a_chat_a_few_shot_and_a_thinking_template_of_its_main_task():
    main = {
        "graph": "forecast",
        "grid": "forecast",
        "video": "classify",
        "trajectory": "forecast",
        "event": "next-event",
    }
    wanted = {
        f"{kind}/{task}{end}" for kind, task in main.items() for end in ("", ".chat", ".examples", ".reason")
    }
    assert wanted <= set(NAMES)


def test_the_templates_of_committed_results_are_as_they_were():
    """Their hashes stand in evaluation/reports; a change needs a new name, or new results.

    forecast.soft and forecast.note write `soft` for `places` since five-kinds has soft arms: the same words and slots
    wherever a place is one token.
    """
    found = {name: load_prompt(f"graph/{name}").sha256[:12] for name in COMMITTED}
    assert found == COMMITTED


@pytest.mark.parametrize("name", RENDERED)
def test_the_prompts_of_a_template_stay_as_they_are_byte_for_byte(name):
    """Text and true answers of the hand-made samples of its kind; a change of what is rendered changes the hash."""
    template = load_prompt(name)
    prompts = [
        template.render(narrowed(template, sample)) for _, sample in sorted(for_template(template).items())
    ]
    written = repr([(prompt.text, prompt.truth) for prompt in prompts])
    assert hashlib.sha256(written.encode()).hexdigest()[:12] == RENDERED[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_template_has_the_name_of_its_file(name):
    assert load_prompt(name).id == name


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_template_lints_clean_on_samples_of_its_kind_and_task(name):
    template = load_prompt(name)
    samples = cases(template)
    assert samples
    assert {case: found for case, sample in samples.items() if (found := lint(template, sample))} == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_template_renders_tidy_lines(name):
    template = load_prompt(name)
    for sample in cases(template).values():
        text = template.render(narrowed(template, sample)).text
        assert "\n\n\n" not in text and "  " not in text and "{" not in text
        assert all(line == line.strip() for line in text.split("\n"))


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_every_template_with_examples_shows_them_and_says_what_a_budget_took(name):
    template = load_prompt(name)
    sample = narrowed(template, next(iter(for_template(template).values())))
    solved = replace(sample, id="another", label=sample.label)
    whole = template.render(sample, examples=[solved, replace(solved, id="a third")], tokenizer=Letters())
    shown, bare = template.serializer.example(solved, sample).text.strip(), template.render(sample).text
    assert whole.text.count(shown) - bare.count(shown) == 2
    cut = template.render(
        sample, examples=[solved, replace(solved, id="a third")], tokenizer=Letters(), budget=whole.tokens - 1
    )
    assert cut.dropped == ("example 1",)


class Letters:
    """A tokenizer with one token a character."""

    def encode(self, text):
        return [ord(char) for char in text]

    def decode(self, ids):
        return "".join(map(chr, ids))


@pytest.mark.parametrize("case", SAMPLES)
@pytest.mark.parametrize("name", FORECASTS)
def test_a_forecast_template_of_graphs_lints_clean(name, case):
    template = load_prompt(name)
    assert lint(template, SAMPLES[case]) == []


@pytest.mark.parametrize("case", SAMPLES)
@pytest.mark.parametrize("name", [name for name in FORECASTS if load_prompt(name).head.answer])
def test_a_template_reads_the_truth_back_within_its_precision(name, case):
    template = load_prompt(name)
    sample = asked(template, SAMPLES[case])
    numbers = template.serializer.numbers(sample)
    want = sample.truth[sample.first_wanted_step :, 0, 0]
    answer = template.head.answer.with_cue(numbers.write(np.clip(np.nan_to_num(want), *numbers.limits)))
    read = template.read(answer, sample).value[sample.first_wanted_step :, 0, 0]
    near = np.abs(read - np.clip(want, *numbers.limits)) <= numbers.precision * (1 + 1e-9)
    assert near[np.isfinite(want)].all()


def test_the_completion_prompt_reads_like_this():
    sample = forecast_sample(counts(60, 3), horizon=12, side={"notes": ("A parade at noon.",)})
    text = load_prompt("graph/forecast").render(sample.at("7-queen-street")).text
    history = [int(v) for v in counts(60, 3)[:48, 0]]
    first, second = (",".join(map(str, history[i : i + 24])) for i in (0, 24))
    recent = [",".join(str(int(v)) for v in counts(60, 3)[42:48, node]) for node in (1, 2)]
    assert text == (
        "pedestrians an hour at 7 Queen Street, one number every hour.\n"
        "Counters on a street in Auckland.\n"
        f"8 Queen Street, last 6 values:{recent[0]}\n"
        f"9 Queen Street, last 6 values:{recent[1]}\n"
        "A parade at noon.\n"
        "To forecast: the next 12 numbers, Wednesday 5 June 2024.\n"
        f"Mon 3 Jun (King's Birthday):{first}\n"
        f"Tue 4 Jun:{second}\n"
        "Wed 5 Jun:"
    )


def test_steps_shifts_and_gaps_are_said_where_they_are():
    template = load_prompt("graph/forecast")
    texts = {case: template.render(asked(template, SAMPLES[case])).text for case in SAMPLES}
    assert "x: no reading." in texts["gaps"] and "x: no reading." not in texts["whole days"]
    assert "Written in steps of 1000 pedestrians." in texts["large"]
    assert "Written as value / 1 + " in texts["negative"]
    assert "Written" not in texts["whole days"]


def test_the_soft_prompt_ends_with_one_slot_for_all_places():
    parts = load_prompt("graph/forecast.soft").render(SAMPLES["notes"]).parts
    assert parts == (
        "Forecast pedestrians an hour, a Monday in June.\nA festival fills the square.\n",
        Slot("places", 3),
    )


def test_the_chat_prompt_has_a_system_and_a_user_message():
    messages = (
        load_prompt("graph/forecast.chat")
        .render(asked(load_prompt("graph/forecast.chat"), SAMPLES["gaps"]))
        .messages
    )
    assert [message["role"] for message in messages] == ["system", "user"]
    assert messages[1]["content"].endswith("\nMon 10 Jun:")


def test_a_prompt_that_asks_for_thoughts_says_how_the_answer_begins():
    template = load_prompt("graph/forecast.reason")
    prompt = template.render(asked(template, SAMPLES["whole days"]))
    assert f'begins with "{template.head.answer.cue}"' in prompt.text and prompt.text.endswith("\nThoughts:")
    assert prompt.truth.startswith("Answer: ")
    plain = load_prompt("graph/forecast").render(asked(template, SAMPLES["whole days"]))
    assert prompt.grammar == FreeText(96, "Answer:", plain.grammar)
