"""Settings of a suite's predictors, budget, windows, bootstrap, controls and faults."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from st2llm.config import Settings
from st2llm.config.catalog import EXTERNAL_MODELS, RULES
from st2llm.config.model import (
    BACKBONES,
    LLM_BACKBONES,
    PRETRAINED_BACKBONES,
    Adaptation,
    EncoderSettings,
)
from st2llm.config.objectives import TrainedByObjectives
from st2llm.config.training import NAME_PATTERN, Budget, WarmupSettings
from st2llm.errors import nearest

TEXT_BACKBONES = ("llm-frozen", "llm-random")
TEXT_VALIDATION_WINDOWS = 20
"""Validation windows that a text predictor answers at most, where its suite sets no number."""

_TEXT_SETTINGS = (
    "draws",
    "temperature",
    "top_p",
    "examples",
    "prompt_budget",
    "answer",
    "validation_windows",
)
_TEXT_FEATURE_SETTINGS = ("ending", "residual_of")
_DOCUMENT_SETTINGS = ("documents", "newest_documents", "relevant_documents")


class SuiteEncoderSettings(EncoderSettings):
    """The encoder of a suite. warmup: trains it alone before the predictors are trained."""

    warmup: WarmupSettings | None = None


class SuiteAdaptation(Adaptation):
    """Which weights of the language model the backbone `llm-lora` and its twins train; by default adapters."""

    method: Literal["frozen", "lora", "norms", "partial", "full"] = "lora"


class ExampleSettings(Settings):
    """Few-shot examples of a text prompt. select: training samples at random, the latest, or the most similar."""

    renamed_keys: ClassVar[Mapping[str, str]] = {"by": "select"}

    select: Literal["random", "recent", "shape"] = "random"
    count: int = Field(2, ge=1, le=32, description="number of examples")


class PredictorOverrides(TrainedByObjectives):
    """Settings of one predictor that differ from those of its suite."""

    renamed_keys: ClassVar[Mapping[str, str]] = {"budget": "prompt_budget", "lora": "train_adapters"}

    depth: int | None = None
    """Number of leading layers of the language model to keep, in place of the suite's `llm.depth`."""
    windows: int | None = None
    """Number of evenly spaced test windows; comparisons with this predictor use these windows alone."""
    validation_windows: int | None = Field(None, ge=0)
    """Number of evenly spaced validation windows that a text predictor answers; by default as many as its test windows,
    at most TEXT_VALIDATION_WINDOWS. A predictor without any has no validation score, so no verdict is about it."""
    train_adapters: bool = False
    """Trains adapters in `llm-random` as well, which makes it the twin of `llm-lora` without pretrained weights."""
    adapt_online: Literal["instance-norm", "last-days"] | None = None
    """Adapts a predictor of graphs and grids at test time: by level and spread of each window's visible values, or by a
    linear map that is fitted to its errors of the last `adapt_days` days."""
    adapt_days: float = Field(
        7.0, gt=0, description="days before a window whose errors `last-days` is fitted to"
    )
    penalty: float = 1e-3
    """Ridge penalty as a multiple of the number of rows."""
    draws: int = Field(1, ge=1)
    """Sampled answers of a text predictor at each place; the median of the readable ones is the prediction."""
    temperature: float = Field(0.0, ge=0)
    """0 takes the most probable token at each step."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus sampling of a text predictor: the probability mass of the most probable tokens that it samples from."""
    examples: ExampleSettings | None = None
    prompt_budget: int | None = Field(None, ge=16)
    """Tokens of a text predictor's prompt at most; what is left out to keep the limit is recorded with the answer."""
    documents: Literal["visible", "shuffled", "none"] = "visible"
    """Of a predictor that reads texts: which documents a window shows, its own, those of another one, or none."""
    newest_documents: int | None = Field(None, ge=1)
    """The number of newest documents of a place that it reads; None reads all."""
    relevant_documents: int | None = Field(None, ge=1)
    """The number of documents that it reads, those most similar to the window's question or description; None reads
    all."""
    ending: str | None = Field(None, min_length=1)
    """Of the text features `states`: words behind each text, such as a question; the features are then the state of
    the last token (PromptEOL, Jiang et al. 2024), in place of the mean over the text's tokens."""
    residual_of: str | None = None
    """Of a predictor with `text_features`: the rule whose residuals they predict; by default `ridge`, of marks
    `logistic`, which is fitted with the texts, else the rule that replaces unreadable answers."""
    answer: dict[str, Any] | None = None
    """Settings of the answer that replace those of the template's head, such as {strategy: deltas, digits: 4}."""


