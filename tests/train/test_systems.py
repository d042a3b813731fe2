"""Published systems, shortened, on a few real sensors: they beat the rule that they start from, and learn by heart."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import st2llm
from st2llm.config.training import PretrainRecipe, SoftTokenRecipe
from st2llm.data.windows.splits import evenly_spaced
from st2llm.predict.baselines import fit_baseline
from st2llm.predict.build import load_splits
from st2llm.predict.checkpoint import load_predictor
from st2llm.train.align import finetune
from st2llm.train.pretrain import pretrain
from st2llm.train.recipes import load_recipe

pytestmark = pytest.mark.slow

SYSTEMS = Path(__file__).resolve().parents[2] / "alignment" / "systems"
FORECASTERS = ("st-llm", "st-llm-plus", "stg-llm")
SHORT = {"llm.depth": 2, "split.stride": 6, "validation": 12, "budget.evaluations": 4}


@cache
def los_loop():
    return st2llm.load_data("los-loop")


def slice_card(folder: Path, *, places: int, steps: int) -> str:
    """A card of the first sensors and hours of Los-loop."""
    data = los_loop()
    names = [f"s{i}" for i in range(places)]
    values = pd.DataFrame(data.values[:steps, :places, 0], columns=names)
    values.insert(0, "time", pd.date_range("2012-03-01", periods=steps, freq="5min"))
    values.to_csv(folder / "values.csv", index=False)
    ends = np.stack([data.edges.source, data.edges.target])
    near = (ends < places).all(axis=0)
    edges = {"source": ends[0, near], "target": ends[1, near], "weight": data.edges.weight[near]}
    named = {key: [names[i] for i in edges[key]] for key in ("source", "target")}
    pd.DataFrame({**named, "weight": edges["weight"]}).to_csv(folder / "edges.csv", index=False)
    card = {
        "name": "los-loop-slice",
        "kind": "graph",
        "source": {"path": "."},
        "values": "values.csv",
        "time": "time",
        "freq": "5min",
        "timezone": "America/Los_Angeles",
        "edges": {"list": "edges.csv"},
        "unit": "mph",
        "split": {"train": 0.7, "validation": 0.2, "test": 0.1},
        "default_task": {"forecast": {"history": 12, "horizon": 12}},
        "licence": "research use",
        "citation": "METR-LA",
    }
    (folder / "card.yaml").write_text(yaml.safe_dump(card))
    return str(folder / "card.yaml")


def losses(out: Path) -> tuple[list[float], list[float]]:
    """Training and validation losses, from the initial state on; that of a base rule is the first of validation."""
    state = json.loads((out / "last" / "state.json").read_text())
    return [row[1] for row in state["rows"][1:]], [row[2] for row in state["rows"]]


@pytest.mark.parametrize("name", FORECASTERS)
def test_a_system_with_a_language_model_beats_the_rule_that_it_starts_from(tmp_path, name):
    card = slice_card(tmp_path, places=12, steps=1200)
    short = {"data": card, "warmup.steps": 200, "budget.steps": 40, "budget.batch": 8, **SHORT}
    finetune(load_recipe(SYSTEMS / f"{name}.yaml", into=SoftTokenRecipe, changes=short), tmp_path / "out")
    _, validation = losses(tmp_path / "out")
    assert min(validation) < 0.98 * validation[0]


@pytest.mark.parametrize(("name", "steps", "lr"), [("st-llm", 300, 2e-3), ("gatgpt", 100, 5e-3)])
def test_a_system_learns_a_few_windows_by_heart(tmp_path, name, steps, lr):
    card = slice_card(tmp_path, places=5, steps=240)
    short = {
        "data": card,
        **SHORT,
        "warmup": None,
        "budget.steps": steps,
        "budget.batch": 16,
        "budget.lr": lr,
    }
    finetune(load_recipe(SYSTEMS / f"{name}.yaml", into=SoftTokenRecipe, changes=short), tmp_path / "out")
    train, _ = losses(tmp_path / "out")
    assert train[-1] < 0.6 * train[0]


def test_saits_beats_a_straight_line(tmp_path):
    card = slice_card(tmp_path, places=12, steps=1200)
    short = {"data": card, "validation": 24, "budget.steps": 150}
    recipe = load_recipe(SYSTEMS / "saits.yaml", into=PretrainRecipe, changes=short)
    pretrain(recipe, tmp_path / "out")
    _, validation = losses(tmp_path / "out")
    assert min(validation) < 0.98 * validation[0]


SMALL = {"encoder.d_st": 32, "budget.batch": 16, "budget.evaluations": 2, "validation": 16}
NATIVE = {
    "videomae": ("neighbours", {"split.stride": 4, "budget.steps": 60}),
}
"""Systems of their own weights: a null rule, and the settings that shorten the config."""


def mean_errors(recipe: PretrainRecipe, out: Path, rule: str) -> tuple[float, float]:
    """Mean absolute errors of the checkpoint and of a rule on 16 validation windows."""
    splits = load_splits(recipe)
    samples = list(evenly_spaced(splits.validation, 16))
    errors = []
    for predictor in (load_predictor(out, name=recipe.id), fit_baseline(rule, splits.train)):
        answers = predictor.predict([sample.without_truth() for sample in samples])
        gaps = [np.abs(a.value - s.truth)[s.wanted] for a, s in zip(answers, samples, strict=True)]
        errors.append(float(np.nanmean(np.concatenate(gaps))))
    return errors[0], errors[1]


@pytest.mark.parametrize("name", NATIVE)
def test_a_system_of_its_own_weights_beats_a_null_rule(tmp_path, name):
    rule, short = NATIVE[name]
    recipe = load_recipe(SYSTEMS / f"{name}.yaml", into=PretrainRecipe, changes={**SMALL, **short})
    pretrain(recipe, tmp_path / "out")
    error, null = mean_errors(recipe, tmp_path / "out", rule)
    assert error < 0.95 * null
