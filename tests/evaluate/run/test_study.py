"""Arms are trained on the same terms, asked the same blind questions, and scored on every window."""

import os
from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import load_file
from support import tiny_field, tiny_suite

from st2llm.config.suite import Suite
from st2llm.data import load_data
from st2llm.data.windows import split
from st2llm.data.windows.splits import evenly_spaced
from st2llm.errors import ConfigError
from st2llm.evaluate.run import models
from st2llm.evaluate.run.compare import compare
from st2llm.evaluate.run.inputs import Inputs, TaskData
from st2llm.evaluate.run.progress import ProgressReporter
from st2llm.evaluate.run.study import Study
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.predict.arm import ArmPredictor
from st2llm.predict.baselines import BaselinePredictor
from st2llm.predict.text import TextPredictor


@pytest.fixture(scope="module")
def town(card):
    return load_data(str(card))


@pytest.fixture(scope="module")
def made(town):
    """Makes a Study of the whole suite with some keys replaced; keeps the labels of what it began."""

    def make(card, llama, **changes):
        suite = Suite.model_validate(tiny_suite.everything(card, llama, **changes))
        begun = []
        task = suite.tasks[0]
        reporter = ProgressReporter(start=lambda label, steps: begun.append(label))
        return Study(Inputs(suite, TaskData(town, task, split(town, task, stride=24)), reporter)), begun

    return make


@pytest.fixture(scope="module")
def ran(made, card, llama, tmp_path_factory):
    """Every job of the whole suite, run once: the study, its store and the labels of what was begun."""
    study, begun = made(card, llama)
    store = RunStore(tmp_path_factory.mktemp("study"))
    for job in study.jobs():
        study.run(job, store)
    return study, store, begun


def _facts(store, **wanted):
    return [f for f in store.arms() if all(f[key] == value for key, value in wanted.items())]


def test_every_predictor_is_asked_for_the_same_places(made, card, llama, tmp_path):
    study, _ = made(card, llama, windows={"places": 1}, limit=4)
    store = RunStore(tmp_path)
    asked = set()
    for job in study.jobs():
        if job.predictor.name in ("last-value", "ridge-deviation", "text"):
            study.run(job, store)
            frame = store.predictions(job.key)
            pairs = frame[["sample", "place"]].astype(str).drop_duplicates()
            few = 3 if job.predictor.name == "text" else 4
            assert len(pairs) == few
            asked.update(map(tuple, pairs.to_numpy().tolist()))
    assert len(asked) == 4


def test_a_limit_keeps_evenly_spaced_test_windows(made, card, llama):
    study, _ = made(card, llama, limit=5)
    assert len(study.inputs.test) == 5
    assert len(study.inputs.validation) == 5
    assert len(study.inputs.train) == 38


def test_rules_and_text_run_once_trained_arms_once_a_seed(made, card, llama):
    study, _ = made(card, llama)
    seeds = {}
    for job in study.jobs():
        seeds.setdefault(job.predictor.name, []).append(job.seed)
    trained = ("none", "matched", "llm-random", "llm-frozen", "llm-lora", "random-lora")
    assert all(seeds[name] == [0, 1] for name in trained)
    assert {name: seeds[name] for name in ("last-value", "text")} == {"last-value": [0], "text": [0]}
    assert len({job.key for job in study.jobs()}) == len(study.jobs())


def test_tasks_after_the_first_carry_their_name_in_their_keys(card, llama, town):
    horizons = {"forecast": {"history": 48, "horizon": [12, 24]}}
    suite = Suite.model_validate(tiny_suite.everything(card, llama, task=horizons))
    keys = [
        Study(
            Inputs(suite, TaskData(town, task, split(town, task, stride=24)), ProgressReporter())
        ).inputs.key("none", 1)
        for task in suite.tasks
    ]
    assert keys == ["none-1", "none-1.forecast-48-24"]


@pytest.mark.slow
def test_all_arms_of_a_seed_start_from_the_same_shared_parts(ran):
    _, store, _ = ran
    by_seed = {seed: {f["encoder_sha256"] for f in _facts(store, seed=seed) if "lr" in f} for seed in (0, 1)}
    assert [len(found) for found in by_seed.values()] == [1, 1]
    assert by_seed[0] != by_seed[1]
    assert len([f for f in _facts(store, seed=1) if "lr" in f]) == 6


