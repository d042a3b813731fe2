"""The layers below the head and the length of the context are found in every family."""

import pytest
import torch
from support.families import FAMILIES
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedModel

from st2llm.llm.architecture.base_model import base_of, base_prefix, context_length


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("llama", "model"), ("gpt-2", "transformer"), ("gpt-neox", "gpt_neox"), ("llama-4", "model")],
)
def test_the_base_model_is_what_returns_hidden_states(name, prefix):
    config = FAMILIES[name].config(64)
    model = AutoModelForCausalLM.from_config(config)
    assert base_prefix(model) == prefix
    base: PreTrainedModel = base_of(model)
    with torch.no_grad():
        assert base(input_ids=torch.tensor([[5, 6]])).last_hidden_state.shape == (1, 2, 32)
    alone = AutoModel.from_config(config)
    assert base_of(alone) is alone


@pytest.mark.parametrize(
    ("name", "context"),
    [("llama", 256), ("gpt-2", 256), ("mpt", 256), ("rwkv", 256), ("bloom", None), ("llama-dynamic", 128)],
)
def test_the_context_is_found_by_each_of_its_names(name, context):
    assert context_length(FAMILIES[name].config(64)) == context
