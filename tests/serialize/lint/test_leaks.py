from dataclasses import dataclass, replace

import numpy as np
import pytest
from support.graph_samples import counts, forecast_sample

from st2llm.serialize.graph.text import GraphSerializer
from st2llm.serialize.lint.leaks import lint
from st2llm.serialize.numbers import ScaledIntegers
from st2llm.serialize.template.template import load_prompt, parse_template
from st2llm.types import Sample

HEAD = """---
id: mine
version: 1
kind: graph
task: forecast
per: place
answer: {grammar: numbers}
variables: [description, history, asked, notes]
---
"""
BODY = """{{ description }}
{% for note in notes %}{{ note }}
{% endfor %}
{% for line in history %}
{{ line.label }}:{{ line.numbers }}
{% endfor %}
{{ asked }}:
"""
DATASETS = {
    "queen-street": "Counters on a street in Auckland.",
    "los-loop": "Speeds of cars on highways of Los Angeles, measured by loop detectors in March.",
}


def sample(**settings) -> Sample:
    made = forecast_sample(**settings)
    return made.at(made.place[0])


def target() -> np.ndarray:
    return sample().truth[168:, 0, 0]


def said(statistic) -> str:
    return f"{float(statistic(target())):.10g}"


def findings(body=BODY, on=None, head=HEAD):
    return lint(parse_template(head + body, "mine.md"), on or sample(), DATASETS)


def with_serializer(serializer: GraphSerializer, on=None):
    return lint(
        replace(parse_template(HEAD + BODY, "mine.md"), serializer=serializer), on or sample(), DATASETS
    )


@dataclass(frozen=True)
class TellsTheTruth(GraphSerializer):
    def place_variables(self, sample):
        words = super().place_variables(sample)
        return words | {"description": "the next value is " + self.truth(sample).partition(",")[0]}


@dataclass(frozen=True)
class TellsTheMean(GraphSerializer):
    def place_variables(self, sample):
        seen = np.nan if sample.truth is None else np.nanmean(sample.truth)
        return super().place_variables(sample) | {"description": "busy" if seen > 200 else "calm"}


@dataclass(frozen=True)
class ReadsHiddenValues(GraphSerializer):
    def place_variables(self, sample):
        return super().place_variables(sample) | {"description": str(sample.values[-1, 0, 0])}


@dataclass(frozen=True)
class StepsByTheTruth(GraphSerializer):
    def place_variables(self, sample):
        words = super().place_variables(sample)
        seen = np.array([float(n) for line in words["history"] for n in line.numbers.split(",")])
        numbers = ScaledIntegers.fit(np.concatenate([seen, np.nan_to_num(self._future(sample))]))
        return words | {
            "history": tuple(replace(line, numbers=numbers.write(seen)) for line in words["history"])
        }

    def _future(self, sample):
        return np.zeros(1) if sample.truth is None else sample.truth[168:, 0, 0]


@dataclass(frozen=True)
class CannotReadItself(GraphSerializer):
    def truth(self, sample):
        return super().truth(sample).replace(",", "-and-")


@dataclass(frozen=True)
class ReadsOneTooHigh(GraphSerializer):
    def read(self, text, sample):
        prediction = super().read(text, sample)
        return prediction if prediction.value is None else replace(prediction, value=prediction.value + 1)


def test_a_sound_template_has_no_findings():
    assert findings() == []


@pytest.mark.parametrize(
    "serializer",
    [TellsTheTruth(), TellsTheMean(), ReadsHiddenValues(), StepsByTheTruth()],
    ids=lambda w: type(w).__name__,
)
def test_a_serializer_that_looks_at_the_future_is_found(serializer):
    assert any("changes with the future" in finding for finding in with_serializer(serializer))


@pytest.mark.parametrize(
    ("statistic", "name"),
    [
        (np.mean, "mean"),
        (np.min, "min"),
        (np.max, "max"),
        (np.sum, "sum"),
        (lambda v: v[7], "a target value"),
    ],
)
def test_a_target_or_a_statistic_of_the_target_in_the_body_is_found(statistic, name):
    assert findings() == []
    (finding,) = findings(f"Expect {said(statistic)} people.\n{BODY}")
    assert said(statistic) in finding and name in finding


