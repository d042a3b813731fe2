"""Alignment's objectives: what they count, what lowers them, and that prototypes are really used."""

import pytest
import torch
from support.bridges import joined

from st2llm.llm import load_llm
from st2llm.model.objectives import alignment as module
from st2llm.model.objectives.alignment import (
    CAPTION_CUE,
    CaptionedBatch,
    CaptioningObjective,
    ContrastiveAlignment,
    PrototypeAlignment,
    WithoutCaptions,
    mean_soft_state,
    mean_text_states,
)

WORDS = ("12 people walked by", "450, 12", "at 7:00 3 people", "walked by at 12:00", "12", "450 people")


@pytest.fixture
def bridge(tiny):
    llm = load_llm(tiny(), depth=2, dtype="fp32")
    arm, batch, objective = joined("graph", llm)
    return llm, arm, CaptionedBatch(batch, WORDS), objective


def test_an_objective_of_windows_stands_beside_the_others(bridge):
    _, arm, told, objective = bridge
    beside = WithoutCaptions(objective)
    drawn = beside.draw(told, torch.Generator())
    assert beside.counts(drawn) == objective.counts(told.data)
    torch.testing.assert_close(beside.totals(arm, drawn), objective.totals(arm, told.data))


def test_a_description_costs_what_the_library_says_after_the_soft_tokens(bridge):
    llm, arm, told, _ = bridge
    term = CaptioningObjective(llm)
    total = term.totals(arm, told)["language"]
    found = 0.0
    soft = arm.soft_tokens(told.data)
    for i, words in enumerate(WORDS):
        answer = [*llm.tokenizer.encode(f" {words}"), llm.tokenizer.eos]
        table = llm.model.get_input_embeddings()
        rows = torch.cat([soft[i], llm.embed(CAPTION_CUE), table(torch.tensor(answer[:-1]))])[None]
        with torch.no_grad():
            said = llm.model(inputs_embeds=rows).logits[0, -len(answer) :].log_softmax(-1)
        found -= sum(float(said[j, token]) for j, token in enumerate(answer))
    assert float(total.detach()) == pytest.approx(found, rel=1e-4)
    assert term.counts(told) == {"language": sum(len(llm.tokenizer.encode(f" {w}")) + 1 for w in WORDS)}


def test_contrast_is_low_where_both_sides_mean_the_same(bridge, monkeypatch):
    llm, arm, told, _ = bridge
    text = mean_text_states(llm, WORDS)

    def lost(states):
        monkeypatch.setattr(module, "mean_soft_state", lambda *_: states)
        return float(ContrastiveAlignment(0.1).totals(arm, told)["contrast"].detach()) / (2 * len(WORDS))

    assert lost(text) < 0.1 < lost(text[[1, 2, 3, 4, 5, 0]])


def test_equal_descriptions_are_no_negatives_of_each_other(bridge):
    _, arm, told, _ = bridge
    same = CaptionedBatch(told.data, ("12",) * 6)
    assert float(ContrastiveAlignment().totals(arm, same)["contrast"].detach()) == pytest.approx(
        0.0, abs=1e-4
    )


def test_what_soft_tokens_mean_depends_on_each_of_them(bridge):
    _, arm, told, _ = bridge
    soft = arm.soft_tokens(told.data).detach().requires_grad_()
    mean_soft_state(arm, soft).sum().backward()
    assert (soft.grad.abs().amax(dim=2) > 0).all()


def test_prototypes_reach_the_loss_and_pull(bridge):
    llm, arm, told, _ = bridge
    table = llm.model.get_input_embeddings().weight.detach()
    generator = torch.Generator().manual_seed(0)
    rows = table[:8]
    drawn = PrototypeAlignment(rows).draw(told, generator)
    one = PrototypeAlignment(rows).totals(arm, drawn)["prototypes"]
    assert (PrototypeAlignment(table[20:28]).totals(arm, drawn)["prototypes"] - one).abs() > 1e-3
    optimiser = torch.optim.AdamW([p for p in arm.parameters() if p.requires_grad], lr=1e-2)
    unit = torch.nn.functional.normalize(rows, dim=1)

    def nearest():
        z = torch.nn.functional.normalize(arm.soft_tokens(told.data).mean(dim=1), dim=1)
        return float((z @ unit.T).amax(dim=1).mean().detach())

    before = nearest()
    for _ in range(30):
        loss = PrototypeAlignment(rows).totals(arm, drawn)["prototypes"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert nearest() > before + 0.2
