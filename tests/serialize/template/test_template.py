import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from support.graph_samples import counts, forecast_sample

from st2llm import hub, recipes
from st2llm.config.catalog import TRAINABLE_TASKS
from st2llm.errors import ConfigError, DataError
from st2llm.serialize.template.head import allowed_variables
from st2llm.serialize.template.template import Template, load_prompt, parse_template
from st2llm.types import Serializer, Slot

HEAD = """---
id: mine
version: 3
kind: graph
task: forecast
per: place
answer: {grammar: numbers}
variables: [place, description, neighbours, history, asked]
neighbours: 2
recent: 6
---
"""
BODY = """{{ place }}
{{ description }}
{% for line in neighbours %}
{{ line.label }}:{{ line.numbers }}
{% endfor %}
{% for line in history %}
{{ line.label }}:{{ line.numbers }}
{% endfor %}
{{ asked }}:
"""
SOFT = HEAD.replace("per: place", "per: sample").replace("answer: {grammar: numbers}\n", "")
SOFT = SOFT.replace("[place, description, neighbours, history, asked]", "[places, quantity]")


class Letters:
    """A tokenizer with one token a character."""

    def encode(self, text):
        return [ord(char) for char in text]

    def decode(self, ids):
        return "".join(map(chr, ids))


def at_first(**settings):
    sample = forecast_sample(**settings)
    return sample.at(sample.place[0])


def template(body=BODY, head=HEAD):
    return parse_template(head + body, "mine.md")


def test_a_template_is_a_serializer():
    assert isinstance(template(), Serializer)


def test_a_prompt_ends_where_the_model_goes_on():
    prompt = template().render(at_first())
    assert prompt.text.startswith("7 Queen Street\nCounters on a street in Auckland.\n8 Queen Street:")
    assert prompt.text.endswith("\nMon 10 Jun:")
    assert str(prompt) == prompt.text and prompt.messages == () and prompt.dropped == ()


def test_a_prompt_carries_its_grammar_truth_and_template():
    sample = at_first()
    prompt = template().render(sample)
    assert prompt.truth == ",".join(str(int(v)) for v in sample.truth[168:, 0, 0])
    assert (prompt.grammar.count, prompt.grammar.digits, prompt.grammar.separator) == (24, 3, ",")
    assert prompt.template.sha256 == hashlib.sha256((HEAD + BODY).encode()).hexdigest()
    assert (template().id, template().version, template().sha256) == ("mine", 3, prompt.template.sha256)


def test_a_template_reads_the_truth_it_wrote():
    sample = at_first()
    prediction = template().read(template().render(sample).truth, sample)
    assert (prediction.value[168:, 0, 0] == sample.truth[168:, 0, 0]).all()


def test_a_template_for_one_place_refuses_a_sample_of_several():
    for act in (template().render, lambda sample: template().read("1,2", sample)):
        with pytest.raises(DataError, match=r"Narrow it first: sample\.at\('7-queen-street'\)"):
            act(forecast_sample())


def test_soft_slots_stand_amid_the_words():
    body = "{{ quantity }} <soft name=places tokens={{ places }}> and <soft name=clock tokens=2>\n"
    parts = template(body, SOFT).render(forecast_sample()).parts
    assert parts == ("pedestrians an hour ", Slot("places", 3), " and ", Slot("clock", 2))


@pytest.mark.parametrize(
    "slot", ["<soft name=places>", "<soft name=places tokens=0>", "<soft name=a tokens=many>", "<soft >"]
)
def test_a_slot_that_cannot_be_read_is_one_error(slot):
    with pytest.raises(ConfigError, match="a slot reads"):
        template(f"words {slot}", SOFT).render(forecast_sample())


def test_data_that_looks_like_a_slot_stays_words():
    sample = at_first(side={"description": "<soft name=evil tokens=9> \ue000soft name=evil tokens=9>"})
    parts = template().render(sample).parts
    assert len(parts) == 1 and "<soft name=evil tokens=9>" in parts[0]


def test_a_chat_template_gives_messages():
    head = HEAD.replace("per: place", "per: place\nformat: chat")
    prompt = template("<system>\nBe brief.\n<user>\n" + BODY, head).render(
        at_first(side={"description": "<user>"})
    )
    assert [message["role"] for message in prompt.messages] == ["system", "user"]
    assert prompt.messages[0]["content"] == "Be brief."
    assert prompt.text == "\n\n".join(message["content"] for message in prompt.messages)


@pytest.mark.parametrize(
    "body", ["words", "<user>\na\n<system>\nb", "before\n<user>\na", "<user>\na\n<system>"]
)
def test_a_chat_body_without_a_user_line_last_is_one_error(body):
    with pytest.raises(ConfigError, match="a chat body holds"):
        template(body, HEAD.replace("per: place", "per: place\nformat: chat")).render(at_first())