def test_a_rounded_mean_is_found():
    assert any("mean" in finding for finding in findings(f"About {target().mean():.1f}.\n{BODY}"))


def test_constants_and_pieces_of_numbers_are_found():
    whole = str(int(target().sum()))
    assert any("sum" in finding for finding in findings(f"{{{{ {whole} }}}}\n{BODY}"))
    assert any("sum" in finding for finding in findings(f"{whole[:2]}{{{{ {whole[2:]} }}}}\n{BODY}"))
    listed = ", ".join(str(int(v)) for v in target()[:4])
    loop = f"{{% for v in [{listed}] %}}{{{{ v }}}} {{% endfor %}}\n"
    assert any("in a row" in finding for finding in findings(loop + BODY))


def test_small_target_values_in_a_row_are_found():
    values = counts(192, 3)
    values[168:, 0] = np.arange(24) % 7
    assert any("in a row" in finding for finding in findings("Say 2 3 4 5.\n" + BODY, sample(values=values)))


@pytest.mark.parametrize("field", ["description", "notes"])
def test_a_target_in_the_side_information_is_found(field):
    text = f"There will be {said(np.sum)} people."
    side = {field: text if field == "description" else (text,)}
    assert any("sum" in finding for finding in findings(on=sample(side=side)))


def test_a_run_of_targets_in_a_label_is_found():
    run = " ".join(str(int(v)) for v in target()[3:8])
    labels = (f"Queen Street {run}", "B", "C")
    assert any("label" in finding for finding in findings(on=sample(side={"labels": labels})))


def test_a_target_in_the_prompts_own_numbers_is_found():
    values = counts(192, 3) * 10
    word = str(int(values[170, 0] / 5))
    on = sample(values=values)
    assert load_prompt("graph/forecast").serializer.numbers(on).step == 10.0
    assert parse_template(HEAD + BODY, "mine.md").serializer.numbers(on).step == 5.0
    assert any(word in finding for finding in findings(f"Say {word} there.\n{BODY}", on))


def test_another_data_set_is_found_by_name_and_by_description():
    assert any("'los-loop'" in finding for finding in findings("As on the Los Loop.\n" + BODY))
    text = "Speeds of cars on highways of Los Angeles."
    assert any(
        "description of the data set 'los-loop'" in finding for finding in findings(text + "\n" + BODY)
    )
    assert findings("Queen Street in Auckland.\n" + BODY) == []


def test_an_answer_that_its_own_reader_cannot_read_is_found():
    assert any("cannot be read" in finding for finding in with_serializer(CannotReadItself()))
    assert any("not read back within" in finding for finding in with_serializer(ReadsOneTooHigh()))


def test_a_variable_that_is_declared_but_not_used_is_found():
    head = HEAD.replace("[description,", "[unit, description,")
    assert findings(head=head) == ["The variable 'unit' is declared but not used. Take it out of the head."]


def test_a_prompt_that_cannot_be_rendered_is_a_finding():
    assert any("cannot be rendered" in finding for finding in findings("{{ asked.nothing }}\n" + BODY))


def test_a_sample_that_shows_what_it_asks_is_found():
    on = sample()
    shown = np.ones_like(on.visible)
    truth = forecast_sample().truth
    leaky = replace(on, visible=shown, values=np.where(on.wanted, truth, on.values))
    assert any("overlap" in finding for finding in findings(on=leaky))
    hidden = replace(on, values=np.where(on.wanted, truth, on.values))
    assert any("should be NaN" in finding for finding in findings(on=hidden))


def test_every_place_of_a_whole_sample_is_looked_at():
    whole = forecast_sample()
    last = int(whole.truth[168:, 2, 0].sum())
    assert findings(on=whole) == []
    assert any(str(last) in finding for finding in findings(f"Say {last}.\n{BODY}", whole))


def test_a_sample_without_truth_is_still_looked_at():
    assert findings(on=sample().without_truth()) == []
    assert findings("As on los-loop.\n" + BODY, sample().without_truth()) != []


def test_the_cards_that_ship_are_the_known_data_sets():
    template = parse_template(HEAD + "As on los-loop.\n" + BODY, "mine.md")
    assert any("'los-loop'" in finding for finding in lint(template, sample()))
