from dataclasses import replace

import numpy as np
from support.graph_samples import forecast_sample
from support.text_samples import for_template, narrowed

from st2llm.serialize.template.template import load_prompt, parse_template
from st2llm.types import Document

DAY = 86_400
JUNE_3 = 1_717_329_600 + 12 * 3600  # 2024-06-03 00:00 in Auckland is 2024-06-02 12:00 UTC
HEAD = """---
id: mine
version: 1
kind: graph
task: forecast
per: place
answer: {grammar: numbers}
variables: [place, documents, asked]
---
"""
BODY = """{{ place }}
{% for document in documents %}
{{ document.when }}: {{ document.text }}
{% endfor %}
{{ asked }}:
"""


class Letters:
    """A tokenizer with one token a character."""

    def encode(self, text):
        return [ord(char) for char in text]

    def decode(self, ids):
        return "".join(map(chr, ids))


def documents(*texts, place=""):
    week = JUNE_3 - 12 * 3600
    return tuple(Document(text, week, week + 7 * DAY, week + 8 * DAY, place, "city_news") for text in texts)


def at_first(**side):
    sample = forecast_sample(side=side)
    return sample.at(sample.place[0])


def test_documents_follow_the_notes_of_a_template_that_does_not_list_them():
    template = load_prompt("graph/forecast")
    plain = template.render(at_first(notes=("A festival.",))).text
    told = template.render(at_first(notes=("A festival.",), documents=documents("Rain\nfalls.", "Sun."))).text
    lines = "\n".join(
        f"city news, Mon 3 Jun 2024 to Sun 9 Jun 2024: {text}" for text in ("Rain falls.", "Sun.")
    )
    assert told == plain.replace("A festival.", f"A festival.\n{lines}")


def test_a_template_may_say_where_documents_go_and_how():
    prompt = parse_template(HEAD + BODY, "mine.md").render(at_first(documents=documents("Rain.")))
    assert "Mon 3 Jun 2024 to Sun 9 Jun 2024: Rain." in prompt.text


def test_a_document_about_one_of_several_places_names_it():
    sample = forecast_sample()
    told = sample.at(sample.place[0])
    place = at_first(documents=documents("Rain.", place=told.place[0]))
    assert f"9 Jun 2024, {told.side.labels[0]}: Rain." in load_prompt("graph/forecast").render(place).text


def test_a_budget_drops_the_oldest_document_first_and_after_examples():
    for template in (load_prompt("graph/forecast"), parse_template(HEAD + BODY, "mine.md")):
        sample = at_first(documents=documents("Newest.", "Older.", "Oldest."))
        whole = template.render(sample, tokenizer=Letters())
        cut = template.render(sample, tokenizer=Letters(), budget=whole.tokens - 1)
        assert cut.dropped == ("document 3",)
        assert "Newest." in cut.text and "Oldest." not in cut.text


def test_documents_reach_the_prompt_of_every_kind():
    for name in (
        "graph/forecast",
        "grid/forecast",
        "event/next-event",
        "trajectory/forecast",
        "video/forecast",
    ):
        template = load_prompt(name)
        sample = narrowed(template, next(iter(for_template(template).values())))
        bare = template.render(sample).text
        side = replace(sample.side, documents=(Document("Doors closed.", 0, 2, 3, "", "news"),))
        told = template.render(replace(sample, side=side), tokenizer=Letters())
        assert "Doors closed." in told.text and "Doors closed." not in bare
        assert np.all([line in told.text for line in bare.splitlines()])
