"""The engine refuses a model that it would read otherwise than transformers does."""

import pytest
import torch

from st2llm.errors import ConfigError
from st2llm.llm import load_llm
from st2llm.llm.decode.engine import Engine


def test_a_short_text_that_changes_beside_a_long_one_is_seen(tiny):
    model = load_llm(tiny(), dtype="fp32").model
    rotary = model.model.rotary_emb
    plain = rotary.forward

    def stretched(x, position_ids):
        scale = 1.0 if int(position_ids.max()) < 100 else 0.5
        return plain(x, (position_ids * scale).to(torch.float32))

    Engine(model, native_bf16=False)
    rotary.forward = stretched
    with pytest.raises(ConfigError, match="its logits are off by"):
        Engine(model, native_bf16=False)


def test_a_window_that_a_layer_does_not_pass_on_is_seen(tiny):
    model = load_llm(tiny(), dtype="fp32").model
    model.config.sliding_window = 64
    with pytest.raises(ConfigError, match="layer 0 should have a window of 64, not None"):
        Engine(model, native_bf16=False)
    model.config.sliding_window = 512  # longer than the context: no difference
    Engine(model, native_bf16=False)


def test_a_small_scale_of_logits_does_not_hide_a_difference(tiny):
    model = load_llm(tiny(), dtype="fp32").model
    head = model.get_output_embeddings()
    head.weight.data *= 1e-3
    Engine(model, native_bf16=False)
    model.config.logits_scaling = 1.01
    with pytest.raises(ConfigError, match="its logits are off by"):
        Engine(model, native_bf16=False)
