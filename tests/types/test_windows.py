"""Each part of a split has a type of its own, and code that fits refuses all but training windows."""

import ast
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from support import five_kinds

import st2llm
from st2llm import tasks
from st2llm.config.model import EncoderSettings, Projection
from st2llm.config.training import PretrainRecipe
from st2llm.data.windows import split
from st2llm.data.windows.splits import evenly_spaced
from st2llm.encode.field_batch import fit_note_vocabulary
from st2llm.encode.scaler import fit_scaler
from st2llm.errors import DataError
from st2llm.predict.baselines import BASELINES, fit_baseline, fit_held_out_slot_mean, fit_ridge, fit_slot_mean
from st2llm.predict.baselines.events import fit_event_statistics
from st2llm.predict.baselines.logistic import fit_logistic
from st2llm.predict.baselines.slots import fit_place_mean
from st2llm.predict.baselines.text_features import TextFeatures, TfidfEncoder, fit_text_features
from st2llm.predict.baselines.text_ridge import fit_text_ridge
from st2llm.predict.build import fit_pretraining_preprocessor
from st2llm.predict.examples import make_example_selector
from st2llm.predict.external.regressor import fit_regressor
from st2llm.predict.preprocess.field import fit_field_preprocessor
from st2llm.predict.preprocess.fit import collate_for_training, fit_preprocessor
from st2llm.predict.preprocess.sequence import fit_sequence_preprocessor
from st2llm.retrieve.nearest_forecast import fit_nearest
from st2llm.retrieve.window_index import WindowIndex
from st2llm.types import (
    HeldOutWindows,
    SampleSequence,
    TrainingWindows,
    ValidationWindows,
    check_training_windows,
    check_validation_windows,
)

TASK = tasks.forecast(history=24, horizon=6)
RECIPE = PretrainRecipe.model_validate(
    {
        "id": "r",
        "data": "auckland-pedestrians",
        "task": {"forecast": {"history": 24, "horizon": 6}},
        "objectives": {"regression": {}},
        "budget": {"steps": 1, "batch": 1, "lr": 1e-3},
    }
)
FEATURES = TextFeatures(TfidfEncoder(["rain"]), np.zeros(1), np.ones(1))
FITS = {
    "fit_baseline": lambda windows: fit_baseline("mean", windows),
    "fit_place_mean": fit_place_mean,
    "fit_slot_mean": fit_slot_mean,
    "fit_held_out_slot_mean": fit_held_out_slot_mean,
    "fit_ridge": lambda windows: fit_ridge(windows, level="slot"),
    "fit_event_statistics": fit_event_statistics,
    "fit_scaler": fit_scaler,
    "fit_note_vocabulary": fit_note_vocabulary,
    "fit_preprocessor": lambda windows: fit_preprocessor(
        windows, TASK, skip="none", encoder=EncoderSettings(), up=Projection(), with_instructions=False
    ),
    "fit_field_preprocessor": lambda windows: fit_field_preprocessor(
        windows, skip="none", template=None, slots=3
    ),
    "fit_sequence_preprocessor": lambda windows: fit_sequence_preprocessor(windows, skip="none", points=4),
    "fit_pretraining_preprocessor": lambda windows: fit_pretraining_preprocessor(RECIPE, windows),
    "fit_text_features": lambda windows: fit_text_features(windows, TfidfEncoder(["rain"]), name="words"),
    "fit_text_ridge": lambda windows: fit_text_ridge(windows, FEATURES, rule="mean", name="words"),
    "fit_logistic": lambda windows: fit_logistic(windows, None),
    "fit_regressor": lambda windows: fit_regressor(Ridge(), windows, name="ridge"),
    "fit_nearest": fit_nearest,
    "WindowIndex.fit": WindowIndex.fit,
    "make_example_selector": lambda windows: make_example_selector("random", 2, windows),
}
"""Every way to fit on windows, given windows."""


@pytest.fixture(scope="module")
def splits():
    return split(five_kinds.graph(days=40), TASK, stride=24)


@pytest.mark.parametrize("name", FITS)
def test_fitting_refuses_the_test_part_the_validation_part_and_a_bare_list(splits, name):
    for windows in (splits.test, splits.validation, list(splits.test)):
        with pytest.raises((DataError, TypeError), match="TrainingWindows"):
            FITS[name](windows)


def test_outside_of_the_type_checker_of_the_tests_the_refusal_says_what_came_and_what_to_do(splits):
    for windows, came in ((splits.test, "test part"), (list(splits.test), "list")):
        with pytest.raises(DataError, match=rf"given (the|a) {came}.*Take `.train` of the split"):
            check_training_windows(windows, "A scaler")