class PredictorSettings(Settings):
    """One predictor of a suite: a baseline, a native or soft model that is trained here, a prompted language model, or
    a predictor that is not trained here (file, checkpoint, model).

    name: in records; of a baseline, which one. family: baseline, primitive (a native model, without a language model),
    soft (a language model that reads soft tokens) or text (one that reads and writes text). backbone: of soft and
    primitive predictors, the part between encoder and head; of text predictors, which weights. template: of a text
    predictor, the prompt. text_features: features of a window's texts, from which a ridge regression predicts what the
    rule `set.residual_of` leaves over, or a logistic regression the mark of an event: weighted words (tfidf) or
    sentence embeddings (minilm) of a primitive predictor without a backbone, or the mean states of a language model
    (states) of a soft one. set: settings that differ from those of the suite.
    """

    renamed_keys: ClassVar[Mapping[str, str]] = {"given": "custom"}

    name: str = Field(pattern=NAME_PATTERN)
    family: Literal["text", "soft", "primitive", "baseline"]
    backbone: str | None = None
    template: str | None = None
    file: str | None = None
    """A file of predictions in the layout of a run's `predictions/*.parquet` (or csv)."""
    checkpoint: str | None = None
    """A folder that `st2llm pretrain`, `align` or `finetune` wrote; its best state predicts. Of a text predictor: the
    instruction-tuned language model that is prompted."""
    rule: str | None = None
    """Of a baseline, the rule, where its name is another one, such as `ridge` of `ridge-adapted`."""
    custom: bool = False
    """Whether it is a Python object that was passed to `compare`."""
    text_features: Literal["tfidf", "minilm", "states"] | None = None
    model: str | None = None
    """A pretrained external model, zero-shot (fracast-0, chronos:FOLDER), or a predictor that a package adds."""
    set: PredictorOverrides = PredictorOverrides()

    @model_validator(mode="after")
    def _check_source_and_backbone(self) -> "PredictorSettings":
        choices: dict[str, tuple[str, ...]] = {
            "text": TEXT_BACKBONES,
            "soft": LLM_BACKBONES,
            "primitive": tuple(b for b in BACKBONES if b not in LLM_BACKBONES),
        }
        if self.model is not None:
            model, _, weights = self.model.partition(":")
            if model not in EXTERNAL_MODELS:
                raise ValueError(f"there is no model {self.model!r}. {nearest(model, EXTERNAL_MODELS)}")
            if EXTERNAL_MODELS[model].needs_weights != bool(weights):
                expected = f"{model}:<hub id or folder>" if EXTERNAL_MODELS[model].needs_weights else model
                raise ValueError(f"{self.name!r} has the model {self.model!r}, which is written {expected}")
        if self.checkpoint is not None and self.family in ("soft", "text"):
            known = {"text": ("llm-lora",), "soft": PRETRAINED_BACKBONES}[self.family]
            if self.backbone not in known or bool(self.template) != (self.family == "text"):
                raise ValueError(
                    f"{self.name!r} is a checkpoint behind a language model: a soft one has the backbone llm-frozen or "
                    f"llm-lora and no template, a text one (tuned on instructions) llm-lora and a template"
                )
        elif self.text_features is not None:
            self._check_text_features()
        elif self.external:
            if self.family not in ("primitive", "baseline") or self.backbone or self.template:
                raise ValueError(
                    f"{self.name!r} was made elsewhere, so its family is primitive or baseline, and it has neither "
                    f"backbone nor template"
                )
        elif self.family == "baseline":
            if self.rule_name not in RULES:
                raise ValueError(f"there is no baseline {self.rule_name!r}. {nearest(self.rule_name, RULES)}")
        elif self.backbone not in choices[self.family]:
            known = choices[self.family]
            raise ValueError(
                f"a {self.family} predictor has no backbone {self.backbone!r}. {nearest(str(self.backbone), known)}"
            )
        self._check_settings_of_readers()
        if self.family == "text" and not self.template:
            raise ValueError(f"the text predictor {self.name!r} needs `template: kind/task`")
        native = self.family == "primitive" and self.backbone == "none" and not self.external
        self.set.check_predictor(self.name, native=native)
        self._check_draws()
        return self

    def _check_settings_of_readers(self) -> None:
        for keys, allowed, who in (
            (_TEXT_FEATURE_SETTINGS, self.text_features is not None, "with `text_features`"),
            (
                _DOCUMENT_SETTINGS,
                self.reads_documents,
                "that read texts (soft, text, or with `text_features`)",
            ),
        ):
            for key in keys:
                if not allowed and getattr(self.set, key) != getattr(PredictorOverrides(), key):
                    raise ValueError(f"`{key}` is for predictors {who}, which {self.name!r} is not")

    def _check_text_features(self) -> None:
        if self.set.ending is not None and self.text_features != "states":
            raise ValueError(
                f"`ending` is read by a language model, but {self.name!r} has {self.text_features}"
            )
        if self.external:
            raise ValueError(f"{self.name!r} has `text_features`, so it has no file, checkpoint or model")
        if self.set.documents == "none":
            raise ValueError(f"{self.name!r} has `text_features`, but `documents: none` shows it no text")
        soft = self.text_features == "states"
        backbones: tuple[str | None, ...] = ("llm-frozen", "llm-random") if soft else (None,)
        if (
            self.family != ("soft" if soft else "primitive")
            or self.backbone not in backbones
            or self.template
        ):
            expected = (
                "soft, with the backbone llm-frozen or llm-random"
                if soft
                else "primitive, without a backbone"
            )
            raise ValueError(
                f"{self.name!r} has the text features {self.text_features}, so its family is {expected}, and it has no "
                f"template"
            )

    def _check_draws(self) -> None:
        overrides, defaults = self.set, PredictorOverrides()
        if self.family != "text":
            for key in _TEXT_SETTINGS:
                if getattr(overrides, key) != getattr(defaults, key):
                    raise ValueError(
                        f"`{key}` is for text predictors, but {self.name!r} is a {self.family} predictor"
                    )
        elif overrides.draws > 1 and overrides.temperature == 0:
            raise ValueError(
                f"{overrides.draws} draws of {self.name!r} at temperature 0 would all be the same. "
                f"Set a temperature above 0, for instance 0.7"
            )

    @property
    def rule_name(self) -> str:
        """The rule of a baseline: its name, where `rule` does not give another."""
        return self.rule or self.name

    @property
    def external(self) -> bool:
        """Whether it is not trained here: a file, an external model, a Python object, or a checkpoint."""
        checkpoint = self.checkpoint if self.family != "text" else None
        return self.custom or any(part is not None for part in (self.file, self.model, checkpoint))

    @property
    def reads_documents(self) -> bool:
        """Whether it reads the texts that a window shows: in a prompt, or as text features."""
        return self.text_features is not None or (self.family in ("soft", "text") and not self.external)

    @property
    def trained(self) -> bool:
        """Whether it is trained here by gradient descent."""
        return self.family in ("soft", "primitive") and not self.external and self.text_features is None

    @property
    def pretrained(self) -> bool:
        """Whether it holds the weights of a pretrained language model."""
        return self.backbone in PRETRAINED_BACKBONES