def test_tokens_are_counted_with_those_of_slots():
    body = "abc<soft name=places tokens={{ places }}>"
    prompt = template(body, SOFT).render(forecast_sample(), tokenizer=Letters())
    assert prompt.tokens == 3 + 3
    assert template(body, SOFT).render(forecast_sample()).tokens is None


def test_a_budget_drops_in_the_stated_order_and_says_what_went():
    sample, mine = at_first(), template()
    whole = mine.render(sample, tokenizer=Letters())
    order = (
        "neighbour 9 Queen Street",
        "neighbour 8 Queen Street",
        "description",
        "history of Mon 3 Jun (King's Birthday)",
        "history of Tue 4 Jun",
    )
    assert mine.render(sample, budget=whole.tokens, tokenizer=Letters()) == whole
    budget, seen = whole.tokens, []
    while len(seen) < len(order):
        prompt = mine.render(sample, budget=budget - 1, tokenizer=Letters())
        assert prompt.tokens < budget and prompt.dropped == order[: len(prompt.dropped)]
        assert prompt.text.endswith("Mon 10 Jun:")
        seen, budget = prompt.dropped, prompt.tokens
    assert "Mon 3 Jun" not in prompt.text and "Thu 6 Jun" in prompt.text


def test_a_cut_prompt_is_read_in_the_same_steps():
    values = counts(192, 3)
    values[3, 0] = 4000.0
    sample, mine = at_first(values=values), template()
    prompt = mine.render(sample, budget=400, tokenizer=Letters())
    assert "history of Mon 3 Jun (King's Birthday)" in prompt.dropped
    read = mine.read(prompt.truth, sample).value[168:, 0, 0]
    assert abs(read - sample.truth[168:, 0, 0]).max() <= 2.5


def test_only_what_the_template_uses_is_called_dropped():
    head = HEAD.replace("description, neighbours, ", "")
    mine = template("{{ place }} {% for line in history %}{{ line.numbers }};{% endfor %}{{ asked }}:", head)
    prompt = mine.render(at_first(), budget=300, tokenizer=Letters())
    assert all(gone.startswith("history") for gone in prompt.dropped) and prompt.dropped


def test_a_budget_that_nothing_fits_is_refused_with_the_numbers():
    with pytest.raises(DataError, match=r"takes \d+ tokens even without .*but the budget is 10\."):
        template().render(at_first(), budget=10, tokenizer=Letters())


def test_a_budget_without_a_tokenizer_is_refused():
    with pytest.raises(ConfigError, match="tokenizer"):
        template().render(at_first(), budget=10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("kind: graph", "kind: grpah"), "Did you mean 'graph'"),
        (("task: forecast", "task: forcast"), "Did you mean 'forecast'"),
        (("history", "histroy"), "Did you mean 'history'"),
        (("version: 3", "versoin: 3"), "Did you mean 'version'"),
        (("version: 3", "version: 0"), "version"),
        (("id: mine\n", ""), "'id' is missing"),
        (("grammar: numbers", "digits: 0"), "`answer` in the head of mine.md: digits"),
        (("grammar: numbers", "separator: '7'"), "separator: .* pattern"),
        (("per: place", "per: sample"), "there is no variable 'place' per sample"),
        (("neighbours: 2", "neighbors: 2"), "unknown key 'neighbors'. Did you mean 'neighbours'"),
        (
            ("neighbours: 2", "neighbours: many"),
            "neighbours should be a whole number from 0 on, but it is 'many'",
        ),
        (("id: mine", "id: [mine"), "not readable as YAML"),
        (("---\nid", "id"), "between two lines"),
    ],
)
def test_a_wrong_head_is_one_error_that_names_file_and_cure(change, message):
    with pytest.raises(ConfigError, match=message) as caught:
        parse_template((HEAD + BODY).replace(*change, 1), "mine.md")
    assert "mine.md" in str(caught.value)


def test_an_answer_in_numbers_per_sample_is_refused_of_a_graph():
    with pytest.raises(ConfigError, match="mine.md: graph/forecast is answered per place"):
        parse_template(SOFT.replace("neighbours: 2", "answer: {grammar: numbers}") + "words", "mine.md")


def test_a_template_without_an_answer_cannot_read():
    with pytest.raises(ConfigError, match="no `answer`"):
        template("words", SOFT).read("1,2", forecast_sample())


def test_variables_depend_on_what_a_prompt_is_for():
    assert "history" in allowed_variables(template().head)
    assert "history" not in allowed_variables(template("words", SOFT).head)


