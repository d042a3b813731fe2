"""The cards of data with texts: which columns are read, and that predictions written with hindsight are not."""

from pathlib import Path

import pytest

import st2llm
from st2llm.data import card, card_path, cards, load_data
from st2llm.data.card.side import SideRule
from st2llm.serialize.template.template import load_prompt

TIME_MMD = [name for name in cards() if name.startswith("time-mmd-")]
ROWS = "date,OT,start_date,end_date\n" + "".join(
    f"2020-{1 + i // 28:02d}-{1 + i % 28:02d},{i}.5,2020-{1 + i // 28:02d}-{1 + i % 28:02d},"
    f"2020-{1 + i // 28:02d}-{1 + i % 28:02d}\n"
    for i in range(28)
)
TEXTS = ",start_date,end_date,fact,preds\n0,2020-01-01,2020-01-02,Rain fell.,Snow will fall.\n"
CARD = """name: {name}
kind: graph
values: {{here: numerical.csv}}
layout: long
time: end_date
channels: [OT]
freq: 1D
side: {{documents: {{table: report.csv, text: {text}, end: end_date, source: {source}}}}}
split: {{train: 1.0}}
"""


def test_ten_domains_read_facts_alone_and_one_card_is_named_for_the_leak():
    texts = {}
    for name in TIME_MMD:
        side = card.read_card(card_path(name)).side
        texts[name] = {(table.text, "leak" in table.source) for table in side.documents}
    leaks = {name for name, found in texts.items() if found != {("fact", False)}}
    assert leaks == {"time-mmd-health-us-leak"} and texts["time-mmd-health-us-leak"] == {("preds", True)}
    assert len(TIME_MMD) == 11


@pytest.mark.parametrize("column", ["preds", "pred", "Predictions", "forecast"])
def test_a_column_of_predictions_is_refused_unless_it_is_named_a_leak(column):
    rule = {"table": "report.csv", "text": column, "end": "end_date"}
    with pytest.raises(ValueError, match="may have known what came after"):
        SideRule.model_validate({"documents": rule})
    assert SideRule.model_validate({"documents": {**rule, "source": "leak of report"}}).documents


@pytest.mark.parametrize(("text", "source", "leaks"), [("fact", "report", False), ("preds", "leak", True)])
def test_predictions_reach_a_prompt_from_a_source_named_a_leak_alone(tmp_path: Path, text, source, leaks):
    (tmp_path / "numerical.csv").write_text(ROWS, encoding="utf-8")
    (tmp_path / "report.csv").write_text(TEXTS, encoding="utf-8")
    (tmp_path / "tiny.yaml").write_text(CARD.format(name="tiny", text=text, source=source), encoding="utf-8")
    data = load_data(tmp_path / "tiny.yaml")
    train = st2llm.split(data, st2llm.tasks.forecast(history=6, horizon=2)).train
    prompt = load_prompt("graph/forecast").render(train[-1].at("here")).text
    assert ("Snow will fall." in prompt) is leaks and ("Rain fell." in prompt) is not leaks
    assert ("leak, " in prompt) is leaks