class SuiteBudget(Budget):
    """The training budget of every predictor of a suite that is trained here.

    lr: candidates, from which validation chooses for each predictor. loss: of fields, what is minimised and what the
    choice is made by. evaluations: how often the validation loss is computed. patience: evaluations without a better
    one after which a training run stops; None never stops early. refit: trains the chosen setting once more, on
    training and validation windows together (as in scikit-learn's searches), with its scaler and base rule (`skip`)
    fitted again, and fits the rules on the same windows; the validation error that is reported is that of the first
    training.
    """

    loss: Literal["absolute", "squared"] = "absolute"
    lr: list[float] = Field([1e-4], min_length=1)
    weight_decay: float = Field(0.01, ge=0, description="of AdamW")
    evaluations: int = Field(10, ge=1)
    patience: int | None = Field(None, ge=1)
    refit: bool = False


class TrainingSettings(Settings):
    """The training windows that predictors are fitted on. share: of all of them; each seed draws others.

    With a share below 1, predictors are fitted once for each seed. The windows of a share are among those of a larger
    one; the warm-up of the encoder, scalers and the base rule (`skip`) see no others.
    """

    share: float = Field(1.0, gt=0, le=1)


class BootstrapSettings(Settings):
    """Which samples depend on each other. block: samples of a block do; by default that of BOOTSTRAP_BLOCKS.

    Blocks of places cut each test and validation window of a graph into one for each place that it asks for. draws:
    resamples of the seeds from which the optimism of the choice of arms is computed, beyond four seeds.
    """

    block: Literal["day", "week", "object", "place", "clip", "sample"] = "day"
    draws: int = Field(2000, ge=100)