def test_ones_own_folder_overrides_by_name(tmp_path, monkeypatch):
    (tmp_path / "prompts/graph").mkdir(parents=True)
    (tmp_path / "prompts/graph/forecast.md").write_text(HEAD + BODY, encoding="utf-8")
    assert load_prompt("graph/forecast").id == "graph/forecast"
    assert load_prompt("graph/forecast", root=tmp_path).id == "mine"
    assert load_prompt(str(tmp_path / "prompts/graph/forecast.md")).id == "mine"
    monkeypatch.setenv("ST2LLM_RECIPES", str(tmp_path))
    assert load_prompt("graph/forecast").id == "mine"
    assert load_prompt("graph/forecast.soft").id == "graph/forecast.soft"


def test_an_unknown_name_gets_the_nearest_one():
    for name in ("graph/forcast", "grpah/forecast"):
        with pytest.raises(ConfigError, match="Did you mean 'graph/forecast'"):
            load_prompt(name)


@pytest.mark.parametrize("content", [b"\xff\xfe---", b"---\n" + b"x" * 200_000])
def test_a_file_that_is_no_text_or_too_large_is_one_error(tmp_path, content):
    path = tmp_path / "mine.md"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"mine\.md"):
        load_prompt(str(path))


def test_windows_line_ends_and_a_byte_order_mark_are_read():
    source = "\ufeff" + (HEAD + BODY).replace("\n", "\r\n")
    assert parse_template(source, "mine.md").render(at_first()).text.endswith("Mon 10 Jun:")


@pytest.mark.slow
def test_prompts_need_no_torch():
    code = (
        "import sys\nfrom st2llm.serialize import lint\nfrom st2llm.serialize.template.template import load_prompt\n"
        "load_prompt('graph/forecast')\nimport st2llm.predict.text\nprint('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
        check=True,
    )
    assert done.stdout.strip() == "False"


INSTRUCTIONS = [
    name
    for path in recipes.listing("prompts", "*/*.soft.md")
    if "question-answer" not in (name := "/".join(path.parts[-2:]).removesuffix(".md"))
]


def test_there_is_a_soft_instruction_for_every_task_that_arms_are_trained_for():
    known = {f"{kind}/{task}.soft" for kind, words in TRAINABLE_TASKS.items() for task in words}
    assert known == set(INSTRUCTIONS)


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_a_soft_instruction_ends_with_a_slot_of_as_many_tokens_as_are_asked_for(name):
    template = load_prompt(name)
    assert template.head.variables[-1] == "soft"
    source = (recipes.locate(f"prompts/{name}.md")).read_text()
    assert source.rstrip().endswith("tokens={{ soft }}>")


def test_slots_stand_amid_the_words_of_a_chat_and_data_cannot_make_one():
    head = HEAD.replace("per: place", "per: place\nformat: chat")
    body = "<system>\nAnswer.\n<user>\nSee <soft name=places tokens=3> and\n<soft name=near tokens=2>: {{ place }}\n"
    prompt = template(body, head).render(at_first())
    slots = [part for part in prompt.parts if isinstance(part, Slot)]
    assert [(slot.name, slot.length) for slot in slots] == [("places", 3), ("near", 2)]
    said = prompt.messages[1]["content"]
    assert said.startswith(f"See {slots[0].tag} and\n{slots[1].tag}: ")
    assert "soft" not in prompt.text


def test_a_slot_that_is_not_one_is_an_error_in_a_chat_too():
    head = HEAD.replace("per: place", "per: place\nformat: chat")
    with pytest.raises(ConfigError, match="a slot reads"):
        template("<user>\nSee <soft tokens=0>: {{ place }}\n", head).render(at_first())


def test_a_saved_template_comes_back_the_same(tmp_path):
    template = load_prompt("graph/forecast")
    template.save_pretrained(tmp_path / "mine")
    again = Template.from_pretrained(tmp_path / "mine")
    assert (again.id, again.version, again.sha256) == (template.id, template.version, template.sha256)


def test_a_changed_answer_is_not_saved_as_if_it_were_in_the_file(tmp_path):
    with pytest.raises(ConfigError, match="changed by `with_answer`"):
        load_prompt("graph/forecast").with_answer({"decimals": 1}).save_pretrained(tmp_path / "mine")
    with pytest.raises(ConfigError, match=r"holds no template\.md"):
        Template.from_pretrained(tmp_path)


def test_a_template_is_uploaded_as_one_file(monkeypatch):
    uploaded = {}

    def upload(folder, repository):
        uploaded.update({path.name: path.read_text() for path in Path(folder).iterdir()})
        return repository

    monkeypatch.setattr(hub, "upload", upload)
    assert load_prompt("graph/forecast").push_to_hub("me/mine") == "me/mine"
    assert list(uploaded) == ["template.md"] and "id: graph/forecast" in uploaded["template.md"]
