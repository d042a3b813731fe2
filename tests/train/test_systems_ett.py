"""Published systems that forecast series through a language model fit what they are shown, and beat the null rules.

The first two layers of the model stand for the six of the configs.
"""

import pytest

from st2llm.config.model import EncoderSettings
from st2llm.config.suite import load_suites
from st2llm.config.training import SoftTokenRecipe
from st2llm.data.windows.splits import Splits, evenly_spaced
from st2llm.encode.field_batch import FieldBatch
from st2llm.llm import load_llm
from st2llm.llm.local import require_local
from st2llm.model.arm import Arm
from st2llm.model.objectives.supervised import Regression
from st2llm.predict.build import build_aligned_arm, load_splits
from st2llm.predict.preprocess import Preprocessor
from st2llm.predict.preprocess.fit import fit_preprocessor
from st2llm.train.loop.budget import Budget
from st2llm.train.loop.trainer import evaluate, fit
from st2llm.train.recipes import load_recipe
from st2llm.types import TrainingWindows

SYSTEMS = ("gpt4ts", "time-llm", "autotimes", "test-forecast")


@pytest.fixture(scope="module")
def splits() -> dict[int, Splits]:
    """The windows of ETTh1 by their history."""
    recipes = {load(name).parsed_task.context: load(name) for name in SYSTEMS}
    return {history: load_splits(recipe) for history, recipe in recipes.items()}


def load(name: str) -> SoftTokenRecipe:
    return load_recipe(name, into=SoftTokenRecipe)


def arm_of(recipe: SoftTokenRecipe, train: TrainingWindows) -> tuple[Arm, Preprocessor]:
    preprocessor = fit_preprocessor(
        train,
        recipe.parsed_task,
        skip=recipe.skip,
        encoder=recipe.encoder,
        up=recipe.up,
        instruction=recipe.instruction,
        with_instructions=True,
    )
    llm = require_local(load_llm(recipe.llm.name, depth=2, dtype=recipe.llm.dtype))
    shape = preprocessor.task_shape(train[0], recipe.parsed_task)
    return build_aligned_arm(recipe, shape, train[0], llm), preprocessor


def trained(
    recipe: SoftTokenRecipe, train: TrainingWindows, *, steps: int
) -> tuple[Arm, Preprocessor, Regression]:
    arm, preprocessor = arm_of(recipe, train)
    objective = Regression(preprocessor.error_scale(train[0]), squared=True)
    windows = preprocessor.collate(train, with_instructions=True)
    budget = Budget(steps=steps, batch=35, lr=2e-3, evaluations=1)
    fit(arm, preprocessor.for_training(windows), windows.take(range(35)), budget, objective=objective, seed=0)
    return arm, preprocessor, objective


def squared_error_of_mean(batch: FieldBatch) -> float:
    """The mean squared error of the mean of each window, which the arms start from."""
    return float(((batch.target - batch.base) ** 2)[batch.valid].mean())


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_drives_the_error_of_the_windows_it_is_trained_on_to_near_zero(name, splits):
    recipe = load(name)
    train = evenly_spaced(splits[recipe.parsed_task.context].train, 5)  # of seven series each
    arm, preprocessor, objective = trained(recipe, train, steps=200 if name == "autotimes" else 80)
    batch = preprocessor.collate(train, with_instructions=True)
    error = evaluate(arm, batch, objective, 35)
    assert error < 0.05 * squared_error_of_mean(batch)


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_that_is_trained_for_seconds_is_better_than_the_last_value_and_the_mean(name, splits):
    recipe = load(name)
    part = splits[recipe.parsed_task.context]
    arm, preprocessor, objective = trained(recipe, evenly_spaced(part.train, 60), steps=50)
    batch = preprocessor.collate(evenly_spaced(part.test, 20), with_instructions=True)
    history = recipe.parsed_task.context
    last = ((batch.target - batch.values[:, history - 1 : history]) ** 2)[batch.valid].mean()
    error = evaluate(arm, batch, objective, 35)
    assert error < 0.9 * min(float(last), squared_error_of_mean(batch))


@pytest.mark.parametrize(
    ("system", "config"),
    [("gpt4ts", "gpt4ts"), ("time-llm", "time-llm"), ("autotimes", "autotimes"), ("test", "test-forecast")],
)
@pytest.mark.parametrize("data", ["ett-h1", "ett-h2"])
def test_a_suite_trains_a_system_with_the_settings_of_its_config(system, config, data):
    recipe, (suite,) = load(config), load_suites(f"systems-{data}-{system}")
    assert EncoderSettings(**suite.encoder.model_dump(exclude={"warmup"})) == recipe.encoder
    assert (suite.up, suite.llm, suite.skip, suite.instruction) == (
        recipe.up,
        recipe.llm,
        recipe.skip,
        recipe.instruction,
    )
    predictor = suite.predictor(system)
    assert predictor.backbone == ("llm-frozen" if recipe.adapt.frozen else "llm-lora")
    assert recipe.adapt.frozen or suite.adapt.method == recipe.adapt.method
    assert suite.budget.steps == recipe.budget.steps
