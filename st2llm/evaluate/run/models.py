"""The language models of a suite: each is loaded once per depth and described in the records."""

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
    """Loads the language models of a suite's predictors.

    Raises ConfigError where a predictor needs the weights of a model behind an endpoint.
    """

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self._known: dict[tuple[bool, int | None], LanguageModel | RemoteModel] = {}
        if suite.llm is None or not suite.llm.name.startswith(PREFIX):
            return
        for p in suite.predictors:
            if p.family == "soft" or p.backbone in ("matched", "llm-random"):
                raise ConfigError(
                    f"{suite.id}: the predictor {p.name!r} needs a language model's weights, but {suite.llm.name} "
                    f"is behind an endpoint. Use a local model, or leave this predictor out."
                )

    @property
    def settings(self) -> LLMSettings:
        """The settings of the suite's model. Raises ConfigError where it has none."""
        if self.suite.llm is None:
            raise ConfigError(f"{self.suite.id} needs `llm: {{name: ...}}`.")
        return self.suite.llm

    def of(self, predictor: PredictorSettings | None = None) -> LanguageModel | RemoteModel:
        """The shared, unmodified model of a predictor, or of the suite where None."""
        random = predictor is not None and predictor.backbone == "llm-random"
        return self._once(random, predictor)

    def named(self, predictor: PredictorSettings) -> LanguageModel | RemoteModel:
        """The same with its pretrained weights, also for predictors that use random ones."""
        return self._once(False, predictor)

    def _once(self, random: bool, predictor: PredictorSettings | None) -> LanguageModel | RemoteModel:
        key = (random, predictor.set.depth if predictor else None)
        if key not in self._known:
            self._known[key] = self._load(*key, self.suite.seeds[0])
        return self._known[key]

    def drawn(self, predictor: PredictorSettings, seed: int) -> LanguageModel:
        """The unmodified model of a predictor whose weights are read here, random ones as drawn by this seed."""
        if predictor.backbone == "llm-random":
            return self.fresh(predictor, seed)
        return require_local(self.of(predictor))

    def fresh(self, predictor: PredictorSettings, seed: int) -> LanguageModel:
        """A model of its own for one arm: with random weights of this seed, or to put adapters into."""
        return require_local(self._load(predictor.backbone == "llm-random", predictor.set.depth, seed))

    def describe(self) -> dict[str, Any] | None:
        """The description of the suite's model, or None where it has none."""
        return None if self.suite.llm is None else describe(self.of())

    def count(self, texts: Sequence[str]) -> int:
        """The total number of tokens of these texts."""
        if not texts:
            return 0
        tokenizer = require_local(self.of()).tokenizer
        counts = {text: len(tokenizer.encode(text)) for text in set(texts)}
        return sum(counts[text] for text in texts)

    def _load(self, random: bool, depth: int | None, seed: int) -> LanguageModel | RemoteModel:
        s = self.settings
        name = f"random:{s.name}" if random else s.name
        return language.load_llm(name, depth=depth or s.depth, dtype=s.dtype, quant=s.quant, seed=seed)


def describe(model: LanguageModel | RemoteModel) -> dict[str, Any]:
    """Name, depth, dtype, quantisation, hash and number of parameters; for an endpoint only the name is known."""
    if isinstance(model, RemoteModel):
        unknown = ("depth", "depth_full", "dtype", "quant", "sha256", "config_sha256", "params")
        return {"name": model.name, **dict.fromkeys(unknown)}
    return {
        "name": model.name,
        "depth": model.depth,
        "depth_full": model.depth_full,
        "dtype": str(model.dtype).removeprefix("torch."),
        "quant": model.quant,
        "sha256": model.sha256,
        "config_sha256": model.config_sha256,
        "params": count_parameters(model.model)[0],
    }
