"""Classes of arms that comparisons of different data share: rules, ridge regressions, native models, LLMs."""

from collections.abc import Mapping
from typing import Any

from st2llm.evaluate.run_folder.record import Record

_FITTED = ("ridge", "logistic", "etas", "nearest-", "neighbours", "inverse-distance")
"""How names of baselines begin that are fitted beyond a mean, a count or a repetition."""
_BY_BACKBONE = {
    "none": "native",
    "attention": "attention",
    "matched": "matched",
    "llm-random": "random LLM",
    "llm-frozen": "frozen LLM",
    "llm-lora": "tuned LLM",
}
CLASSES: Mapping[str, str] = {
    "rule": "repeats, counts or averages what was seen",
    "ridge": "ridge regression in closed form",
    "ridge on texts": "ridge regression from words or sentence embeddings of texts to what a rule leaves over",
    "other fit": "another baseline that is fitted: nearest windows, neighbours, logistic regression, ETAS",
    "native": "the encoder and its head, without a language model",
    "attention": "the same with one attention block",
    "matched": "the same with a transformer of as many trained parameters as the tuned LLM",
    "other native": "another model that is trained without a language model",
    "random LLM": "the LLM's architecture with random weights",
    "frozen LLM": "soft tokens into a frozen LLM",
    "LLM on texts": "ridge regression from an LLM's states of texts to what a rule leaves over",
    "tuned LLM": "soft tokens into an LLM with LoRA adapters",
    "text": "a prompt with numbers as text",
    "control": "an arm that reads shuffled documents",
}
"""What each class holds, in the order of tables."""
CONTROL = "control"
NULL_CLASS = "rule"
"""The class that the best rule is chosen from."""


def arm_class(record: Record, settings: Mapping[str, Any]) -> str:
    """The class of the arm of a record, a key of CLASSES. settings: `set` of the predictor in its suite."""
    if settings.get("documents") == "shuffled":
        return CONTROL
    if record.text_features:
        if record.backbone is None:
            return "ridge on texts"
        return "random LLM" if record.backbone == "llm-random" else "LLM on texts"
    if record.family == "text":
        return "text"
    if record.family == "baseline":
        if record.predictor.startswith("ridge"):
            return "ridge"
        return "other fit" if record.predictor.startswith(_FITTED) else NULL_CLASS
    return _BY_BACKBONE.get(record.backbone or "", "other native")
