"""Predictors with objectives start from one encoder, train for one budget, and predict as their objectives do."""

import json

import numpy as np
import pytest
from pydantic import ValidationError
from support import tiny_suite

import st2llm
from st2llm.config.suite import Suite
from st2llm.errors import ConfigError

MASKED = {"masked": {"policies": ["random", "future"], "ratio": 0.3}}
OBJECTIVES = {
    "regression": {"objectives": {"regression": {}}},
    "masked": {"objectives": MASKED},
    "contrastive": {"objectives": {"contrastive": {}}},
    "diffusion": {"objectives": {"diffusion": {"draws": 2, "steps": 2}}},
    "both": {"objectives": {"regression": {}, **MASKED}, "weighting": "pcgrad"},
    "balanced": {"objectives": {"regression": {}, **MASKED}, "weighting": "gradnorm"},
    "staged": {"objectives": {"regression": {}}, "first": {"objectives": {"contrastive": {}}, "share": 0.25}},
}


def suite(card, names, **changes):
    predictors = [
        {"name": name, "family": "primitive", "backbone": "none", "set": OBJECTIVES[name]} for name in names
    ]
    return (
        tiny_suite.small(card)
        | {
            "predictors": [*tiny_suite.rules(card)["predictors"], *predictors],
            "task": {"forecast": {"history": 48, "horizon": 24, "missing": 0.5}},
            "encoder": {"d_st": 8, "layers": 1, "mixer": "mlp"},
            "budget": {"steps": 8, "batch": 4, "lr": [1e-3], "evaluations": 2},
            "windows": {"select": "even", "count": 6},
        }
        | changes
    )


@pytest.fixture(scope="module")
def report(card, tmp_path_factory):
    groups = {
        "of": ["both", "balanced", "staged"],
        "over": ["regression", "masked"],
        "label": "Several over one",
    }
    content = suite(card, OBJECTIVES, groups=groups)
    return st2llm.compare(content, out=tmp_path_factory.mktemp("objectives"), progress=False)


def arms(report):
    found = [report.path / "arms" / f"{name}-{seed}.json" for name in OBJECTIVES for seed in (0, 1)]
    return {path.stem: json.loads(path.read_text()) for path in found}


@pytest.mark.slow
def test_all_start_from_one_encoder_a_seed_and_train_for_one_number_of_steps(report):
    by_key = arms(report)
    for seed in (0, 1):
        own = [arm for key, arm in by_key.items() if key.endswith(f"-{seed}")]
        assert len({arm["encoder_sha256"] for arm in own}) == 1
        assert {arm["training"]["steps"] for arm in own} == {8}
    assert by_key["both-0"]["encoder_sha256"] != by_key["both-1"]["encoder_sha256"]


@pytest.mark.slow
def test_each_has_a_validation_score_and_predicts_every_wanted_value(report):
    pooled = {r["predictor"]: r for r in report.records if r["seed"] is None}
    assert all(pooled[name]["validation"] is not None for name in OBJECTIVES)
    assert {pooled[name]["n"] for name in OBJECTIVES} == {2 * pooled["last-value"]["n"]}
    assert all(np.isfinite(pooled[name]["metrics"]["mae"]["value"]) for name in OBJECTIVES)


@pytest.mark.slow
def test_what_several_terms_did_to_each_other_is_recorded_as_means_over_seeds(report):
    training = {
        r["predictor"]: r["training"] for r in report.records if r["seed"] is None and r.get("training")
    }
    of_seeds = [
        r["training"]["cosines"]["regression, masked"]
        for r in report.records
        if r["predictor"] == "both" and r["seed"] is not None
    ]
    assert -1 <= training["both"]["cosines"]["regression, masked"] <= 1
    assert training["both"]["cosines"]["regression, masked"] == pytest.approx(np.mean(of_seeds))
    assert sum(training["balanced"]["weights"].values()) == pytest.approx(2.0)
    assert training["staged"]["objectives"] == [
        {"terms": ["contrastive"], "weighting": "fixed"}, {"terms": ["regression"], "weighting": "fixed"},
    ]  # fmt: skip
    assert training["regression"]["cosines"] == {}


@pytest.mark.slow
def test_the_best_of_one_group_is_compared_with_the_best_of_the_other(report):
    (chosen,) = [r for r in report.records if r.get("gain_group")]
    assert chosen["predictor"] in ("both", "balanced", "staged") and chosen["seed"] is None
    assert chosen["gain_group"]["vs"] in ("regression", "masked")
    assert f"Several over one: {chosen['predictor']} is" in report.verdict


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"skip": "last"}, "leave out skip"),
        ({"encoder": {"d_st": 8, "warmup": {"steps": 2}}}, "leave out encoder.warmup"),
        ({"groups": {"of": ["both"], "over": ["bth"], "label": "x"}}, "Did you mean 'both'"),
        ({"groups": {"of": ["both"], "over": ["both"], "label": "x"}}, "in both"),
    ],
)
def test_a_suite_that_starts_predictors_from_something_or_names_wrong_groups_is_refused(card, changes, says):
    with pytest.raises(ValidationError, match=says):
        Suite.model_validate(suite(card, ["both"], **changes))


@pytest.mark.parametrize(
    ("predictor", "says"),
    [
        ({"backbone": "attention", "set": OBJECTIVES["both"]}, "which 'x' is not"),
        ({"backbone": "none", "set": {"weighting": "pcgrad"}}, "need `objectives` beside them"),
        ({"backbone": "none", "set": {"objectives": {"likelihood": {}}}}, "graph has regression, masked"),
    ],
)
def test_objectives_of_another_predictor_or_kind_are_refused(card, predictor, says):
    content = suite(card, [])
    content["predictors"].append({"name": "x", "family": "primitive", **predictor})
    with pytest.raises(ValidationError, match=says):
        Suite.model_validate(content)


def test_a_weighting_of_a_single_objective_is_refused_before_anything_trains(card, tmp_path):
    content = suite(card, [])
    single = {"objectives": {"regression": {}}, "weighting": "pcgrad"}
    content["predictors"].append({"name": "x", "family": "primitive", "backbone": "none", "set": single})
    with pytest.raises(ConfigError, match="predictor x.*combines several objectives"):
        st2llm.compare(content, out=tmp_path, progress=False)
    assert not (tmp_path / "arms").exists()


def test_keeping_arms_that_are_trained_by_objectives_is_refused(card, tmp_path):
    with pytest.raises(ConfigError, match="`st2llm pretrain` with the same objectives"):
        st2llm.compare(suite(card, ["both"]), out=tmp_path, progress=False, save_arms=True)


@pytest.mark.slow
def test_a_system_of_its_own_weights_takes_part(card, tmp_path):
    """Caught: SAITS crashed after its training, since it has no encoder that others share."""
    saits = {"objectives": {"saits": {"ratio": 0.25}}}
    content = suite(card, [], task={"impute": {"length": 24, "share": 0.25}}, seeds=[0])
    content["encoder"] = {"d_st": 8, "layers": 1}
    content["predictors"] = [
        {"name": "linear", "family": "baseline"},
        {"name": "saits", "family": "primitive", "backbone": "none", "set": saits},
    ]
    records = st2llm.compare(content, out=tmp_path / "run", progress=False).records
    assert all(record["metrics"]["mae"] for record in records if record["predictor"] == "saits")
    assert "saits" in {record["predictor"] for record in records}
    assert not json.loads((tmp_path / "run" / "run.json").read_text())["encoder_sha256"]
