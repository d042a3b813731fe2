"""Seeds of one frozen model are trained together; a resumed run trains those that are missing alone."""

import pytest
from support import tiny_suite

from st2llm.config.suite import Suite
from st2llm.data import load_data
from st2llm.data.windows import split
from st2llm.evaluate.run.inputs import Inputs, TaskData
from st2llm.evaluate.run.progress import ProgressReporter
from st2llm.evaluate.run.study import Study
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.model.prompt_cache import PromptCache


@pytest.fixture
def study_of(card, llama):
    """Makes a Study of one soft arm with two seeds; also the labels of what it began."""

    def make(backbone, **budget):
        predictors = [{"name": backbone, "family": "soft", "backbone": backbone}]
        changes = {
            "predictors": predictors,
            "controls": None,
            "encoder": {"d_st": 16, "patch": 24, "layers": 1},
            "budget": {"steps": 4, "batch": 4, "lr": [1.0e-2]} | budget,
            "limit": 2,
        }
        suite = Suite.model_validate(tiny_suite.everything(card, llama, **changes))
        begun: list[str] = []
        task, data = suite.tasks[0], load_data(str(card))
        reporter = ProgressReporter(start=lambda label, steps: begun.append(label))
        return Study(Inputs(suite, TaskData(data, task, split(data, task, stride=24)), reporter)), begun

    return make


@pytest.mark.slow
def test_seeds_are_trained_together_and_a_resumed_run_trains_the_missing_one(study_of, tmp_path):
    store = RunStore(tmp_path)
    study, begun = study_of("llm-frozen")
    first, second = (study.run(job, store) for job in study.jobs())
    assert begun == ["llm-frozen-0 together with seed 1, lr 0.01"]
    assert first["cost"]["train_s"] == second["cost"]["train_s"] > 0
    finished = store.finished("llm-frozen-0")
    (tmp_path / "arms/llm-frozen-1.json").unlink()
    resumed, begun = study_of("llm-frozen")
    again = [resumed.run(job, store) for job in resumed.jobs()]
    assert begun == ["llm-frozen-1, lr 0.01"]
    assert again[0] == finished
    assert again[1]["curves"][0]["validation"] == pytest.approx(second["curves"][0]["validation"], rel=1e-4)
    assert first["curves"][0]["validation"] != second["curves"][0]["validation"]


def test_a_prompt_is_read_once_for_all_seeds(study_of, tmp_path, monkeypatch):
    texts, read = [], PromptCache._read
    monkeypatch.setattr(
        PromptCache,
        "_read",
        lambda cache, missing, group: texts.extend(missing) or read(cache, missing, group),
    )
    study, _ = study_of("llm-frozen")
    for job in study.jobs():
        study.run(job, RunStore(tmp_path))
    assert texts
    assert len(texts) == len(set(texts))


def test_learning_rates_of_the_first_seed_are_one_stack_and_its_choice_is_kept(study_of, tmp_path):
    study, begun = study_of("llm-frozen", lr=[1e-2, 1e-5])
    store = RunStore(tmp_path)
    first, second = (study.run(job, store) for job in study.jobs())
    assert begun == ["llm-frozen-0, lr 0.01 and 1e-05", f"llm-frozen-1, lr {first['lr']:g}"]
    assert [curve["lr"] for curve in first["curves"]] == [1e-2, 1e-5]
    best = min(first["curves"], key=lambda curve: min(curve["validation"]))
    assert best["chosen"]
    assert best["lr"] == first["lr"] == second["lr"]


def test_each_seed_of_a_random_model_draws_its_own_weights(study_of, tmp_path, monkeypatch):
    study, begun = study_of("llm-random", lr=[1e-2, 1e-5])
    seeds = []
    fresh = study.inputs.models.fresh
    monkeypatch.setattr(
        study.inputs.models, "fresh", lambda predictor, seed: seeds.append(seed) or fresh(predictor, seed)
    )
    for job in study.jobs():
        study.run(job, RunStore(tmp_path))
    assert seeds == [0, 1]
    assert begun[0] == "llm-random-0, lr 0.01 and 1e-05"
    assert len(begun) == 2


def test_an_arm_without_improvement_stops_before_its_budget_is_spent(study_of, tmp_path):
    study, _ = study_of("llm-frozen", lr=[1e-12], steps=12, evaluations=12, patience=2)
    result = study.run(study.jobs()[0], RunStore(tmp_path))
    assert result["curves"][0]["step"][-1] < 12


def test_the_warm_up_counts_in_what_an_arm_has_seen(study_of, tmp_path):
    study, _ = study_of("llm-random")
    warmup = {"d_st": 16, "patch": 24, "layers": 1, "warmup": {"steps": 3, "batch": 8}}
    suite = study.inputs.suite
    suite = suite.model_copy(update={"encoder": type(suite.encoder).model_validate(warmup), "seeds": [0]})
    inputs = Inputs(
        suite, TaskData(study.inputs.data, study.inputs.task, study.inputs.splits), study.inputs.reporter
    )
    warmed = Study(inputs)
    (job,) = warmed.jobs()
    training = warmed.run(job, RunStore(tmp_path))["training"]
    assert training["epochs"] * len(inputs.train) == pytest.approx(3 * 8 + 4 * 4)
    assert {key: training[key] for key in ("warmup_steps", "steps", "batch", "lr_candidates", "samples_seen")} == {
        "warmup_steps": 3, "steps": 4, "batch": 4, "lr_candidates": [0.01], "samples_seen": 40,
    }  # fmt: skip