@pytest.mark.slow
def test_the_learning_rate_is_chosen_on_validation_for_the_first_seed_and_kept_for_the_others(ran):
    _, store, _ = ran
    chosen = set()
    for name in ("none", "matched", "llm-random", "llm-frozen", "llm-lora", "random-lora"):
        first, second = _facts(store, predictor=name)
        assert [curve["lr"] for curve in first["curves"]] == [1.0e-2, 1.0e-5]
        best = min(first["curves"], key=lambda curve: min(curve["validation"]))
        assert best["lr"] == first["lr"]
        assert [curve["chosen"] for curve in first["curves"]] == [c is best for c in first["curves"]]
        assert [curve["lr"] for curve in second["curves"]] == [first["lr"]] == [second["lr"]]
        chosen.add(first["lr"])
    assert 1.0e-2 in chosen


@pytest.mark.slow
def test_every_selected_window_is_scored_at_every_place_and_step(ran):
    study, store, _ = ran
    want = {sample.id for sample in study.inputs.test}
    for facts in store.arms():
        frame = store.predictions(facts["key"])
        samples = set(frame["sample"].astype(str))
        few = facts["family"] == "text"
        assert len(frame) == (3 if few else len(study.inputs.test)) * 3 * 24, facts["key"]
        assert samples < want if few else samples == want
        assert not frame.duplicated(["sample", "place", "step", "channel"]).any()
        assert frame["step"].unique().tolist() == list(range(24))
        assert np.array_equal(frame["valid"], frame["truth"].notna())


@pytest.mark.slow
def test_all_arms_are_judged_by_the_same_truth_which_is_the_datas_own(ran, town):
    study, store, _ = ran
    sample = study.inputs.test[0]
    want = sample.truth[48:, :, 0].T.ravel()
    for facts in store.arms():
        frame = store.predictions(facts["key"])
        assert np.array_equal(frame["truth"].to_numpy()[:72], want, equal_nan=True), facts["key"]
        assert frame["time"].to_numpy()[:24].tolist() == sample.time[48:].tolist()


