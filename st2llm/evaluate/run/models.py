"""The language models of a suite: each loaded once for each depth, and told apart in its records."""

from collections.abc import Sequence
from typing import Any

from st2llm import llm as language
from st2llm.config.model import LLMSettings
from st2llm.config.predictors import PredictorSettings
from st2llm.config.suite import Suite
from st2llm.errors import ConfigError
from st2llm.evaluate.run.cost import count_parameters
from st2llm.llm.endpoint.client import PREFIX, RemoteModel
from st2llm.llm.local import LanguageModel, require_local


class Models:
    """Loads what predictors of a suite read with. Raises ConfigError where weights are wanted of an endpoint."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self._known: dict[tuple[bool, int | None], LanguageModel | RemoteModel] = {}
        if suite.llm is None or not suite.llm.name.startswith(PREFIX):
            return
        for p in suite.predictors:
            if p.family == "soft" or p.backbone in ("matched", "llm-random"):
                raise ConfigError(
                    f"{suite.id}: the predictor {p.name!r} needs a language model's weights, but {suite.llm.name} "
                    f"answers from elsewhere. Take a model on this machine, or leave this predictor out."
                )

    @property
    def settings(self) -> LLMSettings:
        """The suite's. Raises ConfigError where it has none."""
        if self.suite.llm is None:
            raise ConfigError(f"{self.suite.id} needs `llm: {{name: ...}}`.")
        return self.suite.llm

    def of(self, predictor: PredictorSettings | None = None) -> LanguageModel | RemoteModel:
        """The model of a predictor (of None the suite's own), whose weights nobody changes."""
        random = predictor is not None and predictor.backbone == "llm-random"
        return self._once(random, predictor)

    def named(self, predictor: PredictorSettings) -> LanguageModel | RemoteModel:
        """The same with the weights that it comes with, whatever the predictor puts in their place."""
        return self._once(False, predictor)

    def _once(self, random: bool, predictor: PredictorSettings | None) -> LanguageModel | RemoteModel:
        key = (random, predictor.set.depth if predictor else None)
        if key not in self._known:
            self._known[key] = self._load(*key, self.suite.seeds[0])
        return self._known[key]

    def fresh(self, predictor: PredictorSettings, seed: int) -> LanguageModel:
        """Weights for one arm alone: random ones of this seed, or such as adapters will be put into."""
        return require_local(self._load(predictor.backbone == "llm-random", predictor.set.depth, seed))

    def describe(self) -> dict[str, Any] | None:
        """The suite's own, or None where it has none."""
        return None if self.suite.llm is None else describe(self.of())

    def count(self, texts: Sequence[str]) -> int:
        """How many tokens these are together."""
        if not texts:
            return 0
        tokenizer = require_local(self.of()).tokenizer
        known = {text: len(tokenizer.encode(text)) for text in set(texts)}
        return sum(known[text] for text in texts)

    def _load(self, random: bool, depth: int | None, seed: int) -> LanguageModel | RemoteModel:
        s = self.settings
        name = f"random:{s.name}" if random else s.name
        return language.load_llm(name, depth=depth or s.depth, dtype=s.dtype, quant=s.quant, seed=seed)


def describe(model: LanguageModel | RemoteModel) -> dict[str, Any]:
    """Which model it is: name, layers kept, dtype, hash of the weights, parameters; of an endpoint the name alone."""
    if isinstance(model, RemoteModel):
        unknown = ("depth", "depth_full", "dtype", "quant", "sha256", "params")
        return {"name": model.name, **dict.fromkeys(unknown)}
    return {
        "name": model.name,
        "depth": model.depth,
        "depth_full": model.depth_full,
        "dtype": str(model.dtype).removeprefix("torch."),
        "quant": model.quant,
        "sha256": model.sha256,
        "params": count_parameters(model.model)[0],
    }
