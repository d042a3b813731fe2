"""The windows of attention are read from each way in which a config states them."""

import pytest
from support.families import FAMILIES

from st2llm.errors import ConfigError
from st2llm.llm.architecture.windows import sliding_window_of, window_of


@pytest.mark.parametrize(
    ("name", "windows"),
    [("llama", [None, None]), ("mistral", [8, 8]), ("gemma-3", [8, None]), ("qwen-2", [None, None])],
)
def test_each_layer_has_the_window_of_its_config(name, windows):
    config = FAMILIES[name].config(64)
    assert [window_of(config, layer) for layer in range(2)] == windows
    assert sliding_window_of(config) == windows[0]


def test_layers_that_take_no_mask_are_named():
    with pytest.raises(
        ConfigError, match="llama4_text takes no mask .* layer 0 is of the type chunked_attention"
    ):
        sliding_window_of(FAMILIES["llama-4"].config(64))
