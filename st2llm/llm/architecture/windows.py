"""The windows of a model's attention, by its config."""

from transformers import PreTrainedConfig

from st2llm.errors import ConfigError

FULL, SLIDING = "full_attention", "sliding_attention"
"""The types of layers that attend to all tokens, and to the last `sliding_window`."""


def window_of(config: PreTrainedConfig, layer: int) -> int | None:
    """The window of a layer's attention; None for all tokens. Raises ValueError for layers of other types."""
    window: int | None = getattr(config, "sliding_window", None)
    types = getattr(config, "layer_types", None)
    if types is None:
        return window if getattr(config, "use_sliding_window", True) else None
    if types[layer] not in (FULL, SLIDING):
        raise ValueError(f"layer {layer} is of the type {types[layer]}")
    return window if types[layer] == SLIDING else None


def sliding_window_of(config: PreTrainedConfig) -> int | None:
    """The window of the layers that have one; None where all layers attend to everything.

    Raises ConfigError for layers of other types, for which no mask can be given.
    """
    try:
        windows = [window_of(config, layer) for layer in range(config.num_hidden_layers)]
    except ValueError as error:
        raise ConfigError(
            f"A {config.model_type} takes no mask of which tokens attend to each other: {error}. Set packing: false "
            f"and attention_mask: causal, or choose a model with full or sliding attention."
        ) from error
    return next((window for window in windows if window is not None), None)
