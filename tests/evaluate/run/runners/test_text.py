"""The text arm asks a real tiny model, keeps what it said, and does not ask for it again."""

import numpy as np
import pytest
from support import tiny_suite

from st2llm.config.suite import Suite
from st2llm.data import load_data
from st2llm.data.windows import split
from st2llm.errors import ConfigError
from st2llm.evaluate.run.inputs import Inputs, TaskData
from st2llm.evaluate.run.job import Job
from st2llm.evaluate.run.progress import NO_PROGRESS, ProgressReporter
from st2llm.evaluate.run.runners.text import decoding_settings, run_text
from st2llm.evaluate.run.study import Study
from st2llm.evaluate.run_folder.reading import read_lines
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.evaluate.scoring.arms import load_arms
from st2llm.evaluate.scoring.records import build_records, score_arms
from st2llm.llm import load_llm
from st2llm.predict.answer_counts import CATEGORIES
from st2llm.types import Decoding

DRAWS = {"draws": 3, "temperature": 1.0, "top_p": 0.9}
WINDOWS, PLACES = 2, 3


@pytest.fixture(scope="module")
def town(card):
    return load_data(str(card))


@pytest.fixture(scope="module")
def model(llama):
    return load_llm(str(llama), dtype="fp32")


@pytest.fixture
def remembered(tmp_path, monkeypatch):
    """Answers are kept, in a folder of this test's own."""
    monkeypatch.setenv("ST2LLM_ANSWERS", "on")
    monkeypatch.setenv("ST2LLM_CACHE", str(tmp_path / "cache"))


def text_suite(card, llama, own, **changes):
    suite = tiny_suite.everything(card, llama)
    text = suite["predictors"][-1] | {"set": {"windows": WINDOWS, **own}}
    rules = suite["predictors"][:3]
    return Suite.model_validate(suite | {"predictors": [*rules, text], "controls": None} | changes)


def study_of(card, llama, town, own=DRAWS, **changes):
    suite = text_suite(card, llama, own, **changes)
    told = []
    reporter = ProgressReporter(
        lambda label, steps: told.append((label, steps)), lambda step: told.append(step)
    )
    return Study(
        Inputs(suite, TaskData(town, suite.tasks[0], split(town, suite.tasks[0], stride=24)), reporter)
    ), told


def run(study, folder):
    """Every job of a study: the facts, rows and predictions of its text arm, and the store."""
    store = RunStore(folder)
    for job in study.jobs():
        study.run(job, store)
    return (
        store.finished("text-0"),
        read_lines(folder / "answers/text-0.jsonl"),
        store.predictions("text-0"),
        store,
    )


@pytest.fixture(scope="module")
def answered(card, llama, town, tmp_path_factory):
    """A study with three draws, what it reported and what its run left. Only to be read."""
    study, told = study_of(card, llama, town)
    return study, told, run(study, tmp_path_factory.mktemp("answered"))


def test_every_draw_of_every_place_is_kept_with_its_category(answered):
    _, told, (facts, rows, _, _) = answered
    assert len(rows) == WINDOWS * PLACES * 3
    assert [row["draw"] for row in rows] == [0, 1, 2] * WINDOWS * PLACES
    assert {row["category"] for row in rows} == {"readable"}
    assert {row["cached"] for row in rows} == {False}
    assert {"finish", "prompt", "answer", "logprob", "seconds", "tokens_in", "tokens_out"} <= set(rows[0])
    assert len({row["answer"] for row in rows}) > WINDOWS * PLACES
    assert facts["ledger"] == {category: 18 * (category == "readable") for category in CATEGORIES}
    assert facts["decoding"] == {**DRAWS, "seed": 0}
    assert ("text-0", 18) in told


def test_the_prediction_is_the_median_of_the_draws_with_its_quantiles(answered):
    _, _, (_, rows, frame, _) = answered
    place = frame[(frame["sample"] == rows[0]["sample"]) & (frame["place"] == rows[0]["place"])]
    said = np.array([[float(word) for word in row["answer"].split(",")] for row in rows[:3]])
    np.testing.assert_allclose(place["value"], np.median(said, axis=0))
    for name, share in (("q05", 0.05), ("q50", 0.5), ("q95", 0.95)):
        np.testing.assert_allclose(place[name], np.quantile(said, share, axis=0))


@pytest.mark.slow
def test_the_record_counts_answers_and_holds_the_ledger(answered):
    study, _, (facts, _, _, store) = answered
    arms = load_arms(store, study.inputs.suite, study.inputs.task.name, {"timezone": "UTC"})
    record = next(r for r in build_records(arms, score_arms(arms)) if r.predictor == "text").to_json()
    assert (record["n"], record["unread"]) == (18, 0)
    assert record["ledger"] == facts["ledger"]
    assert record["decoding"]["draws"] == 3


def test_a_second_run_asks_nothing_and_costs_what_the_first_one_cost(card, llama, town, tmp_path, remembered):
    first, rows, frame, _ = run(study_of(card, llama, town)[0], tmp_path / "one")
    study, told = study_of(card, llama, town)
    asked = []
    real = study.inputs.models.of(study.inputs.suite.predictor("text"))
    study.inputs.models._known[False, None] = Silent(real, asked)
    second, again, same, _ = run(study, tmp_path / "two")
    assert asked == []
    assert told[-1] == 18
    assert {row["cached"] for row in rows} == {False}
    assert {row["cached"] for row in again} == {True}
    assert [row["answer"] for row in again] == [row["answer"] for row in rows]
    assert [row["seconds"] for row in again] == [row["seconds"] for row in rows]
    assert same["value"].equals(frame["value"])
    asked_s = sum(row["seconds"] for row in rows) / WINDOWS
    for facts in (first, second):
        assert facts["cost"]["predict_s_per_sample"] >= asked_s
    for key in ("tokens_in", "tokens_out", "flops", "params_total"):
        assert first["cost"][key] == second["cost"][key]


