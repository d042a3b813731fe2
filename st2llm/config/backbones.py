"""The backbones by name, for checks before torch is loaded."""

BACKBONES = ("none", "attention", "dense", "experts", "matched", "llm-random", "llm-frozen", "llm-lora")
LLM_BACKBONES = ("llm-random", "llm-frozen", "llm-lora")
