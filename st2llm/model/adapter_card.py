"""What the README of a checkpoint says about its adapter, and the README of a merged model."""

import re
from collections.abc import Mapping
from typing import Any

from st2llm.llm.local import DTYPES, LanguageModel

_SECTION = "## The adapter in peft"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def adapter_section(llm: LanguageModel) -> str:
    """How peft opens the adapter of a checkpoint on its base model, with as many layers as it was trained on."""
    base = f"`{llm.source}`" + (f" at revision `{llm.revision}`" if llm.revision else "")
    about = f"`adapter/` is a peft adapter of {base}."
    truncated = llm.depth < llm.depth_full
    if truncated:
        about += f" It was trained on the first {llm.depth} of {llm.depth_full} layers, and is of no use on the others."
    if not llm.pretrained or (truncated and _has_settings_of_layers(llm)):
        code = [
            "import st2llm",
            "from peft import PeftModel",
            f'llm = st2llm.load_llm("{llm.name}", depth={llm.depth}, dtype="{_dtype(llm)}")',
            'model = PeftModel.from_pretrained(llm.model, "FOLDER/adapter")',
        ]
    else:
        depth = f", num_hidden_layers={llm.depth}" if truncated else ""
        code = [
            "from peft import AutoPeftModelForCausalLM",
            f'model = AutoPeftModelForCausalLM.from_pretrained("FOLDER/adapter"{depth})',
        ]
    moved = (
        ""
        if llm.revision or not llm.pretrained
        else (
            f"\nThat folder is where st2llm keeps `{llm.name}`. On another machine, write the folder there into "
            f"`base_model_name_or_path` of adapter_config.json.\n"
        )
    )
    return "\n".join(["", _SECTION, "", about, "", "```python", *code, "```", moved])


def _dtype(llm: LanguageModel) -> str:
    """The dtype as `load_llm` takes it."""
    return next((name for name, dtype in DTYPES.items() if dtype == llm.dtype), "auto")


def _has_settings_of_layers(llm: LanguageModel) -> bool:
    """Whether the model's config has a list with an entry for each layer, which must be cut with the layers."""
    config = llm.model.config.get_text_config()
    lists = (
        value for name, value in vars(config).items() if "layer" in name and isinstance(value, list | tuple)
    )
    return any(len(value) == llm.depth for value in lists) or bool(
        getattr(config, "num_kv_shared_layers", None)
    )


def merged_card(card: str, base: Mapping[str, Any], *, has_encoder: bool) -> str:
    """The README of a merged model, from that of its checkpoint.

    card: the README of the checkpoint. base: the content of its base.json. has_encoder: whether the checkpoint also
    holds an encoder, which the merged model lacks.
    """
    body = card.partition("\n---\n")[2] if card.startswith("---\n") else card
    body = body.partition(_SECTION)[0].strip()
    title, _, facts = body.partition("\n")
    head = ["---", "library_name: transformers", "pipeline_tag: text-generation"]
    head += (
        [f"base_model: {base['id']}"] if base.get("revision") and _HUB_ID.fullmatch(str(base["id"])) else []
    )
    depth, full = base.get("depth"), base.get("depth_full")
    layers = f"the first {depth} of {full} layers" if depth != full else f"all {full} layers"
    about = (
        f"A plain transformers model: {layers} of {base['id']} with the trained weights merged into them, in fp32. "
        f"There is no adapter in this folder, and peft is not needed."
    )
    if has_encoder:
        about += (
            " The encoder and the heads of the soft tokens are not in it: predict with the checkpoint itself."
        )
    code = [
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        'model = AutoModelForCausalLM.from_pretrained("FOLDER")',
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
        "```",
    ]
    trained = ["## How it was trained", facts.strip()]
    return "\n".join([*head, "---", title or "# Merged model", "", about, "", *code, "", *trained, ""])
