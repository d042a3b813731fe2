"""Whatever predicts in a suite is refused where it was fitted on values of the test part; records say on what."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.linear_model import LinearRegression
from support import tiny_suite

import st2llm
from st2llm import tasks
from st2llm.config.suite import Suite
from st2llm.config.training import PretrainRecipe
from st2llm.data import load_data
from st2llm.data.windows import split
from st2llm.data.windows.coverage import container_provenance
from st2llm.data.windows.fitted_on import FittedOn, fitted_on_parts
from st2llm.errors import ConfigError
from st2llm.evaluate.run.inputs import Inputs, TaskData
from st2llm.evaluate.run.progress import NO_PROGRESS
from st2llm.evaluate.run.study import Study
from st2llm.evaluate.run_folder.store import RunStore, write_predictions
from st2llm.evaluate.scoring.score_table import build_score_table
from st2llm.predict import checkpoint as checkpoints
from st2llm.predict import fitted_on_of
from st2llm.predict.external.predictions_file import read_predictions
from st2llm.predict.external.regressor import fit_regressor
from st2llm.retrieve.window_index import WindowIndex
from st2llm.train.pretrain import pretrain
from st2llm.train.recipes import load_recipe
from st2llm.types import TrainingWindows

TASK = tasks.forecast(tiny_suite.HISTORY, tiny_suite.HORIZON)


@pytest.fixture(scope="module")
def splits(card):
    return split(load_data(card), TASK, stride=24)


def study(card, custom=(), **changes) -> Study:
    suite = Suite.model_validate(tiny_suite.rules(card, **changes))
    data = load_data(card)
    parts = split(data, TASK, stride=24)
    return Study(Inputs(suite, TaskData(data, TASK, parts), NO_PROGRESS, custom))


def other_card(card, folder: Path, **changes) -> Path:
    """The card of the same table under another name, all of it for training; or with changed keys."""
    content = yaml.safe_load(card.read_text()) | {
        "name": "other-town",
        "split": {"train": 0.8, "validation": 0.2},
    }
    folder.mkdir()
    for name in ("values.csv", "places.csv"):
        (folder / name).write_bytes((card.parent / name).read_bytes())
    path = folder / "other-town.yaml"
    path.write_text(yaml.safe_dump(content | changes))
    return path


ARM = {
    "predictors": [{"name": "none", "family": "primitive", "backbone": "none"}],
    "budget": {"steps": 1, "batch": 4, "lr": [1e-3]},
}


def warmup(data) -> dict:
    encoder = {
        "d_st": 8,
        "layers": 1,
        "drop_embeddings": ["node"],
        "warmup": {"steps": 1, "batch": 4, "data": str(data)},
    }
    return ARM | {"encoder": encoder}


def test_a_warm_up_on_data_that_cover_the_test_period_is_refused(card, tmp_path):
    with pytest.raises(ConfigError, match=r"\(encoder.warmup.data\) .*other-town.* \(3 of 3\)"):
        study(card, **warmup(other_card(card, tmp_path / "other")))


def test_a_warm_up_on_an_earlier_time_or_another_city_passes_and_is_recorded(card, tmp_path):
    earlier = {"train": 0.5, "validation": 0.2, "test": 0.3}
    study(card, **warmup(other_card(card, tmp_path / "earlier", split=earlier)))
    far = other_card(card, tmp_path / "far")
    places = (far.parent / "places.csv").read_text()
    (far.parent / "places.csv").write_text(places.replace("-36.848", "51.5"))
    (far.parent / "values.csv").write_text((far.parent / "values.csv").read_text() + "\n")  # files of its own
    transferred = study(card, **warmup(far))
    store = RunStore(tmp_path / "run")
    result = transferred.run(transferred.jobs()[0], store)
    assert [(row["data"], row["part"]) for row in result["fitted_on"]] == [
        ("tiny-town", "train"), ("tiny-town", "validation"), ("other-town", "train"), ("other-town", "validation"),
    ]  # fmt: skip
    # Its predictions carry it, so that another run can refuse them.
    assert len(read_predictions(store.root / "predictions" / "none-0.parquet", name="x").fitted_on.known) == 4


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_file_whose_model_was_fitted_on_test_is_refused(card, splits, tmp_path, part):
    table = build_score_table([splits.test[0]], [st2llm.Prediction(splits.test[0].truth)])
    path = tmp_path / "theirs.parquet"
    write_predictions(
        path, table, fitted_on_parts({part: getattr(splits, part)}, container_provenance(load_data(card)))
    )
    predictors = {"predictors": [{"name": "theirs", "family": "primitive", "file": str(path)}]}
    if part == "train":
        study(card, **predictors)
        return
    with pytest.raises(
        ConfigError, match="The predictor 'theirs' should be fitted on data without the test part"
    ):
        study(card, **predictors)


@pytest.mark.parametrize("make", ["wrap", "regressor"])
def test_a_python_object_that_was_fitted_on_test_is_refused(card, splits, make):
    def theirs(samples):
        if make == "wrap":
            return st2llm.wrap(lambda given: given, name="theirs", fitted_on=samples)
        return fit_regressor(LinearRegression(), TrainingWindows(samples), name="theirs")

    predictors = {"predictors": [{"name": "theirs", "family": "primitive", "custom": True}]}
    study(card, [theirs(list(splits.train))], **predictors)
    with pytest.raises(ConfigError, match="The predictor 'theirs'"):
        study(card, [theirs([*splits.train, *splits.test])], **predictors)


def test_a_language_model_that_was_tuned_on_test_is_refused(card, splits, llama, tmp_path):
    leak = fitted_on_parts({"train": splits.test}, container_provenance(load_data(card)))
    for name, content in (("state.json", {"fitted_on": leak.to_json()}), ("scaler.json", {})):
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "config.yaml").write_text("of: instructions\n")
    text = {
        "name": "tuned", "family": "text", "backbone": "llm-lora", "template": "graph/forecast",
        "checkpoint": str(tmp_path),
    }  # fmt: skip
    rule = {"name": "last-value", "family": "baseline"}
    with pytest.raises(ConfigError, match="The checkpoint .* of 'tuned'"):
        study(card, predictors=[rule, text], llm={"name": str(llama), "dtype": "fp32"})


def test_an_index_says_which_windows_it_can_return(splits):
    index = WindowIndex.fit(splits.train)
    assert (
        index.fitted_on.known[0].end
        == fitted_on_parts({"train": splits.train}, st2llm.types.Provenance()).known[0].end
    )


def test_what_is_not_known_is_in_the_record(card, splits, tmp_path):
    def median(samples):
        return [np.where(sample.wanted, 60.0, np.nan) for sample in samples]

    made = study(
        card,
        [st2llm.wrap(median, name="theirs")],
        predictors=[
            {"name": "theirs", "family": "primitive", "custom": True},
            {"name": "hour-of-week", "family": "baseline"},
        ],
    )
    store = RunStore(tmp_path)
    theirs, rule = (made.run(job, store) for job in made.jobs())
    assert theirs["fitted_on"] == [{"unknown": "the Python object theirs"}]
    assert [(row["data"], row["part"], row["places"]) for row in rule["fitted_on"]] == [
        ("tiny-town", "train", 3)
    ]
    assert fitted_on_of(
        read_predictions(store.root / "predictions" / "theirs-0.parquet", name="f")
    ) == FittedOn(unknown=("the Python object theirs",))


@pytest.mark.slow
def pretraining(path: Path, data, **changes) -> PretrainRecipe:
    """A run of two steps on this data, through a file at `path`."""
    content = {
        "id": "tiny", "data": str(data), "split": {"stride": 24}, "encoder": {"d_st": 8, "layers": 1},
        "task": {"forecast": {"history": tiny_suite.HISTORY, "horizon": tiny_suite.HORIZON}},
        "objectives": {"regression": {}}, "budget": {"steps": 2, "batch": 4, "evaluations": 2},
    } | changes  # fmt: skip
    path.write_text(yaml.safe_dump(content))
    return load_recipe(path, into=PretrainRecipe)


def test_arms_start_from_the_encoder_of_a_checkpoint_unless_it_was_fitted_on_the_test_part(card, tmp_path):
    path, leaky, clean = (tmp_path / name for name in ("recipe.yaml", "leaky", "clean"))
    # One patch, whether the encoder reads the history or the whole window.
    encoder = {"encoder": {"d_st": 8, "layers": 1, "patch": tiny_suite.HISTORY + tiny_suite.HORIZON}}
    pretrain(pretraining(path, other_card(card, tmp_path / "other"), **encoder), leaky)
    pretrain(pretraining(path, card, **encoder), clean)
    with pytest.raises(ConfigError, match=r"\(init_from\) .*other-town"):
        study(card, **ARM, **encoder, init_from=str(leaky))
    made = study(card, **ARM, **encoder, init_from=str(clean))
    (job,) = made.jobs()
    arm = made.trained.arms._build_for_training(job, None, None)
    weights = checkpoints.checkpoint.load_weights(clean / "best")
    assert torch.equal(arm.encoder.embed.values.weight, weights["encoder.embed.values.weight"])
    assert made.trained.arms.init_from_sha256 is not None


def test_a_checkpoint_is_refused_in_suites_and_as_a_start_and_hands_on_what_it_was_fitted_on(card, tmp_path):
    recipe = partial(pretraining, tmp_path / "recipe.yaml")
    leaky, clean, next_one = (tmp_path / name for name in ("leaky", "clean", "next"))
    pretrain(recipe(other_card(card, tmp_path / "other")), leaky)
    pretrain(recipe(card), clean)
    with pytest.raises(ConfigError, match=r"The checkpoint .*leaky \(init_from of tiny\)"):
        pretrain(recipe(card, init_from=str(leaky)), next_one)
    assert not (next_one / "best").exists()
    pretrain(recipe(other_card(card, tmp_path / "on"), init_from=str(clean)), next_one)
    found = checkpoints.load_predictor(next_one, name="x").fitted_on
    assert [coverage.data for coverage in found.known] == ["other-town"] * 2 + ["tiny-town"] * 2

    def arm(folder):
        return study(card, predictors=[{"name": "theirs", "family": "primitive", "checkpoint": str(folder)}])

    with pytest.raises(ConfigError, match="The predictor 'theirs'"):
        arm(leaky)
    made = arm(clean)
    result = made.run(made.jobs()[0], RunStore(tmp_path / "run"))
    assert result["training_state"] in ("short", "improving", "rising", "converged", "stuck")
    assert result["curves"][0]["step"] == (1, 2)
    state = json.loads((clean / "best" / "state.json").read_text())
    (clean / "best" / "state.json").write_text(
        json.dumps({key: state[key] for key in state if key != "fitted_on"})
    )
    assert checkpoints.load_predictor(clean, name="x").fitted_on.unknown == (
        f"the checkpoint {clean / 'best'}",
    )
