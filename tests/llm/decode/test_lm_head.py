"""Tokens are drawn as their probabilities say, among those allowed."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from st2llm.llm import load_llm
from st2llm.llm.decode.lm_head import LMHead
from st2llm.types import Decoding


@dataclass(frozen=True, eq=False)
class Open:
    """A place of an answer that allows some tokens, or (None) all."""

    allowed: np.ndarray | None
    ended: bool = False
    stopped: bool = False
    truncated: bool = False

    def advance(self, token):
        raise AssertionError("a head only asks what may follow")


SOME, ALL = Open(np.array([3, 5, 8, 13], dtype=np.int64)), Open(None)


@pytest.fixture(scope="module")
def model(tiny):
    return load_llm(tiny(), dtype="fp32").model


def shares(model, state, hidden):
    logits = LMHead(model).full_logits(hidden[None])[0].double()
    allowed = torch.arange(len(logits)) if state.allowed is None else torch.from_numpy(state.allowed)
    return allowed.numpy(), logits[allowed]


@pytest.mark.parametrize("state", [SOME, ALL])
@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (2.0, 0.6)])
@torch.inference_mode()
def test_evenly_spread_chances_draw_each_token_by_its_share(model, state, temperature, top_p):
    hidden = torch.randn(model.config.hidden_size, generator=torch.Generator().manual_seed(1))
    allowed, logits = shares(model, state, hidden)
    share = (logits / temperature).softmax(-1).numpy()
    order = np.argsort(-share)
    inside = order[: int(np.searchsorted(share[order].cumsum(), top_p) + 1)]
    wanted = np.zeros_like(share)
    wanted[inside] = share[inside] / share[inside].sum()
    rows = 4000
    chance = ((np.arange(rows) + 0.5) / rows).tolist()
    decoding = Decoding(temperature=temperature, top_p=top_p)
    tokens, logprobs = LMHead(model).choose(hidden.expand(rows, -1), [state] * rows, chance, decoding)
    found = np.array([(np.array(tokens) == token).mean() for token in allowed])
    np.testing.assert_allclose(found, wanted, atol=1.5 / rows)
    plain = logits.log_softmax(-1).numpy()
    at = np.searchsorted(allowed, np.array(tokens))
    np.testing.assert_allclose(logprobs, plain[at], atol=1e-4)


@torch.inference_mode()
def test_a_row_that_may_say_anything_does_not_widen_what_its_neighbour_may_say(model):
    hidden = torch.randn(2, model.config.hidden_size)
    logprobs, columns = LMHead(model).allowed_logprobs(hidden, [SOME, ALL])
    assert columns is None
    assert torch.isfinite(logprobs[0]).nonzero().flatten().tolist() == SOME.allowed.tolist()
    assert torch.isfinite(logprobs[1]).all()
    alone, columns = LMHead(model).allowed_logprobs(hidden[:1], [SOME])
    torch.testing.assert_close(alone[0], logprobs[0][torch.from_numpy(columns)], atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_a_chance_near_one_never_leaves_the_allowed(model):
    hidden = torch.randn(1, model.config.hidden_size)
    tokens, _ = LMHead(model).choose(hidden, [SOME], [1 - 1e-16], Decoding(temperature=1.0, top_p=0.3))
    assert tokens[0] in SOME.allowed
