"""From predictions to records, by hand: two places, two hours a day, made-up arms."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, r2_score
from support import handmade
from support.finished_arms import (
    COST,
    DAYS,
    ERRORS,
    PLACES,
    arms_of,
    records_of,
    table,
    text_arms,
    truth_of,
    validated,
)

from st2llm import metrics
from st2llm.config.suite import Suite
from st2llm.evaluate.run_folder.record import Record
from st2llm.evaluate.scoring.arms import FinishedArms
from st2llm.evaluate.scoring.gains.choice import best_on_validation, references
from st2llm.evaluate.scoring.gains.gain import Scores
from st2llm.evaluate.scoring.gains.validation import score_validation
from st2llm.evaluate.scoring.records import (
    build_records,
    score_arms,
    validation_score,
)
from st2llm.evaluate.scoring.score_table import build_score_table
from st2llm.predict.answer_counts import count_categories
from st2llm.types import Prediction


def test_metrics_of_a_record_can_be_computed_again_from_the_scores_exactly():
    arms = arms_of(("last-value", 5.0, table(ERRORS)), ("lora", 4.0, [table(ERRORS / 2), table(ERRORS / 3)]))
    scores = score_arms(arms)
    assert set(scores) == {
        "predictor", "seed", "task", "sample", "block", "time", "metric", "sum", "count",
    }  # fmt: skip
    for record in (record.to_json() for record in build_records(arms, scores)):
        rows = scores[scores["predictor"] == record["predictor"]]
        if record["seed"] is not None:
            rows = rows[rows["seed"] == record["seed"]]
        totals = rows.groupby("metric")[["sum", "count"]].sum()
        sums = {str(k): np.asarray(v) for k, v in totals["sum"].items()}
        counts = {str(k): np.asarray(float(v)) for k, v in totals["count"].items()}
        for name in metrics.VALUE_METRICS:
            want = float(metrics.metric_from_totals(name, sums, counts))
            assert record["metrics"][name]["value"] == pytest.approx(want, rel=1e-12), name


def test_an_arm_is_also_measured_against_the_best_trained_arm_where_a_rule_is_the_reference():
    """The rule is best on validation and bad on test; the LLM arm is better than it, but not than `none`."""
    arms = arms_of(
        ("hour-of-week", 1.0, table(3 * ERRORS)), ("none", 3.0, table(ERRORS / 2)), ("random", 4.0, table(ERRORS)),
        ("frozen", 2.0, table(ERRORS / 2)),
    )  # fmt: skip
    record = records_of(arms)["frozen", None]
    assert (record["gain_best"]["vs"], record["gain_trained"]["vs"]) == ("hour-of-week", "none")
    assert record["gain_best"]["value"] == pytest.approx(5 / 6)
    assert record["gain_trained"]["value"] == 0.0
    assert Record.from_json(record).to_json() == record
    assert "gain_trained" not in records_of(arms)["none", None]


def test_metrics_agree_with_scikit_learn():
    frame = table(ERRORS)
    record = records_of(arms_of(("last-value", 5.0, frame)))["last-value", None]
    assert record["metrics"]["mae"]["value"] == pytest.approx(
        mean_absolute_error(frame["truth"], frame["value"])
    )
    assert record["metrics"]["r2"]["value"] == pytest.approx(r2_score(frame["truth"], frame["value"]))


def test_a_record_holds_every_field_that_is_promised():
    record = records_of(arms_of(("last-value", 5.0, table(ERRORS)), ("lora", 4.0, table(ERRORS / 2))))[
        "lora", None
    ]
    promised = [
        "suite",
        "data",
        "kind",
        "task",
        "predictor",
        "family",
        "backbone",
        "llm",
        "seed",
        "n",
        "unread",
        "converged",
        "metrics",
        "cost",
    ]
    assert {*promised, "gain_best", "gain_pretraining"} <= set(record)
    assert set(record["gain_best"]) >= {"vs", "value", "low", "high", "n_blocks"}
    assert set(record["cost"]) == set(COST)
    assert all(set(estimate) == {"value", "low", "high"} for estimate in record["metrics"].values())


def test_there_is_a_record_of_each_seed_and_one_pooled_over_them():
    arms = arms_of(("last-value", 5.0, table(2.0)), ("none", 5.0, [table(1.0), table(3.0)]))
    found = records_of(arms)
    assert set(found) == {("last-value", None), ("last-value", 0), ("none", None), ("none", 0), ("none", 1)}
    assert [found["none", s]["metrics"]["mae"]["value"] for s in (0, 1, None)] == pytest.approx(
        [1.0, 3.0, 2.0]
    )
    assert found["none", None]["seeds"] == [0, 1]
    assert found["none", None]["cost"]["train_s"] == 1.5
    assert found["none", None]["cost"]["peak_mb"] == 101.0
    assert [found["none", s]["converged"] for s in (0, 1, None)] == [True, False, False]


def test_n_counts_answers_of_windows_and_places_over_seeds():
    found = records_of(arms_of(("last-value", 5.0, table(2.0)), ("none", 5.0, [table(1.0), table(3.0)])))
    assert found["last-value", None]["n"] == DAYS * len(PLACES)
    assert found["none", None]["n"] == 2 * DAYS * len(PLACES)


@pytest.mark.slow
def test_a_record_counts_answers_not_places_where_there_is_a_ledger():
    arms = text_arms()
    ledger = count_categories(["readable"] * 20 + ["truncated"] * 3 + ["refused"])
    decoding = {"draws": 3, "temperature": 0.7, "top_p": 1.0, "seed": 0}
    facts = [
        f | {"ledger": ledger, "decoding": decoding} if f["family"] == "text" else f for f in arms.results
    ]
    found = records_of(FinishedArms(arms.suite, arms.timezone, facts, arms.predictions))
    record = found["text", None]
    assert (record["n"], record["unread"]) == (24, 4)
    assert (record["ledger"], record["decoding"]) == (ledger, decoding)
    assert record["unread_rules"] == records_of(arms)["text", None]["unread_rules"]
    assert found["last-value", None]["ledger"] is None
    json.dumps(record, allow_nan=False)


ARMS = ("last-value", "hour-of-week", "lora", "text")
EASY, HARD = 1.0, np.repeat([1.0, 5.0], [16, DAYS * 4 - 16])
"""Errors on validation: of four easy days, and of all days."""


def validated_arms(text, lora=HARD, *, unread=(), tables=ARMS):
    """Arms of which the text arm answered the first four days of validation alone. text, lora: their errors there."""
    found = {
        "last-value": table(2.0),
        "hour-of-week": table(-8.0),
        "lora": table(lora),
        "text": table(text, days=4, unread=set(unread)),
    }
    arms = validated(
        arms_of(*((name, 3.0, table(1.0)) for name in ARMS)), {name: found[name] for name in tables}
    )
    return replace(arms, validation_totals=score_validation(arms))


def best_of(arms):
    return {r.predictor for r in build_records(arms, score_arms(arms)) if r.best_on_validation}


def test_arms_are_chosen_on_the_validation_windows_that_all_candidates_answered():
    arms = validated_arms(text=1.5)
    assert [validation_score(arms, arms.of(name)[0]) for name in ("text", "lora")] == [
        1.5,
        pytest.approx(13 / 3),
    ]
    assert best_of(arms) == {"last-value", "lora"}
    assert best_of(validated_arms(text=0.5)) == {"last-value", "text"}


def test_unread_answers_on_validation_are_penalised_by_the_rule_that_is_worst_there():
    arms = validated_arms(text=EASY, unread=((0, "a"),))
    assert validation_score(arms, arms.of("text")[0]) == pytest.approx((14 * 1.0 + 2 * 8.0) / 16)
    assert best_of(arms) == {"last-value", "lora"}


def test_an_arm_of_fewer_windows_is_not_chosen_over_one_whose_windows_cannot_be_compared():
    assert best_of(validated_arms(text=0.1, tables=("last-value", "hour-of-week", "text"))) == {
        "last-value",
        "lora",
    }


def test_unread_answers_without_a_rule_that_answered_validation_windows_leave_no_validation_score():
    arms = validated_arms(text=EASY, unread=((0, "a"),), tables=("text",))
    record = records_of(arms)["text", None]
    assert record["validation"] is None
    assert "best_on_validation" not in record


def test_the_validation_score_of_an_arm_is_the_mean_over_its_seeds_not_its_best_seed():
    """The seeds of `none` score 1 and 9 on validation, those of `random` 4 and 4."""
    arms = arms_of(
        ("none", 0.0, [table(1.0)] * 2), ("random", 0.0, [table(1.0)] * 2), ("lora", 1.0, table(1.0))
    )
    scores = iter((1.0, 9.0, 4.0, 4.0, 1.0))
    arms = replace(arms, results=[result | {"validation": next(scores)} for result in arms.results])
    assert best_on_validation(arms, references(arms)) == "random"
    assert records_of(arms)["none", None]["validation"] == 5.0


def test_the_reference_is_the_arm_that_is_best_on_validation_not_on_test():
    arms = arms_of(
        ("last-value", 3.0, table(9.0)), ("none", 4.0, table(1.0)), ("lora", 1.0, table(4.5))
    )  # fmt: skip
    assert best_on_validation(arms, references(arms)) == "last-value"
    gain = records_of(arms)["lora", None]["gain_best"]
    assert (gain["vs"], gain["value"]) == ("last-value", pytest.approx(0.5))


def test_arms_with_pretrained_weights_are_no_reference_but_random_ones_are():
    arms = arms_of(("last-value", 3.0, table(9.0)), ("frozen", 1.0, table(1.0)), ("random", 2.0, table(2.0)))
    assert best_on_validation(arms, references(arms)) == "random"


def reference_of(*given, **changes):
    arms = arms_of(*given, **changes)
    return best_on_validation(arms, references(arms))


def test_the_best_reference_has_the_highest_validation_where_higher_is_better():
    given = (("last-value", 0.9, table(9.0)), ("none", 0.2, table(1.0)), ("lora", 0.5, table(4.5)))
    assert reference_of(*given, primary_metric="r2") == "last-value"
    assert reference_of(*given, primary_metric="mae") == "none"


def test_without_any_validation_there_is_no_best_reference_and_no_gain():
    arms = arms_of(("last-value", None, table(9.0)), ("lora", None, table(1.0)))
    assert best_on_validation(arms, references(arms)) is None
    assert records_of(arms)["lora", None]["gain_best"] is None


@pytest.mark.slow
def test_only_arms_with_pretrained_weights_have_gains():
    found = records_of(
        arms_of(("last-value", 3.0, table(9.0)), ("random", 2.0, table(2.0)), ("frozen", 1.0, table(1.0)))
    )
    assert found["random", None]["gain_best"] is None
    assert found["last-value", None]["gain_pretraining"] is None
    assert found["frozen", None]["gain_best"]["value"] == pytest.approx(0.5)


def test_metrics_do_not_depend_on_the_order_of_the_predictions():
    frame = table(ERRORS)
    mixed = frame.sample(frac=1.0, random_state=1)
    one, other = (records_of(arms_of(("last-value", 5.0, f)))["last-value", None] for f in (frame, mixed))
    for name in metrics.VALUE_METRICS:
        for key in ("value", "low", "high"):
            assert one["metrics"][name][key] == pytest.approx(other["metrics"][name][key], rel=1e-12)


def test_entries_without_truth_do_not_count():
    truth = truth_of()
    truth[::3] = np.nan
    arms = arms_of(("last-value", 5.0, table(2.0, truth=truth)))
    scores = score_arms(arms)
    errors = scores[scores["metric"] == "abs_error"]
    assert errors["count"].sum() == np.isfinite(truth).sum()
    assert records_of(arms)["last-value", None]["metrics"]["mae"]["value"] == pytest.approx(2.0)


def test_a_percentage_counts_only_where_the_truth_is_not_zero():
    truth = truth_of()
    truth[:8] = 0.0
    arms = arms_of(("last-value", 5.0, table(2.0, truth=truth)))
    want = (2.0 / truth[8:]).mean()
    assert records_of(arms)["last-value", None]["metrics"]["mape"]["value"] == pytest.approx(want)


def test_no_record_holds_a_number_that_json_does_not_know():
    truth = np.zeros(DAYS * 4)
    truth[:4] = 5.0  # one day alone has a percentage, so most draws have none
    arms = arms_of(("last-value", 5.0, table(0.0, truth=truth)), ("lora", 4.0, table(1.0, truth=truth)))
    found = records_of(arms)
    json.dumps(list(found.values()), allow_nan=False)
    assert found["lora", None]["metrics"]["mape"] == {"value": 0.2, "low": None, "high": None}
    assert found["lora", None]["gain_best"] is None


def test_a_block_is_the_local_day_of_what_is_asked():
    scores = score_arms(arms_of(("last-value", 5.0, table(2.0))))
    days = scores.groupby("sample")["block"].unique()
    assert [list(day) for day in days[:2]] == [["2024-01-01"], ["2024-01-02"]]
    assert Scores(scores).gain("mae", "last-value", "last-value").n_blocks == DAYS


# other kinds than fields

PLACES_SUITE = {
    "kind": "trajectory",
    "task": {"next-place": {"history": 3}},
    "llm": {"name": "tiny"},
}


def _stays(truths):
    return [handmade.stays([("a", 1), ("b", 2), (t, 3)], name=f"user{i}/0") for i, t in enumerate(truths)]


def _ranked(samples, rankings):
    answers = [
        Prediction(None, unread_reason="no place") if r is None else Prediction(s.truth * 0, ranking=tuple(r))
        for s, r in zip(samples, rankings, strict=True)
    ]
    return build_score_table(samples, answers)


def _place_arms(rankings):
    """A text arm with these rankings of 24 people beside two rules: one always right, one always second."""
    truths = "abc" * 8
    samples = _stays(truths)
    told = {
        "counts": _ranked(samples, truths),
        "counts-context": _ranked(samples, [f"d{t}" for t in truths]),
        "text": _ranked(samples, rankings),
    }
    suite = Suite.model_validate(
        {
            "id": "p", "version": 1, "data": "d", **PLACES_SUITE,
            "predictors": [
                {"name": "counts", "family": "baseline"},
                {"name": "counts-context", "family": "baseline"},
                {"name": "text", "family": "text", "backbone": "llm-frozen", "template": "trajectory/next-place"},
            ],
        }
    )  # fmt: skip
    facts = [
        {
            "key": name, "predictor": name, "family": "text" if name == "text" else "baseline",
            "backbone": "llm-frozen" if name == "text" else None, "pretrained": name == "text", "lora": False,
            "llm": None, "task": suite.tasks[0].name, "seed": 0, "converged": None, "cost": COST,
            "validation": {"counts": 1.0, "counts-context": 0.0}.get(name),
        }
        for name in told
    ]  # fmt: skip
    return FinishedArms(suite, "UTC", facts, told)


def test_rankings_are_scored_and_their_gain_is_a_difference():
    found = records_of(_place_arms(["a"] * 24))
    got = found["text", None]
    assert {name: got["metrics"][name]["value"] for name in ("acc@1", "acc@5", "mrr")} == pytest.approx(
        {"acc@1": 1 / 3, "acc@5": 1 / 3, "mrr": 1 / 3}
    )
    assert (got["n"], got["unread"]) == (24, 0)
    assert got["gain_best"]["vs"] == "counts"
    assert got["gain_best"]["value"] == pytest.approx(1 / 3 - 1)
    assert got["gain_best"]["n_blocks"] == 24
    assert set(got["metrics"]) == set(metrics.RANK_METRICS)
    json.dumps(got, allow_nan=False)


def test_unread_rankings_are_imputed_by_counts_and_penalised_by_the_worst_rule():
    rankings = [None] * 12 + ["x"] * 12
    got = records_of(_place_arms(rankings))["text", None]
    assert (got["n"], got["unread"]) == (24, 12)
    rules = {rule: found["acc@1"] for rule, found in got["unread_rules"].items()}
    assert rules == {"dropped": 0.0, "penalised": 0.0, "imputed": 0.5}
    assert got["unread_rules"]["penalised"]["acc@5"] == 0.5  # the worst rule is always second
    assert got["metrics"]["acc@1"]["value"] == 0.0
    assert got["metrics"]["acc@5"]["value"] == 0.5


def test_crps_stands_in_the_record_with_its_estimator_and_an_unread_entry_counts_as_its_stand_in():
    sample = [handmade.events([1, 2, 4.0], name=str(i)) for i in range(2)]
    draws = np.stack([np.where(sample[0].wanted, v, np.nan) for v in (3.0, 7.0)])
    drawn = Prediction(np.where(sample[0].wanted, 5.0, np.nan), samples=draws)
    last = [Prediction(np.where(s.wanted, 10.0, np.nan)) for s in sample]
    suite = Suite.model_validate(
        {
            "id": "e", "version": 1, "data": "d", "kind": "event", "task": {"next-event": {"history": 3}},
            "llm": {"name": "tiny"},
            "predictors": [
                {"name": "median-gap", "family": "baseline"},
                {"name": "text", "family": "text", "backbone": "llm-frozen", "template": "event/next-event"},
            ],
        }
    )  # fmt: skip
    facts = [
        {
            "key": name, "predictor": name, "family": family, "backbone": "llm-frozen" if family == "text" else None,
            "pretrained": family == "text", "lora": False, "llm": None, "task": suite.tasks[0].name, "seed": 0,
            "converged": None, "cost": COST, "validation": None,
        }
        for name, family in (("median-gap", "baseline"), ("text", "text"))
    ]  # fmt: skip
    told = {
        "median-gap": build_score_table(sample, last),
        "text": build_score_table(sample, [drawn, Prediction(None, unread_reason="nothing")]),
    }
    found = records_of(FinishedArms(suite, "UTC", facts, told))
    text = found["text", None]
    assert text["crps"] == {"estimator": "fair", "draws": 2.0}
    assert text["metrics"]["crps"]["value"] == pytest.approx((2 - 8 / 4 + 6) / 2)
    assert text["unread_rules"]["dropped"]["crps"] == 0.0
    assert "crps" not in found["median-gap", None]["metrics"]
    assert "nll" not in text["metrics"]
