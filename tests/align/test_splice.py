"""Soft tokens stand where their slot is, and a padded batch says what each prompt says alone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from st2llm.align.splice import pad_left, splice
from st2llm.errors import AlignmentError
from st2llm.llm import load_llm
from st2llm.types import Slot


def rows(*values, width=2):
    return torch.tensor(values, dtype=torch.float32)[:, None].expand(-1, width)


def test_soft_tokens_stand_where_their_slots_are():
    parts = [rows(1, 2), Slot("a", 1), rows(3), Slot("b", 2)]
    whole, soft = splice(parts, {"b": rows(-2, -3), "a": rows(-1)})
    assert whole[:, 0].tolist() == [1, 2, -1, 3, -2, -3]
    assert soft.tolist() == [False, False, True, False, True, True]


def test_the_gradient_flows_to_the_soft_tokens():
    soft = torch.ones(2, 2, requires_grad=True)
    whole, _ = splice([rows(1), Slot("a", 2)], {"a": soft})
    (whole * rows(5, 6, 7)).sum().backward()
    assert soft.grad is not None
    assert soft.grad[:, 0].tolist() == [6, 7]


def test_a_slot_without_soft_tokens_is_refused():
    with pytest.raises(
        AlignmentError, match="slot 'places', but soft tokens were given only for \\['grid'\\]"
    ):
        splice([rows(1), Slot("places", 1)], {"grid": rows(1)})


@pytest.mark.parametrize("made", [1, 3])
def test_a_slot_of_another_length_is_refused(made):
    with pytest.raises(AlignmentError, match=f"Slot 'places' holds 2 tokens, but the head made {made}"):
        splice([Slot("places", 2)], {"places": rows(*range(made))})


def test_soft_tokens_without_a_slot_are_refused():
    with pytest.raises(AlignmentError, match="no slot for the soft tokens \\['places'\\]"):
        splice([rows(1)], {"places": rows(1)})


def test_rows_are_padded_on_the_left_and_counted_from_their_first_token():
    pieces = [splice([rows(*range(1, n + 1)), Slot("s", 1)], {"s": rows(-1)}) for n in (1, 3, 0)]
    batch = pad_left([row for row, _ in pieces], [mark for _, mark in pieces])
    assert batch.embeddings[..., 0].tolist() == [[0, 0, 1, -1], [1, 2, 3, -1], [0, 0, 0, -1]]
    assert batch.real.long().tolist() == [[0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 1]]
    assert batch.is_soft.long().tolist() == [[0, 0, 0, 1]] * 3
    assert batch.is_text.long().tolist() == [[0, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
    assert batch.position.tolist() == [[0, 0, 0, 1], [0, 1, 2, 3], [0, 0, 0, 0]]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_no_row_is_lost_or_invented(lengths):
    pieces = [rows(*range(1, n + 1)) for n in lengths]
    batch = pad_left(pieces, [torch.zeros(n, dtype=torch.bool) for n in lengths])
    for i, piece in enumerate(pieces):
        assert torch.equal(batch.embeddings[i][batch.real[i]], piece)
        assert batch.position[i][batch.real[i]].tolist() == list(range(lengths[i]))
    assert not batch.embeddings[~batch.real].any()


def test_prompts_of_different_lengths_in_a_batch_are_what_they_are_alone(tiny):
    llm = load_llm(tiny(), depth=2, dtype="fp32")
    torch.manual_seed(0)
    pieces = []
    for text in ("12 people", "at 7:00. 450, 12, 3 people walked by", ""):
        soft = llm.token_rms * torch.randn(2, llm.d_lm)
        pieces.append(splice([llm.embed(text), Slot("s", 2)], {"s": soft}))
    batch = pad_left([row for row, _ in pieces], [mark for _, mark in pieces])
    with torch.no_grad():
        together = llm.model.base_model(
            inputs_embeds=batch.embeddings, attention_mask=batch.real.long(), position_ids=batch.position
        ).last_hidden_state
        for i, (row, _) in enumerate(pieces):
            alone = llm.model.base_model(inputs_embeds=row[None]).last_hidden_state[0]
            torch.testing.assert_close(together[i][batch.real[i]], alone, rtol=1e-4, atol=1e-5)
