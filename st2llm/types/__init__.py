"""The dataclasses that modules pass to each other: containers, samples, prompts and predictions."""

from st2llm.types.checked import checked
from st2llm.types.containers import (
    Container,
    Events,
    Grid,
    Provenance,
    SensorGraph,
    SplitPlan,
    Trajectory,
    Video,
)
from st2llm.types.durations import DAY_S, HOUR_S, MONTH_S
from st2llm.types.grammar import (
    Choice,
    ChoiceSequence,
    Clock,
    FreeText,
    Grammar,
    Json,
    Numbers,
    Pair,
    Ranking,
    Scientific,
)
from st2llm.types.interfaces import Completer, Scorer, Serializer, Tokenizer
from st2llm.types.prompt import GREEDY, Answer, Decoding, Prompt, Slot, TemplateId, ToldValues
from st2llm.types.sample import Prediction, Sample, Side
from st2llm.types.seed import seed_from
from st2llm.types.side import Calendar, Covariate, Note
from st2llm.types.space import NO_EDGES, Edges, Layout, place_ids, slug
from st2llm.types.windows import (
    HeldOutWindows,
    SampleSequence,
    TrainingWindows,
    ValidationWindows,
    check_training_windows,
    check_validation_windows,
)

__all__ = [
    "DAY_S",
    "GREEDY",
    "HOUR_S",
    "MONTH_S",
    "NO_EDGES",
    "Answer",
    "Calendar",
    "Choice",
    "ChoiceSequence",
    "Clock",
    "Completer",
    "Container",
    "Covariate",
    "Decoding",
    "Edges",
    "Events",
    "FreeText",
    "Grammar",
    "Grid",
    "HeldOutWindows",
    "Json",
    "Layout",
    "Note",
    "Numbers",
    "Pair",
    "Prediction",
    "Prompt",
    "Provenance",
    "Ranking",
    "Sample",
    "SampleSequence",
    "Scientific",
    "Scorer",
    "SensorGraph",
    "Serializer",
    "Side",
    "Slot",
    "SplitPlan",
    "TemplateId",
    "Tokenizer",
    "ToldValues",
    "TrainingWindows",
    "Trajectory",
    "ValidationWindows",
    "Video",
    "check_training_windows",
    "check_validation_windows",
    "checked",
    "place_ids",
    "seed_from",
    "slug",
]
