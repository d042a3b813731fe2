"""Batched, cached, constrained decoding says what a naive loop over whole texts says."""

import re

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from st2llm.errors import ConfigError
from st2llm.llm import decode, grammar, load_llm
from st2llm.types import Numbers

TEXTS = ["7,", "12,14,16,", "people walked by at 3:00. " * 3 + "5,", "1", "420,421,422,423,", "0,0,0,0,0,"]
MODELS = [("llama", "single"), ("llama", "merged"), ("gpt2", "single"), ("qwen2", "merged")]


@torch.no_grad()
def naive(llm, ids: list[int], automaton: grammar.Grammar) -> tuple[list[int], float]:
    """Greedy columns and log-probability, the whole text read anew, alone and with the full head, at each token."""
    ids, columns, total, state = list(ids), [], 0.0, grammar.START
    for _ in range(automaton.longest):
        logits = llm.model(input_ids=torch.tensor([ids])).logits[0, -1].float()[automaton.ids]
        step = torch.from_numpy(automaton.step[state])
        best, column = logits.masked_fill(step == grammar.FORBIDDEN, -torch.inf).log_softmax(-1).max(-1)
        state, total = int(step[column]), total + float(best)
        if state != grammar.STOPPED:
            columns.append(int(column))
        if state < grammar.START:
            break
        ids.append(int(automaton.ids[column]))
    return columns, total


@pytest.mark.parametrize(("architecture", "digits"), MODELS)
def test_batched_cached_answers_are_those_of_reading_each_text_anew(tiny, architecture, digits):
    llm = load_llm(tiny(architecture, digits), dtype="fp32")
    automaton = grammar.numbers(llm.tokenizer, Numbers(4, 3))
    prompts = [llm.tokenizer.encode(text) for text in TEXTS]
    answers = decode.answer(llm.model, llm.tokenizer, prompts, automaton)
    assert len({len(prompt) for prompt in prompts}) > 3
    for prompt, answer in zip(prompts, answers, strict=True):
        columns, logprob = naive(llm, prompt, automaton)
        assert answer.text == automaton.text(llm.tokenizer, columns)
        assert answer.logprob == pytest.approx(logprob, abs=1e-3)
        assert (answer.tokens_in, answer.tokens_out) == (len(prompt), len(columns))


def test_free_text_is_that_of_reading_each_text_anew(tiny):
    llm = load_llm(tiny(), dtype="fp32")
    automaton = grammar.line(llm.tokenizer, 20)
    prompts = [llm.tokenizer.encode(text) for text in TEXTS]
    for prompt, answer in zip(
        prompts, decode.answer(llm.model, llm.tokenizer, prompts, automaton), strict=True
    ):
        columns, logprob = naive(llm, prompt, automaton)
        assert answer.text == automaton.text(llm.tokenizer, columns)
        assert answer.logprob == pytest.approx(logprob, abs=1e-3)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**31),
    model=st.sampled_from(MODELS),
    wanted=st.builds(
        Numbers, count=st.integers(1, 6), digits=st.integers(1, 3), separator=st.sampled_from([",", ", "])
    ),
)
def test_whatever_the_weights_every_answer_is_readable(tiny, prompt, seed, model, wanted):
    llm = load_llm(f"random:{tiny(*model)}", dtype="fp32", seed=seed)
    for answer in llm.complete([prompt(text, wanted) for text in TEXTS]):
        parts = answer.text.split(wanted.separator)
        assert len(parts) == wanted.count
        assert all(re.fullmatch(rf"0|[1-9][0-9]{{0,{wanted.digits - 1}}}", part) for part in parts)
        assert answer.logprob <= 0
        assert answer.seconds > 0


def test_a_batch_reads_the_same_last_state_as_each_prompt_alone(tiny):
    llm = load_llm(tiny(), dtype="fp32")
    prompts = [llm.tokenizer.encode(text) for text in TEXTS]
    with torch.inference_mode():
        together, _ = decode.prefill(llm.model, prompts, room=3)
        alone = torch.cat([decode.prefill(llm.model, [prompt], room=3)[0] for prompt in prompts])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_answers_come_in_the_order_of_the_prompts_whatever_their_grammar(tiny, prompt):
    llm = load_llm(tiny(), dtype="fp32")
    kinds = [Numbers(2, 3), None, Numbers(1, 1), Numbers(2, 3)]
    asked = [prompt(text, kind) for text, kind in zip(TEXTS, kinds, strict=False)]
    together = [answer.text for answer in llm.complete(asked)]
    assert together == [llm.complete([one])[0].text for one in asked]


def test_batches_hold_every_prompt_once_within_the_budget():
    lengths = [5, 90, 30, 31, 29, 2, 90]
    found = list(decode.batches(lengths, room=10, budget=100))
    assert sorted(i for rows in found for i in rows) == list(range(len(lengths)))
    assert all(len(rows) == 1 or len(rows) * (lengths[rows[0]] + 10) <= 100 for rows in found)
    assert [lengths[rows[0]] for rows in found] == sorted((lengths[rows[0]] for rows in found), reverse=True)


def test_no_prompts_no_answers(tiny):
    assert load_llm(tiny(), dtype="fp32").complete([]) == []


def test_a_prompt_longer_than_the_context_is_refused(tiny, prompt):
    with pytest.raises(ConfigError, match="context holds 256"):
        load_llm(tiny(), dtype="fp32").complete([prompt("1" * 254, Numbers(2, 3))])


def test_an_empty_prompt_is_refused(tiny):
    llm = load_llm(tiny(), dtype="fp32")
    with pytest.raises(ConfigError, match="Prompt 1 is empty"):
        decode.answer(llm.model, llm.tokenizer, [[5], []], grammar.line(llm.tokenizer, 4))
