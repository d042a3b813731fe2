"""The part of a causal language model below its output head."""

from pathlib import Path

from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from st2llm.errors import ConfigError

_CONTEXT_KEYS = ("max_position_embeddings", "max_seq_len", "n_positions", "n_ctx", "context_length")


def base_of(model: PreTrainedModel) -> PreTrainedModel:
    """The layers that map tokens to hidden states; the model itself where it has no head."""
    return model.get_submodule(prefix) if (prefix := base_prefix(model)) else model  # type: ignore[return-value]


def base_prefix(model: PreTrainedModel) -> str:
    """The attribute of a causal model that holds its base model (`model`, `transformer`); empty for a base model.

    Raises ConfigError for a model that keeps its layers elsewhere.
    """
    if hasattr(model, model.base_model_prefix):
        return str(model.base_model_prefix)
    if model.get_output_embeddings() is None:
        return ""
    names = [str(name) for name, child in model.named_children() if isinstance(child, PreTrainedModel)]
    if len(names) != 1:
        raise ConfigError(
            f"{type(model).__name__} cannot be used: it should hold one base model beside its head, but it holds "
            f"{names or 'none'}. Choose a llama, qwen, gemma, gpt2 or alike."
        )
    return names[0]


def read_text_config(folder: Path) -> PreTrainedConfig:
    """The config of the language model in a folder, of a multimodal one that of its text part."""
    config: PreTrainedConfig = AutoConfig.from_pretrained(folder, local_files_only=True)
    return config.get_text_config()


def context_length(config: PreTrainedConfig) -> int | None:
    """The most tokens of a text that the model can read; None where it has no limit.

    Rotary frequencies of the type `dynamic` extend it by their factor.
    """
    limit = next(
        (value for key in _CONTEXT_KEYS if isinstance(value := getattr(config, key, None), int)), None
    )
    rope = getattr(config, "rope_parameters", None) or {}
    return int(limit * rope["factor"]) if limit and rope.get("rope_type") == "dynamic" else limit


def check_context(model: PreTrainedModel, tokens: int) -> None:
    """Raises ConfigError where a prompt with its soft tokens or its answer is longer than the model's context."""
    context = context_length(model.config.get_text_config())
    if context is not None and tokens > context:
        raise ConfigError(
            f"A prompt with its soft tokens or its answer has {tokens} tokens, but the context of "
            f"{type(model).__name__} holds {context}. Shorten the history, the instruction or the answer."
        )