@pytest.mark.slow
def test_text_answers_are_kept_with_prompt_tokens_and_template(ran):
    _, store, _ = ran
    lines = (store.root / "answers/text-0.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3 * 3
    cost = _facts(store, predictor="text")[0]["cost"]
    assert cost["tokens_in"] > cost["tokens_out"] > 0


@pytest.mark.slow
def test_cost_cards_hold_what_the_family_has(ran):
    _, store, _ = ran
    for facts in store.arms():
        cost, family = facts["cost"], facts["family"]
        assert cost["predict_s_per_sample"] > 0
        assert cost["peak_mb"] > 0
        if family != "baseline":
            assert cost["flops"] > 0
            assert cost["params_total"] > 0
        if family in ("soft", "primitive"):
            assert 0 < cost["params_trained"] <= cost["params_total"]
            assert cost["train_s"] > 0
        assert (cost["tokens_in"] is None) == (family in ("baseline", "primitive"))


@pytest.mark.slow
def test_adapters_are_trained_beside_frozen_weights_alone(ran):
    _, store, _ = ran
    trained = {f["predictor"]: f["cost"]["params_trained"] for f in _facts(store, seed=0) if "lr" in f}
    assert trained["llm-frozen"] == trained["llm-random"] == trained["none"]
    assert trained["llm-lora"] == trained["random-lora"] > trained["llm-frozen"]
    assert abs(trained["matched"] / trained["llm-lora"] - 1) < 0.05


@pytest.mark.slow
def test_an_arm_starts_with_what_other_places_have_taught_it(tmp_path):
    here, there = (
        tiny_field.write_card(tmp_path / name, places=n) for name, n in (("here", 3), ("there", 5))
    )
    content = {
        "id": "moved", "version": 1, "kind": "graph", "data": str(here), "split": {"stride": 6},
        "task": {"forecast": {"history": 24, "horizon": 6}}, "up": {"head": "none"},
        "encoder": {
            "d_st": 16, "patch": 24, "layers": 1, "graph": "none", "mixer": "mlp", "drop_embeddings": ["node"],
            "warmup": {"steps": 120, "batch": 16, "lr": 3e-3, "data": str(there)},
        },
        "predictors": [
            {"name": "mean", "family": "baseline"}, {"name": "none", "family": "primitive", "backbone": "none"},
        ],
        "budget": {"steps": 1, "batch": 4, "lr": [1e-9]},
    }  # fmt: skip
    report = compare(
        tiny_suite.write_suite(tmp_path / "s.yaml", content), out=tmp_path / "run", progress=False
    )
    mae = {row["predictor"]: row["metrics"]["mae"]["value"] for row in report.records}
    assert mae["none"] < 0.5 * mae["mean"]  # nothing was learned here
    assert any(name.startswith("head.") for name in load_file(tmp_path / "run/encoder/warm-0.safetensors"))
    content["encoder"]["drop_embeddings"] = []
    with pytest.raises(
        ConfigError, match=r"The encoder warmed up on .* does not fit .*`encoder.drop_embeddings: \[node\]`"
    ):
        compare(tiny_suite.write_suite(tmp_path / "t.yaml", content), out=tmp_path / "other", progress=False)
    content["encoder"]["warmup"]["data"] = "nyc-bike1"
    if "ST2LLM_DATA" in os.environ:
        with pytest.raises(ConfigError, match="encoder.warmup.data names nyc-bike1 of kind grid"):
            compare(
                tiny_suite.write_suite(tmp_path / "u.yaml", content), out=tmp_path / "third", progress=False
            )


@pytest.mark.slow
def test_a_finished_job_is_not_run_again_and_the_warm_encoder_is_used_again(ran, made, card, llama):
    _, store, _ = ran
    warm = store.root / "encoder/warm-0.safetensors"
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*") if path.is_file()}
    assert warm in before
    again, begun = made(card, llama)
    facts = [again.run(job, store) for job in again.jobs()]
    assert begun == []
    assert sorted(f["key"] for f in facts) == sorted(f["key"] for f in store.arms())
    first = next(job for job in again.jobs() if job.key == "none-0")
    (store.root / "arms/none-0.json").rename(store.root / "none-0.json")
    again.run(first, store)
    redone = store.finished("none-0")
    assert begun == ["none-0, lr 0.01", "none-0, lr 1e-05"]  # and no encoder
    old = next(f for f in facts if f["key"] == "none-0")
    for key in ("encoder_sha256", "curves", "validation", "lr"):
        assert redone[key] == old[key]
    assert warm.stat().st_mtime_ns == before[warm]


@pytest.mark.slow
def test_the_labels_of_progress_name_arm_and_learning_rate(ran):
    _, _, begun = ran
    assert begun[:3] == ["last-value-0", "hour-of-week-0", "ridge-deviation-0"]
    assert begun.count("encoder, seed 0") == begun.count("encoder, seed 1") == 1
    assert "llm-lora-0, lr 1e-05" in begun
    assert sum(label.startswith("llm-lora-1") for label in begun) == 1


@pytest.fixture
def seen(monkeypatch):
    """Every sample that any predictor was asked, whatever its family."""
    asked = []

    def spy(owner, name):
        real = getattr(owner, name)

        def answer(self, samples, *rest, **more):
            asked.extend(samples)
            return real(self, samples, *rest, **more)

        monkeypatch.setattr(owner, name, answer)

    spy(BaselinePredictor, "predict")
    spy(ArmPredictor, "predict")
    spy(TextPredictor, "answers")
    return asked


@pytest.mark.parametrize("name", ["ridge-deviation", "none", "llm-frozen", "text"])
def test_no_predictor_is_shown_an_answer(made, card, llama, tmp_path, seen, name):
    study, _ = made(card, llama, budget={"steps": 1, "batch": 2, "lr": [1e-3]}, limit=2)
    job = next(job for job in study.jobs() if job.predictor.name == name)
    study.run(job, RunStore(tmp_path))
    assert {sample.id for sample in seen} >= {sample.id for sample in study.inputs.test}
    for sample in seen:
        assert sample.truth is None
        assert np.isnan(sample.values[sample.wanted]).all()


def test_an_arm_without_validation_windows_has_no_validation_score(made, card, llama, tmp_path):
    study, _ = made(card, llama)
    study.inputs.validation = study.inputs.validation[:0]
    job = replace(study.jobs()[0])
    assert study.run(job, RunStore(tmp_path))["validation"] is None


def test_predictors_may_ask_for_fewer_windows_of_the_same_test_part(made, card, llama):
    study, _ = made(card, llama)
    text = study.inputs.suite.predictor("text")
    assert (
        study.inputs.test_windows(text).indices().tolist()
        == evenly_spaced(study.inputs.test, 3).indices().tolist()
    )


@pytest.mark.slow
def test_a_language_model_that_nobody_changes_is_loaded_once(made, card, llama, tmp_path, monkeypatch):
    loads = []
    real = models.language.load_llm
    monkeypatch.setattr(
        models.language, "load_llm", lambda name, **more: loads.append(name) or real(name, **more)
    )
    study, _ = made(card, llama, budget={"steps": 1, "batch": 2, "lr": [1e-3]}, limit=2)
    for job in study.jobs():
        if job.predictor.name in ("llm-frozen", "text"):
            study.run(job, RunStore(tmp_path))
    assert loads == [str(llama)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "skip"),
    [
        ({"impute": {"length": 24, "share": 0.3}}, "linear"),
        ({"interpolate": {"length": 24, "every": 4}}, "linear"),
        ({"krige": {"length": 12, "share": 0.3}}, "neighbours"),
    ],
)
def test_a_primitive_arm_fills_what_is_hidden_amid_a_window(town, card, tmp_path, task, skip):
    rule = "linear" if skip == "linear" else "neighbours"
    suite = Suite.model_validate(
        {
            **tiny_suite.rules(card),
            "task": task,
            "split": {"stride": 12},
            "skip": skip,
            "encoder": {"d_st": 16, "patch": 6, "layers": 1},
            "predictors": [
                {"name": rule, "family": "baseline"},
                {"name": "none", "family": "primitive", "backbone": "none"},
            ],
            "budget": {"steps": 60, "batch": 16, "lr": [3e-3]},
        }
    )
    made = suite.tasks[0]
    study = Study(Inputs(suite, TaskData(town, made, split(town, made, stride=12)), ProgressReporter()))
    store = RunStore(tmp_path)
    rule_facts, arm_facts = (study.run(job, store) for job in study.jobs())
    # It starts out as the rule that it corrects, and is kept at its best validation error.
    assert arm_facts["validation"] <= rule_facts["validation"] * 1.001
    assert len(store.predictions("none-0")) == len(store.predictions(f"{rule}-0"))


