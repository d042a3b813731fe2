"""Batched, shared, constrained decoding says what a naive loop over whole texts says."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from st2llm.errors import ConfigError, DataError
from st2llm.llm import load_llm
from st2llm.llm.decode import engine as engine_module
from st2llm.llm.decode.attention import packed_attention
from st2llm.llm.decode.batching import plan_batches
from st2llm.llm.decode.engine import Engine
from st2llm.llm.decode.requests import DecodeRequest
from st2llm.llm.grammar import build_automaton
from st2llm.types import Choice, Decoding, FreeText, Numbers, Ranking

TEXTS = ["7,", "12,14,16,", "people walked by at 3:00. " * 3 + "5,", "1", "420,421,422,423,", "0,0,0,0,0,"]
SHARED = "people walked by at 3:00. " * 2
MODELS = [
    ("llama", "single"),
    ("llama", "merged"),
    ("gpt2", "single"),
    ("qwen2", "merged"),
    ("gemma", "single"),
]
GRAMMARS = [Numbers(4, 3), Numbers(3, 2, fixed=True), Choice(("12 people", "12 walked", "no")), FreeText(20)]
WARM = Decoding(draws=3, temperature=1.3, seed=5)


def questions(llm, texts, grammar):
    form = build_automaton(llm.tokenizer, grammar)
    return [DecodeRequest(tuple(llm.tokenizer.encode(text)), form, text) for text in texts]


@torch.no_grad()
def naive(llm, question: DecodeRequest, tokens: list[int] | None = None) -> tuple[list[int], float]:
    """Greedy tokens (or those given) and their log-probability: the text read anew, alone and whole, at each one."""
    ids, chosen, total, state = list(question.prompt_ids), [], 0.0, question.automaton.start
    while not state.ended:
        logits = llm.model(input_ids=torch.tensor([ids])).logits[0, -1].float()
        allowed = np.arange(len(logits)) if state.allowed is None else state.allowed
        logprobs = logits[torch.from_numpy(allowed)].log_softmax(-1)
        column = int(logprobs.argmax()) if tokens is None else _column(tokens, len(chosen), allowed, state)
        token = int(allowed[column])
        total += float(logprobs[column])
        state = state.advance(token)
        chosen += [] if state.stopped else [token]
        ids.append(token)
    return chosen, total


def _column(tokens, at, allowed, state) -> int:
    """Where the next token of an answer stands among the allowed ones; behind its last, where its stop does."""
    wanted = [tokens[at]] if at < len(tokens) else [t for t in allowed.tolist() if state.advance(t).stopped]
    return int(np.flatnonzero(np.isin(allowed, wanted))[0])


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "digits"), MODELS)
def test_batched_answers_are_those_of_reading_each_text_anew(tiny, architecture, digits):
    llm = load_llm(tiny(architecture, digits), dtype="fp32")
    for grammar in GRAMMARS:
        for texts in (TEXTS, [SHARED + text for text in TEXTS]):
            asked = questions(llm, texts, grammar)
            for question, draw in zip(asked, llm.engine.generate(asked, Decoding()), strict=True):
                tokens, logprob = naive(llm, question)
                assert list(draw.tokens) == tokens
                assert draw.logprob == pytest.approx(logprob, abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "digits"), MODELS)
def test_draws_have_the_probability_of_their_text_read_anew(tiny, architecture, digits):
    llm = load_llm(tiny(architecture, digits), dtype="fp32")
    asked = questions(llm, [SHARED + text for text in TEXTS[:3]], Numbers(3, 2, fixed=True))
    for i, draw in enumerate(llm.engine.generate(asked, WARM)):
        _, logprob = naive(llm, asked[i // WARM.draws], list(draw.tokens))
        assert draw.logprob == pytest.approx(logprob, abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "digits"), MODELS)
def test_in_bf16_answers_of_unequal_length_have_the_probability_they_have_in_fp32(tiny, architecture, digits):
    exact, llm = (load_llm(tiny(architecture, digits), dtype=dtype) for dtype in ("fp32", "bf16"))
    asked = questions(llm, [SHARED + text for text in TEXTS], Numbers(4, 3))
    drawn = llm.engine.generate(asked, WARM)
    assert len({len(draw.tokens) for draw in drawn}) > 1
    off = []
    for i, draw in enumerate(drawn):
        question, tokens = asked[i // WARM.draws], list(draw.tokens)
        all_ways, one_way = (
            exact.engine.log_likelihood([question], [tokens])[0],
            naive(exact, question, tokens)[1],
        )
        if abs(all_ways - one_way) < 1e-3:  # where it can end in one way alone, the draw is that way
            off.append(abs(draw.logprob - one_way))
    assert len(off) >= 4
    assert np.mean(off) < 0.3 and max(off) < 1.0


def test_a_seed_reproduces_draws_whatever_else_is_in_the_batch(tiny):
    llm = load_llm(tiny(), dtype="fp32")
    asked = questions(llm, TEXTS, Numbers(4, 3))
    together = llm.engine.generate(asked, WARM)
    alone = [draw for question in asked for draw in llm.engine.generate([question], WARM)]
    assert [draw.tokens for draw in together] == [draw.tokens for draw in alone]
    other = llm.engine.generate(asked, replace(WARM, seed=6))
    assert [draw.tokens for draw in other] != [draw.tokens for draw in together]
    assert len({draw.tokens for draw in together[:3]}) > 1


@pytest.mark.parametrize(("architecture", "digits"), MODELS)
def test_hidden_states_do_not_depend_on_the_batch(tiny, architecture, digits):
    llm = load_llm(tiny(architecture, digits), dtype="fp32")
    texts = [llm.tokenizer.encode(SHARED + text) for text in TEXTS]
    for text, states in zip(texts, llm.engine.hidden_states(texts), strict=True):
        with torch.inference_mode():
            own = llm.model(input_ids=torch.tensor([text])).logits[0]
            torch.testing.assert_close(llm.engine.head.full_logits(states), own, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize(("architecture", "digits"), MODELS)
def test_bf16_in_a_batch_is_as_near_to_fp32_as_the_librarys_bf16_alone(tiny, architecture, digits):
    exact, llm = (load_llm(tiny(architecture, digits), dtype=dtype) for dtype in ("fp32", "bf16"))
    texts = [llm.tokenizer.encode(SHARED + text) for text in TEXTS]
    ours, theirs = 0.0, 0.0
    for text, states in zip(texts, llm.engine.hidden_states(texts), strict=True):
        with torch.inference_mode():
            truth = exact.model(input_ids=torch.tensor([text])).logits[0]
            own = llm.model(input_ids=torch.tensor([text])).logits[0].float()
            got = llm.engine.head.full_logits(states)
        ours, theirs = ours + float((got - truth).abs().mean()), theirs + float((own - truth).abs().mean())
        assert (got - truth).abs().max() < 0.1 * truth.abs().max()
    assert 0 < ours < 1.1 * theirs


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**31),
    model=st.sampled_from(MODELS),
    temperature=st.sampled_from([0.0, 0.7, 3.0]),
    wanted=st.builds(
        Numbers, count=st.integers(1, 6), digits=st.integers(1, 3), separator=st.sampled_from([",", ", "])
    ),
)
def test_whatever_the_weights_every_answer_is_readable(tiny, prompt, seed, model, temperature, wanted):
    llm = load_llm(f"random:{tiny(*model)}", dtype="fp32", seed=seed)
    for answer in llm.complete([prompt(text, wanted) for text in TEXTS], Decoding(temperature=temperature)):
        parts = answer.text.split(wanted.separator)
        assert len(parts) == wanted.count
        assert all(re.fullmatch(rf"0|[1-9][0-9]{{0,{wanted.digits - 1}}}", part) for part in parts)
        assert answer.logprob <= 0
        assert answer.seconds > 0


def test_ranked_ids_are_candidates_and_distinct(tiny, prompt):
    llm = load_llm(tiny(digits="merged"), dtype="fp32")
    wanted = Ranking(("1", "17", "170", "2", "23"), 4)
    for answer in llm.complete([prompt(text, wanted) for text in TEXTS], WARM):
        ids = answer.text.split(wanted.separator)
        assert len(set(ids)) == 4
        assert set(ids) <= set(wanted.candidates)


def test_a_train_of_thought_ends_in_a_readable_answer_within_its_tokens(tiny, prompt):
    llm = load_llm(tiny(), dtype="fp32")
    wanted = FreeText(12, answer=Numbers(2, 2))
    for answer in llm.complete([prompt(text, wanted) for text in TEXTS], WARM):
        assert re.fullmatch(r"(?s).*Answer: (0|[1-9]\d?),(0|[1-9]\d?)", answer.text)


def test_answers_come_in_the_order_of_the_prompts_whatever_their_grammar(tiny, prompt):
    llm = load_llm(tiny(), dtype="fp32")
    kinds = [Numbers(2, 3), None, Numbers(1, 1), Choice(("no", "yes")), Numbers(2, 3)]
    asked = [prompt(text, kind) for text, kind in zip(TEXTS, kinds, strict=False)]
    together = [answer.text for answer in llm.complete(asked)]
    assert together == [llm.complete([one])[0].text for one in asked]


def test_an_answer_tells_what_it_cost_and_what_was_read_once_for_several(tiny, prompt):
    llm = load_llm(tiny(), dtype="fp32")
    answers = llm.complete([prompt(SHARED + text, Numbers(2, 2, fixed=True)) for text in TEXTS[:2]], WARM)
    lengths = [len(llm.tokenizer.encode(SHARED + text)) + 1 for text in TEXTS[:2]]
    assert [answer.draw for answer in answers] == [0, 1, 2, 0, 1, 2]
    assert [answer.tokens_in for answer in answers] == [n for n in lengths for _ in range(3)]
    assert {answer.tokens_out for answer in answers} == {5}
    begun = answers[0].tokens_shared
    assert [answer.tokens_shared for answer in answers] == [begun, *lengths[:1] * 2, begun, *lengths[1:] * 2]
    assert begun >= len(llm.tokenizer.encode(SHARED))


def test_what_the_grammar_forces_is_not_asked_of_the_model(tiny, prompt, monkeypatch):
    llm = load_llm(tiny(), dtype="fp32")
    llm.complete([prompt("7,")])
    passes, read = [], engine_module.forward_packed
    monkeypatch.setattr(
        engine_module, "forward_packed", lambda *given: passes.append(len(given[1])) or read(*given)
    )
    llm.complete([prompt("7,", Choice(("only this",)))])
    assert passes == []
    llm.complete([prompt("7,", Numbers(3, 1, fixed=True))])
    assert passes[1:] == [2, 2]


def test_answers_are_the_same_whether_forced_tokens_ride_along_or_wait(tiny, monkeypatch):
    llm = load_llm(tiny(), dtype="fp32")
    for grammar in (Numbers(4, 3), FreeText(6, answer=Numbers(2, 2)), Ranking(("12", "123", "45"), 2)):
        asked = questions(llm, TEXTS, grammar)
        riding = llm.engine.generate(asked, WARM)
        monkeypatch.setattr(engine_module, "MAX_UNEVEN_ROWS", 0)
        waiting = llm.engine.generate(asked, WARM)
        assert [(d.tokens, d.tokens_spent) for d in riding] == [(d.tokens, d.tokens_spent) for d in waiting]
        monkeypatch.undo()


def test_little_memory_means_small_batches_and_the_same_answers(tiny):
    llm = load_llm(tiny(), dtype="fp32")
    asked = questions(llm, TEXTS, Numbers(4, 3))
    poor = Engine(llm.model, native_bf16=False, memory_mb=1)
    poor._token_budget = 100
    planned = list(plan_batches(asked, 3, 0, 100))
    assert len(planned) > 1
    assert sorted(i for batch in planned for i in batch) == list(range(len(asked)))
    assert [d.tokens for d in poor.generate(asked, WARM)] == [
        d.tokens for d in llm.engine.generate(asked, WARM)
    ]


@pytest.mark.parametrize(("architecture", "digits"), MODELS)
def test_candidates_score_as_if_each_were_read_alone(tiny, prompt, architecture, digits):
    llm = load_llm(tiny(architecture, digits), dtype="fp32")
    candidates = ["1", "12", "123", "124", " people", " people walked", "7", "1:00."]
    got = llm.score(prompt(TEXTS[2]), candidates)
    prefix = llm.tokenizer.prompt_ids(prompt(TEXTS[2]))
    for candidate, value in zip(candidates, got, strict=True):
        words = llm.tokenizer.encode(candidate)
        with torch.no_grad():
            logprobs = (
                llm.model(input_ids=torch.tensor([[*prefix, *words]])).logits[0].float().log_softmax(-1)
            )
        wanted = sum(float(logprobs[len(prefix) - 1 + i, token]) for i, token in enumerate(words))
        assert value == pytest.approx(wanted, abs=2e-3)


def test_scores_do_not_depend_on_how_the_tree_is_cut(tiny, prompt, monkeypatch):
    llm = load_llm(tiny(), dtype="fp32")
    candidates = [str(i) for i in range(150)]
    whole = llm.score(prompt("5,"), candidates)
    monkeypatch.setattr(engine_module, "MAX_PASS_TOKENS", 3)
    np.testing.assert_allclose(llm.score(prompt("5,"), candidates), whole, atol=1e-4)


def test_the_probabilities_of_all_answers_sum_to_one(tiny, prompt):
    llm = load_llm(tiny(), dtype="fp32")
    said = [f"{a},{b}" for a in range(10) for b in range(10)]
    nats = llm.log_likelihood([prompt("7,", Numbers(2, 1))] * len(said), said)
    assert np.exp(nats).sum() == pytest.approx(1.0, abs=1e-4)
    for answer in ("12,3", "1,x", ""):  # too long, with a missing value, none
        with pytest.raises(
            DataError, match=rf"The answer '{answer}' to prompt 1 is not one that its grammar"
        ):
            llm.log_likelihood([prompt("7,", Numbers(2, 1))] * 2, ["1,2", answer])
    with pytest.raises(ConfigError, match="got 1 answers to 2 prompts"):
        llm.log_likelihood([prompt("7,", Numbers(2, 1))] * 2, ["1,2"])


@pytest.mark.parametrize("digits", ["sentencepiece", "unigram"])
def test_with_a_space_in_front_of_every_text_an_answer_still_has_a_likelihood(tiny, prompt, digits):
    llm = load_llm(tiny("llama", digits), dtype="fp32")
    asked = [prompt(text, Numbers(2, 1, fixed=True)) for text in TEXTS]
    nats = llm.log_likelihood(asked, [answer.text for answer in llm.complete(asked)])
    assert np.isfinite(nats).all()
    said = [f"{a},{b}" for a in range(10) for b in range(10)]
    assert 0 < np.exp(llm.log_likelihood(asked[:1] * len(said), said)).sum() < 1 + 1e-4
    ids = llm.tokenizer.prompt_ids(asked[1])
    with torch.no_grad():
        logprobs = llm.model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)
    digit = llm.tokenizer.tokenizer.token_to_id("7")
    assert llm.score(asked[1], ["7"])[0] == pytest.approx(float(logprobs[digit]), abs=2e-3)


def test_likelihood_and_answer_agree(tiny, prompt):
    llm = load_llm(tiny(), dtype="fp32")
    asked = [prompt(text, Numbers(3, 2)) for text in TEXTS]
    answers = llm.complete(asked)
    nats = llm.log_likelihood(asked, [answer.text for answer in answers])
    at_least = np.array([answer.logprob for answer in answers])
    assert (nats >= at_least - 1e-3).all()


def test_asking_leaves_the_model_as_it_was(tiny, prompt):
    llm = load_llm(tiny(), dtype="fp32")
    ids = torch.tensor([llm.tokenizer.encode(TEXTS[2])])
    before, attention = llm.model(input_ids=ids).logits, llm.model.config._attn_implementation
    llm.complete([prompt("7,", Numbers(2, 2))], WARM)
    assert llm.model.config._attn_implementation == attention
    torch.testing.assert_close(llm.model(input_ids=ids).logits, before)
    with pytest.raises(ZeroDivisionError), packed_attention(llm.model):
        raise ZeroDivisionError
    assert llm.model.config._attn_implementation == attention


def test_a_model_that_cannot_be_read_in_parts_is_refused_by_its_logits(tiny):
    llm = load_llm(tiny(), dtype="fp32")
    llm.model.config.final_logit_softcapping = 0.001
    with pytest.raises(ConfigError, match="its logits are off by"):
        Engine(llm.model, native_bf16=False)


def test_no_prompts_no_answers(tiny):
    assert load_llm(tiny(), dtype="fp32").complete([]) == []


def test_a_prompt_longer_than_the_context_is_refused(tiny, prompt):
    with pytest.raises(ConfigError, match="context holds 256"):
        load_llm(tiny(), dtype="fp32").complete([prompt("1" * 254, Numbers(2, 3))])


def test_an_empty_prompt_is_refused(tiny):
    llm = load_llm(tiny(), dtype="fp32")
    form = build_automaton(llm.tokenizer, None)
    with pytest.raises(ConfigError, match="Prompt 1 is empty"):
        llm.engine.generate([DecodeRequest((5,), form, "a"), DecodeRequest((), form, "b")], Decoding())
    with pytest.raises(ConfigError, match="Prompt 1 is empty"):
        llm.engine.log_likelihood([DecodeRequest((5,), form, "a"), DecodeRequest((), form, "b")], [[5], [5]])


def test_scoring_nothing_is_refused(tiny, prompt):
    llm = load_llm(tiny(), dtype="fp32")
    with pytest.raises(ConfigError, match="at least one token"):
        llm.score(prompt("7,"), ["1", ""])
    with pytest.raises(ConfigError, match="the prompt is empty"):
        llm.engine.candidate_logprobs([], [[5]])
