"""The packaged models that are on this machine: the engine reads them as transformers does."""

import pytest
import torch

from st2llm.llm import load_llm
from st2llm.llm.decode.engine import Engine
from st2llm.llm.gguf.packaged import PACKAGED_MODELS
from st2llm.llm.model_files import is_packaged_here
from st2llm.types import Decoding, Numbers

WINDOW = 512
"""The tokens that most layers of Gemma 3 attend to."""


@pytest.mark.slow
def test_gemma_is_read_as_by_transformers_beyond_its_window_and_answers_under_a_grammar(prompt):
    if not is_packaged_here("gemma-3-270m"):
        pytest.skip(
            "gemma-3-270m is not in the cache, or its terms are not accepted: st2llm data fetch gemma-3-270m"
        )
    llm = load_llm("gemma-3-270m", dtype="fp32", depth=7)  # the sixth layer is the first that attends to all
    assert isinstance(llm.engine, Engine)
    ids = llm.tokenizer.encode("Counts at Queen Street: " + ", ".join(str(i * 37 % 200) for i in range(150)))
    assert len(ids) > WINDOW
    with torch.inference_mode():
        expected = llm.model(input_ids=torch.tensor([ids]), logits_to_keep=8).logits[0]
        states, _ = llm.engine.hidden_states([ids, ids[:30]])
        got = llm.engine.head.full_logits(states[-8:])
    assert (got - expected).abs().max() < 1e-3 * (expected.max() - expected.min())
    assert llm.token_rms == pytest.approx(float(llm.embed("12, 13, 14").square().mean().sqrt()), rel=0.2)
    (answer,) = llm.complete([prompt("12, 13, 14,", Numbers(2, 2))], Decoding())
    assert len([int(part) for part in answer.text.split(",")]) == 2
    assert PACKAGED_MODELS["gemma-3-270m"].terms is not None
    assert llm.tokenizer.chat_template is None