class GroupSettings(Settings):
    """Two groups of predictors, whose best ones, each chosen on validation, are compared.

    of: names of the predictors whose gain is reported. over: names of those that they are compared with. label: what is
    compared, as a sentence of the report begins.
    """

    of: list[str] = Field(min_length=1)
    over: list[str] = Field(min_length=1)
    label: str = Field(min_length=1)

    def check(self, names: Sequence[str]) -> None:
        """Raises ValueError for a predictor that the suite does not have, or one in both groups."""
        for name in (*self.of, *self.over):
            if name not in names:
                raise ValueError(f"groups: there is no predictor {name!r}. {nearest(name, names)}")
        if both := sorted(set(self.of) & set(self.over)):
            raise ValueError(f"groups: {both[0]!r} is in both `of` and `over`. Leave it in one")


class FaultSettings(Settings):
    """Faulty readings that are detected from the residuals of predictors.

    planted: number of faults that are inserted into the test part. documented: a csv file of known faults instead.
    training_windows: number of training windows whose residuals set the threshold of an alarm. threshold_quantile: the
    quantile of those residuals that is the threshold.
    """

    renamed_keys: ClassVar[Mapping[str, str]] = {
        "share": "threshold_quantile",
        "training": "training_windows",
    }

    planted: int | None = Field(None, ge=1)
    documented: str | None = None
    seed: int = Field(0, description="of the planted faults")
    training_windows: int = Field(200, ge=1)
    threshold_quantile: float = Field(0.995, gt=0, lt=1)

    @model_validator(mode="after")
    def _check_source(self) -> "FaultSettings":
        if (self.planted is None) == (self.documented is None):
            raise ValueError("faults takes `planted: COUNT` or `documented: FILE.csv`, one of the two")
        return self


class ControlSettings(Settings):
    """Planted controls: the comparison of the suite on a truth of which only a note in words can tell a part.

    They run with the budget, seeds, windows, encoder, warm-up, skip and instruction of the suite. predictors: trained
    predictors that take part; with an adapted one, name its random twin as well. strengths: planted gains, each a
    control of its own: the gain in the primary metric that a perfect use of the note would bring (a share of the error,
    or a difference of scores where higher is better). 0 is the negative control, the largest the positive one. windows:
    test windows; None takes those of the suite. seeds: some of the suite's; None takes all.
    """

    removed_keys: ClassVar[Mapping[str, str]] = {
        "steps": "Controls train for the steps of `budget`. Leave it out",
        "lr": "Controls train with the learning rates of `budget`. Leave it out",
        "places": "Controls are planted at all places of the data. Leave it out",
    }

    predictors: list[str] = Field(min_length=1)
    strengths: list[float] = Field([0.0, 0.4], min_length=1)
    windows: int | None = Field(None, ge=20)
    seeds: list[int] | None = Field(None, min_length=1)

    @field_validator("strengths")
    @classmethod
    def _check_strengths(cls, strengths: list[float]) -> list[float]:
        if any(not 0 <= strength < 1 for strength in strengths) or len(set(strengths)) < len(strengths):
            raise ValueError(
                "strengths are different gains of at least 0 and under 1, such as [0, 0.05, 0.4]"
            )
        return strengths

    @property
    def by_name(self) -> dict[str, float]:
        """The strength of each control by its name: negative, dose-2 (2 %), ..., positive; from the weakest up."""
        strongest = max(self.strengths)
        return {_control_name(s, strongest): s for s in sorted(self.strengths)}


def _control_name(strength: float, strongest: float) -> str:
    if strength == 0:
        return "negative"
    return "positive" if strength == strongest else f"dose-{100 * strength:g}"
