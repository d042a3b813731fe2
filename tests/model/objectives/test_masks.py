"""Masks hide what their policy says, about as much as the ratio says, and never everything."""

import numpy as np
import pytest
import torch

from st2llm.errors import ConfigError
from st2llm.model.objectives.masks import POLICIES, draw_mask
from st2llm.types import NO_EDGES, Edges

PATH = Edges(np.arange(9), np.arange(1, 10), np.ones(9))
"""Ten places in a row."""


def drawn(policy, ratio=0.4, *, shape=(64, 20, 10), seed=0):
    return draw_mask(policy, ratio, shape, PATH, torch.Generator().manual_seed(seed))[..., 0]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
def test_about_the_ratio_is_hidden(policy, ratio):
    mask = drawn(policy, ratio)
    assert mask.shape == (64, 20, 10)
    assert float(mask.float().mean()) == pytest.approx(ratio, abs=0.06)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("ratio", [0.001, 0.999])
def test_something_is_hidden_and_something_left_in_every_window(policy, ratio):
    flat = drawn(policy, ratio).flatten(1)
    assert flat.any(dim=1).all()
    assert not flat.all(dim=1).any()


@pytest.mark.parametrize("policy", [p for p in POLICIES if p != "future"])
def test_the_generator_alone_decides(policy):
    assert torch.equal(drawn(policy), drawn(policy))
    assert not torch.equal(drawn(policy), drawn(policy, seed=1))
    assert len({tuple(row.flatten().tolist()) for row in drawn(policy)}) > 5


def test_a_tube_is_a_place_through_all_steps():
    mask = drawn("tube")
    assert torch.equal(mask.any(dim=1), mask.all(dim=1))
    assert set(mask[:, 0].sum(dim=1).tolist()) == {4}


def test_a_span_is_a_run_of_steps_at_all_places():
    mask = drawn("span")
    assert torch.equal(mask.any(dim=2), mask.all(dim=2))
    at = mask[:, :, 0].float()
    assert set(at.sum(dim=1).tolist()) == {8.0}
    assert (at.diff(dim=1).abs().sum(dim=1) <= 2).all()


def test_the_future_is_the_last_steps_of_every_window():
    mask = drawn("future")
    assert mask[:, 12:].all()
    assert not mask[:, :12].any()


def test_a_cluster_is_a_run_of_neighbours():
    mask = drawn("cluster")
    assert torch.equal(mask.any(dim=1), mask.all(dim=1))
    at = mask[:, 0].float()
    assert set(at.sum(dim=1).tolist()) == {4.0}
    assert (at.diff(dim=1).abs().sum(dim=1) <= 2).all()


def test_a_block_is_near_places_over_a_run_of_steps():
    mask = drawn("block", 0.36)
    steps, places = mask.any(dim=2), mask.any(dim=1)
    assert torch.equal(mask, steps[:, :, None] & places[:, None])
    assert (places.float().diff(dim=1).abs().sum(dim=1) <= 2).all()


def test_places_without_edges_are_a_cluster_of_whatever_comes():
    mask = draw_mask("cluster", 0.5, (8, 4, 6), NO_EDGES, torch.Generator().manual_seed(0))
    assert set(mask[:, 0, :, 0].sum(dim=1).tolist()) == {3}


def test_a_wrong_policy_or_ratio_is_refused():
    with pytest.raises(ConfigError, match="no mask policy 'tubes'. .*'tube'"):
        drawn("tubes")
    with pytest.raises(ConfigError, match="between 0 and 1, but it is 1"):
        drawn("tube", 1.0)