@pytest.mark.parametrize("skip", ["slot", "ridge"])
def test_a_refitted_arm_corrects_the_rule_that_is_fitted_on_the_same_windows(
    made, card, llama, tmp_path, skip
):
    rule = {"slot": "hour-of-week", "ridge": "ridge-deviation"}[skip]
    predictors = [
        {"name": rule, "family": "baseline"},
        {"name": "none", "family": "primitive", "backbone": "none"},
    ]
    settings = {"predictors": predictors, "seeds": [0], "controls": None, "skip": skip, "limit": 3}
    encoder = {"d_st": 16, "patch": 6, "layers": 1}
    budget = {"steps": 1, "batch": 4, "lr": [1e-12], "refit": True}  # the arm stays the rule that it corrects
    study, _ = made(card, llama, budget=budget, encoder=encoder, **settings)
    store = RunStore(tmp_path)
    ruled, armed = (study.run(job, store) for job in study.jobs())
    of_rule, of_arm = (store.predictions(f"{name}-0")["value"] for name in (rule, "none"))
    np.testing.assert_allclose(of_arm, of_rule, rtol=1e-4, atol=1e-3)
    assert armed["validation"] == pytest.approx(
        ruled["validation"], rel=1e-4
    )  # both fitted on training alone
    assert armed["training"]["refit"]
    training = study.trained.arms.training.of(0)
    assert not np.array_equal(training.preprocessor.scaler.mean, training.refitted.preprocessor.scaler.mean)


@pytest.mark.slow
def test_a_refit_gives_the_validation_windows_to_arms_and_rules(made, card, llama, tmp_path):
    told = {}
    for refit in (False, True):
        budget = {"steps": 8, "batch": 4, "lr": [1e-3], "refit": refit}
        predictors = [
            {"name": "hour-of-week", "family": "baseline"},
            {"name": "none", "family": "primitive", "backbone": "none"},
        ]
        study, begun = made(card, llama, budget=budget, predictors=predictors, seeds=[0], controls=None)
        store = RunStore(tmp_path / str(refit))
        jobs = study.jobs()
        facts = [study.run(job, store) for job in jobs]
        told[refit] = (facts, [store.predictions(job.key) for job in jobs], begun)
    (plain, once, _), (again, anew, begun) = told[False], told[True]
    assert any(label.endswith("with validation") for label in begun)
    for i in range(2):
        assert plain[i]["validation"] == again[i]["validation"]
        assert np.nanmax(np.abs(once[i]["value"] - anew[i]["value"])) > 1e-3
