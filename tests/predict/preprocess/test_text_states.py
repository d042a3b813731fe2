"""States of texts do not depend on what else is read, on padding or on how long texts are cut."""

import numpy as np
import pytest
import torch

from st2llm.llm import load_llm
from st2llm.predict.preprocess import text_states
from st2llm.predict.preprocess.text_states import TextStates

TEXTS = ["Rain.", "A market is announced for the next day, with music.", "", "Rain. " * 40]


ENDING = "\nIn one word:"


@pytest.fixture(scope="module")
def llm(llama):
    return load_llm(str(llama), dtype="fp32")


@pytest.mark.parametrize("ending", [None, ENDING])
def test_a_text_has_the_same_state_alone_and_among_others(llm, ending):
    together = TextStates(llm, ending).encode(TEXTS)
    alone = np.concatenate([TextStates(llm, ending).encode([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert together.shape == (len(TEXTS), llm.d_lm) and not np.allclose(together[0], together[1])


def test_the_mean_is_over_the_tokens_of_a_text_and_with_an_ending_its_last_state_counts(llm):
    def states(text):
        ids = torch.tensor([llm.tokenizer.encode(text)])
        with torch.inference_mode():
            return llm.model.model(input_ids=ids).last_hidden_state[0].numpy()

    text = TEXTS[1]
    np.testing.assert_allclose(TextStates(llm).encode([text])[0], states(text).mean(axis=0), atol=1e-5)
    asked = states(text + ENDING)[-1]
    np.testing.assert_allclose(TextStates(llm, ENDING).encode([text])[0], asked, atol=1e-5)
    assert not TextStates(llm).encode([""]).any()


def test_a_long_text_is_read_in_parts_up_to_a_limit(llm, monkeypatch):
    monkeypatch.setattr(text_states, "CHUNK_TOKENS", 8)
    monkeypatch.setattr(text_states, "MAX_TOKENS", 20)
    reader = TextStates(llm)
    ids = llm.tokenizer.encode(TEXTS[3])[:20]
    state = reader.encode([TEXTS[3]])[0]
    assert reader.tokens_read == 20 and np.isfinite(state).all()
    parts = [llm.tokenizer.decode(ids[i : i + 8]) for i in (0, 8, 16)]
    sums = [TextStates(llm).encode([part])[0] * len(llm.tokenizer.encode(part)) for part in parts]
    if [len(llm.tokenizer.encode(part)) for part in parts] == [8, 8, 4]:
        np.testing.assert_allclose(state, np.sum(sums, axis=0) / 20, atol=1e-4)
    asked = TextStates(llm, ENDING)
    asked.encode([TEXTS[3]])
    assert asked.tokens_read == 20