class Silent:
    """The model, were it not that it may not be asked anything."""

    def __init__(self, real, asked):
        self.__class__ = type(
            "Silent", (type(real),), {"complete": lambda _, prompts, decoding: asked.append(prompts)}
        )
        self.__dict__ = real.__dict__


@pytest.mark.slow
def test_validation_windows_are_answered_too_and_their_cost_is_counted_apart(card, llama, town, tmp_path):
    places = {"select": "even", "count": 5, "places": 1}
    study, told = study_of(card, llama, town, own={}, windows=places, validation=places)
    result, rows, frame, store = run(study, tmp_path)
    table = store.validation("text-0")
    validation = {sample.id for sample in study.inputs.validation}
    assert len(rows) == len(frame) // 24 == WINDOWS
    assert (result["validation_windows"]["n"], len(table)) == (WINDOWS, WINDOWS * 24)
    assert set(table["sample"]) <= validation
    assert not set(table["sample"]) & set(frame["sample"])
    assert ("text-0 on validation", WINDOWS) in told
    assert result["cost"]["tokens_in"] == sum(row["tokens_in"] - row["tokens_shared"] for row in rows)
    assert result["validation_cost"]["tokens_out"] > 0
    told = result["told"]
    assert (
        told["share"] == pytest.approx(told["values"] / told["visible"], rel=0.05) and 0 < told["share"] < 1
    )
    arms = load_arms(store, study.inputs.suite, study.inputs.task.name, {"timezone": "UTC"})
    record = next(r for r in build_records(arms, score_arms(arms)) if r.predictor == "text")
    known = table[table["valid"]]
    assert record.validation == pytest.approx((known["value"] - known["truth"]).abs().mean())
    assert (record.validation_n, record.best_on_validation) == (WINDOWS, True)
    assert (record.validation_cost, record.told) == (result["validation_cost"], told)


@pytest.mark.parametrize(
    ("own", "count"),
    [({"windows": 3}, 3), ({}, 20), ({"validation_windows": 4}, 4), ({"validation_windows": 0}, 0)],
)
def test_a_text_arm_answers_as_many_validation_windows_as_test_windows_but_at_most_twenty(
    card, llama, town, own, count
):
    # All 22 windows of the test part, unless the arm sets fewer; 14 of them are in validation.
    suite = text_suite(card, llama, {"windows": None, **own}, validation={"select": "all"})
    inputs = Inputs(
        suite, TaskData(town, suite.tasks[0], split(town, suite.tasks[0], stride=24)), NO_PROGRESS
    )
    assert len(inputs.test) > 20
    samples = inputs.prompted_validation_samples(suite.predictor("text"))
    assert len(samples) == min(count, len(inputs.validation))


@pytest.mark.slow
def test_with_answers_off_each_run_asks_anew(card, llama, town, tmp_path):
    for name in ("one", "two"):
        _, rows, _, _ = run(study_of(card, llama, town)[0], tmp_path / name)
        assert {row["cached"] for row in rows} == {False}


def test_tokens_that_several_draws_share_are_counted_once(town, model, card, llama):
    suite = text_suite(card, llama, DRAWS)
    samples = [sample.without_truth() for sample in list(split(town, suite.tasks[0], stride=24).test)[:1]]
    done = run_text(Job(suite.predictor("text"), 0, suite.tasks[0].name, "text-0"), model, samples)
    prompts = {a.prompt.sha256: a.answer.tokens_in for a in done.answers}
    assert done.cost.tokens_in <= sum(prompts.values())
    assert done.cost.tokens_out == sum(a.answer.tokens_out for a in done.answers)


def test_a_suite_says_how_answers_are_drawn_and_the_seed_of_the_job_draws_them(card, llama):
    predictor = text_suite(card, llama, DRAWS).predictor("text")
    assert decoding_settings(predictor, 7) == Decoding(draws=3, temperature=1.0, top_p=0.9, seed=7)
    assert decoding_settings(text_suite(card, llama, {}).predictor("text"), 0) == Decoding()


ENDPOINT = "openai:http://127.0.0.1:9/v1#some-model"


def test_an_endpoint_may_answer_the_text_arm_and_is_described_by_its_name(card, town):
    study, _ = study_of(card, ENDPOINT, town, llm={"name": ENDPOINT})
    described = study.inputs.models.describe()
    assert described["name"] == ENDPOINT
    assert {value for key, value in described.items() if key != "name"} == {None}


def test_an_endpoint_for_arms_that_need_weights_is_refused_before_any_work(card, llama, town):
    suite = Suite.model_validate(tiny_suite.everything(card, llama) | {"llm": {"name": ENDPOINT}})
    with pytest.raises(ConfigError, match="'matched' needs a language model's weights, but openai:"):
        Study(
            Inputs(
                suite,
                TaskData(town, suite.tasks[0], split(town, suite.tasks[0], stride=24)),
                ProgressReporter(),
            )
        )
