"""What each arm of a run sees: every window that is fitted on, trained on, chosen on or shown, recorded in a run."""

from collections import Counter
from dataclasses import dataclass, field

import pytest
from support import tiny_suite

from st2llm.config.suite import Suite
from st2llm.data import load_data
from st2llm.data.windows import split
from st2llm.evaluate.run.inputs import Inputs, TaskData
from st2llm.evaluate.run.progress import NO_PROGRESS
from st2llm.evaluate.run.study import Study
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.predict.preprocess import field as field_preprocessor
from st2llm.serialize.template.template import Template
from st2llm.types import TrainingWindows

pytestmark = pytest.mark.slow

EXAMPLES = {"select": "random", "count": 2}
ARMS = [
    {"name": "last-value", "family": "baseline"},
    {"name": "hour-of-week", "family": "baseline"},
    {"name": "none", "family": "primitive", "backbone": "none"},
    {"name": "llm-random", "family": "soft", "backbone": "llm-random"},
    {"name": "llm-frozen", "family": "soft", "backbone": "llm-frozen"},
    {
        "name": "text",
        "family": "text",
        "backbone": "llm-frozen",
        "template": "graph/forecast.examples",
        "set": {"windows": 2, "validation_windows": 1, "examples": EXAMPLES},
    },
]


@dataclass
class Seen:
    """Ids of the windows of each part, and of those that a run fitted on, trained on with their truth, or showed."""

    parts: dict[str, set[str]]
    fitted: set[str] = field(default_factory=set)
    solved: set[str] = field(default_factory=set)
    shown: set[str] = field(default_factory=set)
    results: list[dict] = field(default_factory=list)
    tables: dict = field(default_factory=dict)


def record(patch: pytest.MonkeyPatch, seen: Seen) -> None:
    """Records the windows that TrainingWindows serve, that are stacked with their truth, and that prompts show."""
    serve, take = TrainingWindows.__iter__, TrainingWindows.__getitem__
    stack, render = field_preprocessor.stack_fields, Template.render

    def served(windows):
        for sample in serve(windows):
            seen.fitted.add(sample.id)
            yield sample

    def taken(windows, index):
        sample = take(windows, index)
        seen.fitted.update([] if isinstance(index, slice) else [sample.id])
        return sample

    def stacked(samples, *args, **kwargs):
        seen.solved.update(sample.id for sample in samples if sample.truth is not None)
        return stack(samples, *args, **kwargs)

    def rendered(template, sample, **kwargs):
        seen.shown.update(example.id for example in kwargs.get("examples", ()))
        return render(template, sample, **kwargs)

    patch.setattr(TrainingWindows, "__iter__", served)
    patch.setattr(TrainingWindows, "__getitem__", taken)
    patch.setattr(field_preprocessor, "stack_fields", stacked)
    patch.setattr(Template, "render", rendered)


def run(card, llama, folder, **changes) -> Seen:
    """Runs all jobs of the suite and records what they saw."""
    settings = tiny_suite.everything(card, llama, predictors=ARMS, controls=None, windows={"places": 1})
    suite = Suite.model_validate(settings | changes)
    data, task = load_data(str(card)), suite.tasks[0]
    parts = split(data, task, stride=24)
    ids = {name: {s.id for s in getattr(parts, name)} for name in ("train", "validation", "test")}
    seen, store = Seen(ids), RunStore(folder)
    study = Study(Inputs(suite, TaskData(data, task, parts), NO_PROGRESS))
    with pytest.MonkeyPatch.context() as patch:
        record(patch, seen)
        for job in study.jobs():
            seen.results.append(study.run(job, store))
            seen.tables[job.key] = store.predictions(job.key)
    return seen


@pytest.fixture(scope="module")
def seen(card, llama, tmp_path_factory) -> Seen:
    return run(card, llama, tmp_path_factory.mktemp("seen"))


@pytest.fixture(scope="module")
def refitted(card, llama, tmp_path_factory) -> Seen:
    budget = {"steps": 4, "batch": 4, "lr": [1e-3], "refit": True}
    return run(card, llama, tmp_path_factory.mktemp("again"), predictors=ARMS[1:3], budget=budget, seeds=[0])


def test_rules_scalers_and_examples_are_fitted_on_training_windows_alone(seen):
    assert seen.fitted == seen.parts["train"]


def test_a_window_that_is_trained_or_chosen_on_is_never_one_of_the_test_part(seen):
    """The truth of a window reaches tensors where arms are trained, and where states and learning rates are chosen."""
    assert seen.solved & seen.parts["test"] == set()
    assert seen.parts["train"] < seen.solved
    assert len(seen.solved & seen.parts["validation"]) == 5


def test_examples_in_prompts_are_training_windows(seen):
    assert len(seen.shown) >= 2
    assert seen.shown <= seen.parts["train"]


def test_all_trained_arms_take_equally_many_steps_from_one_list_of_learning_rates(seen):
    curves = {r["key"]: [(c["lr"], c["step"][-1]) for c in r["curves"]] for r in seen.results if r["curves"]}
    assert len(curves) == 6
    for key, runs in curves.items():
        assert {step for _, step in runs} == {4}, key
    assert {tuple(rate for rate, _ in runs) for key, runs in curves.items() if key.endswith("-0")} == {
        (1.0e-2, 1.0e-5)
    }


def test_the_learning_rate_and_the_state_of_an_arm_are_those_of_the_lowest_validation_loss(seen):
    for result in seen.results:
        if len(result["curves"]) > 1:
            best = min(result["curves"], key=lambda curve: min(curve["validation"]))
            assert [curve["chosen"] for curve in result["curves"]] == [c is best for c in result["curves"]]


def test_arms_of_a_seed_start_from_one_encoder_and_seeds_from_different_ones(seen):
    starts = Counter((r["seed"], r["encoder_sha256"]) for r in seen.results if r["curves"])
    assert list(starts.values()) == [3, 3]


def test_every_test_window_is_scored_once_and_none_is_added(seen):
    for key, table in seen.tables.items():
        counts = table["sample"].astype(str).value_counts()
        assert counts.nunique() == 1, key
        expected = 2 if key.startswith("text") else len(seen.parts["test"])
        assert len(counts) == expected and set(counts.index) <= seen.parts["test"], key


def test_a_refit_adds_the_validation_windows_for_rules_and_arms_and_no_test_window(refitted):
    allowed = refitted.parts["train"] | refitted.parts["validation"]
    assert refitted.parts["train"] < refitted.fitted <= allowed
    assert refitted.solved <= allowed
