"""Arms of equal settings but one: random weights in place of pretrained ones, or no texts."""

from typing import Any

from st2llm.evaluate.scoring.arms import FinishedArms


def random_twin(arms: FinishedArms, name: str) -> str | None:
    """The arm with a random-weights LLM whose other recorded settings are all equal; None where the suite has none."""
    settings = _twin_settings(arms, name)
    for other in arms.predictors:
        random = arms.of(other)[0]["backbone"] == "llm-random" and other != name
        if random and _twin_settings(arms, other) == settings:
            return other
    return None


_TWIN_KEYS = (
    "family",
    "lora",
    "llm",
    "template",
    "examples",
    "budget",
    "answer_set",
    "text_features",
    "newest_documents",
    "relevant_documents",
    "ending",
    "residual_of",
)


def _twin_settings(arms: FinishedArms, name: str) -> dict[str, Any]:
    """What an arm and its twin share: name, depth, dtype and quantisation of the LLM, adapters, prompt and decoding.

    A checkpoint is the twin of no arm that is trained here.
    """
    result = arms.of(name)[0]
    decoding = {key: value for key, value in (result.get("decoding") or {}).items() if key != "seed"}
    shared = {key: result.get(key) for key in _TWIN_KEYS}
    shared["documents"] = result.get("documents") or "visible"
    return {**shared, "decoding": decoding, "checkpoint": arms.suite.predictor(name).checkpoint}


def twin_without_texts(arms: FinishedArms, name: str) -> str | None:
    """What predicts as this predictor does, but without texts: the rule that text features correct, or the arm of equal
    settings with `documents: none`; None where the suite has none, and for that arm itself.
    """
    first = arms.of(name)[0]
    if first.get("text_features") is not None:
        return first.get("residual_of")
    settings = _settings_without_texts(arms, name)
    for other in arms.predictors:
        if (
            other != name
            and arms.of(other)[0].get("documents") == "none"
            and _settings_without_texts(arms, other) == settings
        ):
            return other
    return None


def _settings_without_texts(arms: FinishedArms, name: str) -> dict[str, Any]:
    texts = ("documents", "newest_documents", "relevant_documents")
    settings = {key: value for key, value in _twin_settings(arms, name).items() if key not in texts}
    return {**settings, "backbone": arms.of(name)[0]["backbone"]}
