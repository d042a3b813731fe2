"""Answers of every kind become rows, and rows become the metrics worked out by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from support import fields, handmade

from st2llm import metrics
from st2llm.evaluate.scoring.score_table import ENTRY, build_score_table, with_all_columns
from st2llm.evaluate.scoring.totals import mean_draws, score, totals_by_sample
from st2llm.types import Prediction

NAN = np.nan


def unread(**more):
    return Prediction(None, unread_reason="nothing was said", **more)


def said(sample, values, **more):
    """An answer whose wanted entries are these, in the order of numpy."""
    value = np.full(sample.values.shape, NAN)
    value[sample.wanted] = values
    return Prediction(value, **more)


FIELD = fields.windows(fields.series(20), history=3, horizon=2, stride=5)
WALK = [handmade.path([(0, 0), (1, 0), (2, 0), (3, 0)], slice(2, 4), name=name) for name in ("a", "b")]
STAYS = [handmade.stays([("a", 1), ("b", 2), (truth, 3)], name=f"user/{i}") for i, truth in enumerate("abc")]


def test_a_row_for_each_asked_entry_place_by_place():
    frame = build_score_table(FIELD, [Prediction(s.truth) for s in FIELD])
    assert len(frame) == sum(int(s.wanted.sum()) for s in FIELD)
    first = frame[frame["sample"] == FIELD[0].id]
    assert first["place"].tolist() == ["place-0", "place-0", "place-1", "place-1", "place-2", "place-2"]
    assert first["step"].tolist() == [0, 1] * 3
    assert (frame["value"] == frame["truth"]).all()
    assert not frame["unread"].any()
    assert set(frame["part"]) == {"value"}
    assert not frame.duplicated(ENTRY).any()


def test_an_unread_answer_is_as_many_rows_without_a_value():
    frame = build_score_table(FIELD[:2], [unread(), Prediction(FIELD[1].truth)])
    assert frame.groupby("sample", observed=True, sort=False)["unread"].all().tolist() == [True, False]
    assert frame["value"].isna().sum() == 6


def test_a_frame_survives_its_file(tmp_path):
    answers = [Prediction(value=s.truth, ranking=(s.label, "d")) for s in STAYS]
    frame = build_score_table(STAYS, answers)
    frame.to_parquet(tmp_path / "x.parquet", index=False)
    again = pd.read_parquet(tmp_path / "x.parquet")
    assert score(again, metrics.RANK_METRICS) == score(frame, metrics.RANK_METRICS)
    pd.testing.assert_frame_equal(totals_by_sample(again), totals_by_sample(frame))


def test_totals_of_samples_add_up_to_those_of_the_whole():
    rng = np.random.default_rng(0)
    frame = build_score_table(FIELD, [said(s, s.truth[s.wanted] + rng.normal(size=6)) for s in FIELD])
    sums = totals_by_sample(frame).groupby("metric")[["sum", "count"]].sum()
    columns = (frame[name].to_numpy() for name in ("value", "truth", "valid"))
    for name, (total, count) in metrics.value_totals(*columns).items():
        assert sums.loc[name].tolist() == pytest.approx([total, count])


def test_a_table_of_an_earlier_version_is_scored_as_before():
    frame = build_score_table(FIELD, [said(s, s.truth[s.wanted] + 1.0) for s in FIELD])
    older = frame.drop(columns=["part", "q05", "q50", "q95"])
    assert score(older, metrics.VALUE_METRICS) == score(frame, metrics.VALUE_METRICS)
    pd.testing.assert_frame_equal(totals_by_sample(older), totals_by_sample(frame))


def test_columns_that_say_nothing_are_left_out_and_may_be_added():
    frame = build_score_table(FIELD, [said(s, s.truth[s.wanted]) for s in FIELD])
    assert not {"rank", "label", "nll", "crps", "draws", "energy_m"} & set(frame)
    whole = with_all_columns(frame)
    assert whole["rank"].isna().all() and (whole["draws"] == 0).all()
    assert with_all_columns(whole) is whole


def test_a_column_that_one_answer_has_is_there_for_all():
    """What is drawn of one sample alone: the others are scored by their value."""
    draws = np.stack([FIELD[1].truth - 1.0, FIELD[1].truth + 1.0])
    answers = [said(s, s.truth[s.wanted] + 1.0) for s in FIELD]
    answers[1] = Prediction(answers[1].value, samples=draws)
    frame = build_score_table(FIELD, answers)
    assert frame.groupby("sample", observed=True, sort=False)["draws"].max().tolist() == [
        0,
        2,
        *[0] * (len(FIELD) - 2),
    ]
    assert frame["crps"].notna().sum() == 6
    assert mean_draws(frame) == 2


# positions


def test_ade_and_fde_of_paths_by_hand():
    # a is off by (3, 4) and (0, 0), b by (0, 1) and (0, 5)
    answers = [said(WALK[0], [5, 4, 3, 0]), said(WALK[1], [2, 1, 3, 5])]
    frame = build_score_table(WALK, answers)
    assert set(frame["part"]) == {"x", "y"}
    assert score(frame, ("ade_m", "fde_m")) == {"ade_m": 11 / 4, "fde_m": 5 / 2}
    found = totals_by_sample(frame)
    assert set(found["metric"]) == {"displacement", "final_displacement"}
    assert found[found["metric"] == "final_displacement"]["sum"].tolist() == [0, 5]
    assert found[found["metric"] == "final_displacement"]["count"].tolist() == [1, 1]


def test_a_step_of_which_one_coordinate_is_missing_does_not_count():
    walk = handmade.path([(0, 0), (1, 0), (2, NAN), (3, 0)], slice(2, 4))
    frame = build_score_table([walk], [said(walk, [9, 9, 3, 1])])
    assert score(frame, ("ade_m", "fde_m")) == {"ade_m": 1, "fde_m": 1}


def test_coordinates_are_no_values():
    frame = build_score_table(WALK, [said(walk, [1, 2, 3, 4]) for walk in WALK])
    assert "mae" not in score(frame, metrics.METRICS)


# labels


def test_ranks_of_places_by_hand():
    rankings = [("a", "b"), ("a", "c", "b"), ("a", "b")]  # a is true, then b, then c
    answers = [Prediction(value=s.truth * 0, ranking=r) for s, r in zip(STAYS, rankings, strict=True)]
    frame = build_score_table(STAYS, answers)
    assert frame["rank"].tolist() == [1, 3, math.inf]
    assert frame["label"].tolist() == ["a", "b", "c"]
    assert frame["answer"].tolist() == ["a", "a", "a"]
    assert score(frame, metrics.RANK_METRICS) == pytest.approx(
        {"acc@1": 1 / 3, "acc@5": 2 / 3, "acc@10": 2 / 3, "mrr": (1 + 1 / 3) / 3}
    )


def test_a_code_without_a_ranking_is_a_ranking_of_one():
    frame = build_score_table(STAYS, [said(sample, [1.0]) for sample in STAYS])
    assert frame["answer"].tolist() == ["b", "b", "b"]
    assert frame["rank"].tolist() == [math.inf, 1, math.inf]


def test_a_label_that_was_not_read_has_no_rank():
    frame = build_score_table(STAYS[:1], [unread()])
    assert frame[["unread", "valid"]].to_numpy().tolist() == [[True, True]]
    assert math.isnan(frame["rank"].iloc[0])
    assert totals_by_sample(frame).empty


def test_the_class_of_a_clip_is_one_row():
    clips = [
        handmade.clip(np.ones((3, 2, 1)), label, name=f"c{i}/0")
        for i, label in enumerate(["wave", "walk", "walk"])
    ]
    answers = [
        Prediction(None, ranking=order) for order in (("wave", "walk"), ("wave", "walk"), ("walk", "wave"))
    ]
    frame = build_score_table(clips, answers)
    assert len(frame) == 3
    assert set(frame["channel"]) == {-1}
    # wave: 1 of 2 said, 1 of 1 true: 2/3. walk: 1 of 1 said, 1 of 2 true: 2/3
    assert score(frame, ("acc@1", "mrr", "f1")) == pytest.approx(
        {"acc@1": 2 / 3, "mrr": 2.5 / 3, "f1": 2 / 3}
    )


# events


def test_gaps_are_values_and_marks_are_labels_and_neither_is_mixed_with_the_other():
    event = handmade.events([1, 2, 4], marks=[0, 1, 0, 2], asked=("gap_h", "mark"))
    value = np.where(event.wanted, 0.0, NAN)
    value[-1, 0, 0] = 3.0
    frame = build_score_table([event], [Prediction(value, ranking=("small", "huge"))])
    got = score(frame, metrics.metrics_for("event", "next-event", ("gap_h", "mark")))
    assert got["mae"] == 1.0
    assert (got["acc@1"], got["acc@5"], got["mrr"]) == (0, 1, 0.5)


def test_a_density_gives_the_nats_of_the_truth():
    event = handmade.events([1, 2, 4])
    answer = said(event, [2.0], log_density={"gap_h": lambda gap: math.log(0.5) - 0.5 * gap})
    assert score(build_score_table([event], [answer]), ("nll",))["nll"] == pytest.approx(2 - math.log(0.5))


def test_draws_give_crps_and_say_how_many_they_were():
    event = handmade.events([1, 2, 4])
    draws = np.stack([said(event, [v]).value for v in (3.0, 7.0, NAN)])
    frame = build_score_table([event], [said(event, [5.0], samples=draws)])
    assert frame["draws"].tolist() == [2]
    assert frame["crps"].tolist() == [2 - 8 / 4]
    assert mean_draws(frame) == 2
    assert mean_draws(build_score_table([event], [said(event, [5.0])])) is None


def test_where_some_entries_have_draws_the_others_count_as_point_forecasts():
    event = [handmade.events([1, 2, 4], name=str(i)) for i in range(2)]
    draws = np.stack([said(event[0], [v]).value for v in (3.0, 7.0)])
    frame = build_score_table(event, [said(event[0], [5.0], samples=draws), said(event[1], [9.0])])
    assert score(frame, ("crps",))["crps"] == (0 + 5) / 2
