"""Models of every family answer as transformers does, alone and beside other texts."""

import copy

import numpy as np
import pytest
import torch
from support.families import EVERY, FAMILIES

from st2llm.llm import load_llm
from st2llm.llm.decode.engine import Engine
from st2llm.types import Decoding, Numbers

SHORT, LONG = "7,", "people walked by at 3:00. " * 4 + "12,14,"
CANDIDATES = ["1", "12", " people walked by at 5:00. " * 2]


@torch.no_grad()
def logprob(llm, ids, tokens) -> float:
    """What transformers says of tokens after a text, by a model that has read nothing before."""
    logits = copy.deepcopy(llm.model)(input_ids=torch.tensor([[*ids, *tokens]])).logits[0]
    logprobs = logits.float().log_softmax(-1)
    return sum(float(logprobs[len(ids) - 1 + i, token]) for i, token in enumerate(tokens))


@pytest.mark.parametrize("name", EVERY)
def test_scores_are_those_of_transformers(family, prompt, name):
    llm = load_llm(family(name), dtype="fp32")
    assert isinstance(llm.engine, Engine) == FAMILIES[name].packed
    for text in (LONG, SHORT):
        ids = llm.tokenizer.prompt_ids(prompt(text))
        wanted = [logprob(llm, ids, llm.tokenizer.encode(candidate)) for candidate in CANDIDATES]
        np.testing.assert_allclose(llm.score(prompt(text), CANDIDATES), wanted, atol=1e-4)


@pytest.mark.parametrize("name", EVERY)
def test_answers_do_not_depend_on_other_prompts(family, prompt, name):
    llm = load_llm(family(name), dtype="fp32")
    asked = [prompt(text, Numbers(3, 2)) for text in (SHORT, LONG, SHORT + "5,")]
    warm = Decoding(draws=2, temperature=1.3, seed=5)
    together = llm.complete(asked, warm)
    alone = [answer for one in asked for answer in llm.complete([one], warm)]
    assert [answer.text for answer in together] == [answer.text for answer in alone]
    np.testing.assert_allclose([a.logprob for a in together], [a.logprob for a in alone], atol=1e-4)
    for answer in together:
        assert len([int(number) for number in answer.text.split(",")]) == 3
    texts = [answer.text for answer in together[::2]]
    nats = llm.log_likelihood(asked, texts)
    single = [llm.log_likelihood([one], [text])[0] for one, text in zip(asked, texts, strict=True)]
    np.testing.assert_allclose(nats, single, atol=1e-4)
    assert (nats >= np.array([answer.logprob for answer in together[::2]]) - 1e-3).all()