@pytest.fixture(scope="module")
def functions() -> list[tuple[Path, ast.FunctionDef]]:
    """Every function of the package with a parameter `train`."""
    trees = (
        (path, ast.parse(source))
        for path in Path(st2llm.__file__).parent.rglob("*.py")
        if "train:" in (source := path.read_text())
    )
    nodes = ((path, node) for path, tree in trees for node in ast.walk(tree))
    return [(path, node) for path, node in nodes if isinstance(node, ast.FunctionDef) and _train_of(node)]


def _train_of(function: ast.FunctionDef) -> str:
    """The annotation of the parameter `train`; '' without one."""
    arguments = [*function.args.args, *function.args.kwonlyargs]
    return next((ast.unparse(a.annotation) for a in arguments if a.arg == "train" and a.annotation), "")


def test_states_are_chosen_on_validation_windows_alone(splits):
    preprocessor = FITS["fit_field_preprocessor"](splits.train)
    train, validation = collate_for_training(preprocessor, splits.train, splits.validation)
    assert (len(train), len(validation)) == (len(splits.train), len(splits.validation))
    for windows in (splits.test, splits.train, list(splits.validation)):
        with pytest.raises((DataError, TypeError), match="ValidationWindows"):
            collate_for_training(preprocessor, splits.train, windows)
        with pytest.raises(DataError, match="Take `.validation` of the split"):
            check_validation_windows(windows, "The state of a module")


def test_no_function_of_the_package_takes_training_samples_of_another_type(functions):
    """A new fit that takes a bare sequence of samples would accept test windows."""
    loose = [f"{path}: {node.name}" for path, node in functions if "Sequence[Sample]" in _train_of(node)]
    assert loose == []


def test_every_function_named_fit_that_takes_windows_is_tried_here(functions):
    names = {node.name for _, node in functions if _train_of(node) == "TrainingWindows"}
    fits = {name for name in names if name.startswith(("fit_", "make_example"))}
    assert fits == {name for name in FITS if "." not in name}


def test_every_rule_takes_training_windows_by_type():
    hints = {name: fit.__annotations__["train"] for name, fit in BASELINES.items()}
    assert {name for name, hint in hints.items() if hint is not TrainingWindows} == set()


def test_the_parts_of_a_split_keep_their_type_when_they_are_cut_selected_or_cached(splits):
    for part, kind in (
        (splits.train, TrainingWindows),
        (splits.validation, ValidationWindows),
        (splits.test, HeldOutWindows),
    ):
        assert isinstance(part, SampleSequence)
        for again in (part[:2], part.select([1, 0]), part.cached(), evenly_spaced(part, 2)):
            assert type(again) is kind
        assert [s.id for s in part.select([1, 0])] == [part[1].id, part[0].id]


def test_windows_of_one_part_cannot_be_renamed_to_another(splits):
    with pytest.raises(DataError, match=r"these are .* windows of its test part"):
        TrainingWindows(splits.test)
    with pytest.raises(DataError, match="Take `.validation` of the split"):
        ValidationWindows(splits.train)


def test_the_data_behind_training_windows_cannot_be_reached_by_their_public_names(splits):
    public = [name for name in dir(splits.train) if not name.startswith("_")]
    whole = len(five_kinds.graph(days=40).time)
    for name in public:
        assert len(getattr(getattr(splits.train, name), "time", ())) < whole, name


def test_cached_windows_are_made_when_they_are_asked_for_and_kept(splits):
    seen = splits.train.cached()
    assert seen[3] is seen[3] is seen[2:4][1]
    assert seen.sha256 == splits.train.sha256
    assert seen[1:].indices().tolist() == splits.train[1:].indices().tolist()
    assert splits.train[3] is not splits.train[3]
    assert [sample.id for sample in seen[-2:]] == [sample.id for sample in splits.train[-2:]]
    assert [sample.id for sample in seen] == [sample.id for sample in splits.train]
    with pytest.raises(IndexError):
        seen[len(splits.train)]


def test_validation_windows_join_the_training_windows_only_by_name(splits):
    joined = splits.train.with_validation(splits.validation)
    assert type(joined) is TrainingWindows
    assert [s.id for s in joined] == [s.id for s in (*splits.train, *splits.validation)]
    with pytest.raises((DataError, TypeError), match="ValidationWindows|Validation"):
        splits.train.with_validation(splits.test)


def test_windows_of_a_list_are_counted_and_hashed_by_id(splits):
    bare = TrainingWindows(list(splits.train))
    assert isinstance(bare, SampleSequence)
    assert [s.id for s in bare.select([2])] == [splits.train[2].id]
    assert bare.indices().tolist() == list(range(len(bare)))
    assert bare.sha256 != bare[1:].sha256
