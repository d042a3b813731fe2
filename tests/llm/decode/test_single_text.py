"""One text at a time gives the answers of the packed engine, with and without a cache of keys and values."""

import numpy as np
import pytest

from st2llm.errors import ConfigError
from st2llm.llm import load_llm
from st2llm.llm.decode.requests import DecodeRequest
from st2llm.llm.decode.single_text import SingleTextEngine
from st2llm.llm.grammar import build_automaton
from st2llm.types import Choice, Decoding, FreeText, Numbers

TEXTS = ["7,", "12,14,16,", "people walked by at 3:00. "]


def requests(llm, grammar):
    automaton = build_automaton(llm.tokenizer, grammar)
    return [DecodeRequest(tuple(llm.tokenizer.encode(text)), automaton, text) for text in TEXTS]


@pytest.mark.parametrize("keeps_cache", [True, False])
def test_answers_and_scores_are_those_of_the_packed_engine(tiny, keeps_cache):
    llm = load_llm(tiny(), dtype="fp32")
    single = SingleTextEngine(llm.model)
    assert single._keeps_cache
    single._keeps_cache = keeps_cache
    for grammar in (Numbers(3, 2), Choice(("12 people", "no")), FreeText(5)):
        asked = requests(llm, grammar)
        for decoding in (Decoding(), Decoding(draws=2, temperature=1.3, seed=5)):
            ours, theirs = single.generate(asked, decoding), llm.engine.generate(asked, decoding)
            assert [draw.tokens for draw in ours] == [draw.tokens for draw in theirs]
            np.testing.assert_allclose([d.logprob for d in ours], [d.logprob for d in theirs], atol=1e-3)
    asked, tokens = requests(llm, Numbers(2, 2)), [llm.tokenizer.encode(x) for x in ("1,2", "12,3", "1")]
    np.testing.assert_allclose(
        single.log_likelihood(asked, tokens), llm.engine.log_likelihood(asked, tokens), atol=1e-3
    )
    for start in ([5], list(asked[1].prompt_ids)):
        wanted = llm.engine.candidate_logprobs(start, tokens)
        np.testing.assert_allclose(single.candidate_logprobs(start, tokens), wanted, atol=1e-3)


def test_it_refuses_what_the_packed_engine_refuses(tiny):
    llm = load_llm(tiny(), dtype="fp32")
    single = SingleTextEngine(llm.model)
    automaton = build_automaton(llm.tokenizer, Numbers(2, 3))
    with pytest.raises(ConfigError, match="Prompt 0 is empty"):
        single.generate([DecodeRequest((), automaton, "a")], Decoding())
    with pytest.raises(ConfigError, match="context holds 256"):
        single.log_likelihood([DecodeRequest((5,) * 254, automaton, "a")], [[5]])
    with pytest.raises(ConfigError, match="context holds 256"):
        single.hidden_states([[5] * 257])
    with pytest.raises(ConfigError, match="at least one token"):
        single.candidate_logprobs([5], [[]])
    with pytest.raises(ConfigError, match="the prompt is empty"):
        single.candidate_logprobs([], [[5]])


def test_a_head_that_does_not_give_the_models_logits_is_refused(tiny):
    model = load_llm(tiny(), dtype="fp32").model
    model.config.logits_scaling = 2.0
    with pytest.raises(ConfigError, match="its logits are off by"):
        SingleTextEngine(model)
