from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import five_kinds

from st2llm.serialize.lint.claims import check

GRAPH = five_kinds.field_samples(five_kinds.graph(), 48, 6)[0]
GRID = five_kinds.field_samples(five_kinds.grid(), 8, 2)[0]
WALK = five_kinds.walk_sample(five_kinds.walk(east=3.0, north=4.0), 8)
STAYS = five_kinds.stay_sample(five_kinds.stays())
EVENTS = five_kinds.event_samples(five_kinds.events(), 30)[0]
CLIP = five_kinds.named_clip(five_kinds.clip())
CUT = five_kinds.named_clip(five_kinds.clip(cut=True))
GAP = float(np.diff(five_kinds.events().time[:30]).max() / 3600)


def _verdicts(text, sample):
    return [(claim.topic, claim.verdict) for claim in check(text, sample)]


# Gate n shows 100 (n + 1) +- 40 with the peak at 17:00 and the low at 05:00, on two equal days.
@pytest.mark.parametrize(
    "text, about",
    [
        ("The highest value at Gate 0 is 140.", "maximum"),
        ("Gate 2 peaks with 340 people.", "maximum"),
        ("At Gate 1 the lowest count was 160 people an hour", "minimum"),
        ("140 is the highest value at Gate 0.", "maximum"),
        ("Gate 0 averages about 101 people.", "mean"),
        ("Gate 1 peaks at 17:00.", "time of maximum"),
        ("Gate 1 peaks at 5 pm.", "time of maximum"),
        ("The lowest values at gate-0 come at 05:00.", "time of minimum"),
        ("Gate 2 is busier than Gate 0.", "comparison"),
        ("Gate 0 is quieter than Gate 1.", "comparison"),
        ("Gate 1 stays steady overall.", "trend"),
        ("The maximum of the network is 340.", "maximum"),
        ("Gate 0 starts at 90.", "first value"),
    ],
)
def test_what_is_true_of_places_is_supported(text, about):
    line = GRAPH.values[0, 0, 0]
    assert _verdicts(text.replace("90", f"{line:g}"), GRAPH) == [(about, "supported")]


@pytest.mark.parametrize(
    "text, about",
    [
        ("The highest value at Gate 0 is 150.", "maximum"),
        ("At Gate 1 the lowest count was 60 people", "minimum"),
        ("Gate 0 averages about 120 people.", "mean"),
        ("Gate 1 peaks at 09:00.", "time of maximum"),
        ("Gate 0 is busier than Gate 1.", "comparison"),
        ("Gate 1 rises over what is shown.", "trend"),
        ("The maximum of the network is 140.", "maximum"),
    ],
)
def test_what_is_false_of_places_is_contradicted(text, about):
    assert _verdicts(text, GRAPH) == [(about, "contradicted")]


@pytest.mark.parametrize(
    "text",
    [
        "Gate 0 will probably peak at 150.",
        "The highest value is not 340.",
        "Gate 0 and Gate 1 have a maximum of 140.",
        "Gate 1 falls at night.",
        "There are 7 shops near Gate 1.",
        "The highest average is 300 at Gate 2.",
    ],
)
def test_what_cannot_be_held_against_the_values_is_uncheckable(text):
    assert {verdict for _, verdict in _verdicts(text, GRAPH)} == {"uncheckable"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A pleasant street.",
        "On Monday 1 January 2024 it was cold.",
        "45 Queen Street",
        "?!;;;...",
        "Gate 1 Gate 2",
    ],
)
def test_words_without_a_claim_are_no_claim(text):
    sample = replace(GRAPH, side=replace(GRAPH.side, labels=("45 Queen Street", "Gate 1", "Gate 2")))
    assert check(text, sample) == []


def test_several_claims_of_a_text_are_told_one_by_one():
    text = "Gate 0 ranges from 60 to 140 and it peaks at 17:00. Its mean is 100, but the lowest value is 20."
    assert _verdicts(text, GRAPH) == [
        ("minimum", "supported"),
        ("maximum", "supported"),
        ("time of maximum", "supported"),
        ("mean", "supported"),
        ("minimum", "contradicted"),
    ]


def test_a_claim_says_what_was_said_and_what_was_found():
    (claim,) = check("The highest value at Gate 0 is 150.", GRAPH)
    assert (claim.claimed, claim.measured, claim.clause) == (
        "150",
        "140",
        "The highest value at Gate 0 is 150.",
    )


def test_what_is_hidden_supports_nothing():
    data = five_kinds.graph()
    values = data.values.copy()
    values[48:] = 900
    sample = five_kinds.field_samples(replace(data, values=values), 48, 6)[0]
    assert _verdicts("The highest value at Gate 0 is 900.", sample) == [("maximum", "contradicted")]


def test_a_rise_and_a_fall_are_told_apart():
    data = five_kinds.graph()
    slope = np.arange(len(data.values))[:, None, None] * 4.0
    up = five_kinds.field_samples(replace(data, values=data.values + slope), 48, 6)[0]
    assert _verdicts("Counts at Gate 1 increase steadily.", up) == [("trend", "supported")]
    assert _verdicts("Counts at Gate 1 decline.", up) == [("trend", "contradicted")]


def test_a_value_at_a_clock_counts_where_there_is_one_day():
    day = five_kinds.field_samples(five_kinds.graph(), 24, 6)[0]
    assert _verdicts("Gate 0 had 140 at 17:00.", day) == [("value at 17:00", "supported")]
    assert _verdicts("Gate 0 had 130 at 17:00.", day) == [("value at 17:00", "contradicted")]
    assert _verdicts("Gate 0 had 140 at 17:00.", GRAPH) == [("value at 17:00", "uncheckable")]


def test_of_several_channels_one_must_be_named():
    values = np.concatenate([GRAPH.values, GRAPH.values + 1000], axis=2)
    two = replace(
        GRAPH,
        values=values,
        visible=np.isfinite(values),
        wanted=np.repeat(GRAPH.wanted, 2, axis=2),
        truth=None,
        side=replace(GRAPH.side, channels=("wind", "heat")),
    )
    assert _verdicts("The highest heat at Gate 0 is 1140.", two) == [("maximum", "supported")]
    assert _verdicts("The highest value at Gate 0 is 1140.", two) == [("maximum", "uncheckable")]


@pytest.mark.parametrize(
    "text, verdict",
    [
        ("The south is warmest.", "supported"),
        ("The northern half is the warmest.", "contradicted"),
        ("The south-east is the warmest quarter.", "supported"),
        ("It is coldest in the north-east.", "supported"),
        ("The coldest quarter is the northwest.", "contradicted"),
        ("The lowest value is 10.0 °C.", "supported"),
        ("The highest value is 40.0 °C.", "contradicted"),
        ("The sea warms over the period.", "supported"),
        ("The sea cools over the period.", "contradicted"),
        ("The south-west is warmer than last year.", None),
    ],
)
def test_claims_about_a_map(text, verdict):
    found = check(text, GRID)
    assert [claim.verdict for claim in found] == ([] if verdict is None else [verdict])


@pytest.mark.parametrize(
    "text, about, verdict",
    [
        ("The walker travels 35 metres.", "distance", "supported"),
        ("The path is 0.035 km long.", "distance", "supported"),
        ("The walker travels 50 metres.", "distance", "contradicted"),
        ("It heads north-east.", "direction", "supported"),
        ("It moves towards the north east.", "direction", "supported"),
        ("It walks south.", "direction", "contradicted"),
        ("It walks east.", "direction", "uncheckable"),
        ("It walks north and then turns.", "direction", "uncheckable"),
        ("The average speed is 0.083 m/s.", "mean speed", "supported"),
        ("There are 8 positions.", "number of positions", "supported"),
        ("There are 9 positions.", "number of positions", "contradicted"),
    ],
)
def test_claims_about_a_walk(text, about, verdict):
    assert _verdicts(text, WALK)[0] == (about, verdict)


@pytest.mark.parametrize(
    "text, about, verdict",
    [
        ("The user makes 5 stays.", "number of stays", "supported"),
        ("There are 4 different places.", "different places", "contradicted"),
        ("There are 3 different places.", "different places", "supported"),
        ("Most time is spent at home.", "longest at", "supported"),
        ("Most time is spent at gym.", "longest at", "contradicted"),
        ("The longest stay is at work.", "longest at", "supported"),
        ("The most visited place is home.", "most visited", "supported"),
        ("The most visited place is work.", "most visited", "contradicted"),
    ],
)
def test_claims_about_stays(text, about, verdict):
    assert _verdicts(text, STAYS) == [(about, verdict)]


@pytest.mark.parametrize(
    "text, about, verdict",
    [
        ("There are 30 events.", "number of events", "supported"),
        ("There are 31 events.", "number of events", "contradicted"),
        ("20 thefts were reported.", "number of theft", "supported"),
        ("12 fires were reported.", "number of fire", "contradicted"),
        ("The last event is a theft.", "last mark", "supported"),
        ("The latest event was a fire.", "last mark", "contradicted"),
        ("The largest magnitude is 3.9.", "largest magnitude", "supported"),
        ("The strongest event has a magnitude of 4.5.", "largest magnitude", "contradicted"),
        (f"The longest gap is {GAP:.0f} hours.", "longest gap", "supported"),
        ("The longest gap is 2 days.", "longest gap", "contradicted"),
        ("The most frequent sort is theft.", "most frequent mark", "supported"),
        ("The most common sort is fire.", "most frequent mark", "contradicted"),
        ("More than 10 events happened.", "number of events", "uncheckable"),
    ],
)
def test_claims_about_events(text, about, verdict):
    assert _verdicts(text, EVENTS) == [(about, verdict)]


@pytest.mark.parametrize(
    "text, sample, about, verdict",
    [
        ("A square moves left.", CLIP, "direction", "supported"),
        ("A square moves from right to left.", CLIP, "direction", "supported"),
        ("A square moves to the right.", CLIP, "direction", "contradicted"),
        ("There is no cut.", CLIP, "cut", "supported"),
        ("There is a cut in the middle.", CLIP, "cut", "contradicted"),
        ("There is a cut.", CUT, "cut", "supported"),
        ("There are no cuts.", CUT, "cut", "contradicted"),
        ("It is brighter at the end.", CUT, "brightness", "supported"),
        ("The picture darkens.", CUT, "brightness", "contradicted"),
        ("It is brighter at the end.", CLIP, "brightness", "uncheckable"),
        ("Most motion is in the centre.", CLIP, "most motion", "supported"),
        ("Most motion is in the top left.", CLIP, "most motion", "contradicted"),
        ("The clip has 10 frames.", CLIP, "frames", "supported"),
        ("The clip lasts 5 seconds.", CLIP, "duration", "contradicted"),
    ],
)
def test_claims_about_a_clip(text, sample, about, verdict):
    assert _verdicts(text, sample) == [(about, verdict)]


@given(st.text(alphabet="Gate 0123.,:;-%highest lowest mean peaks at from to and\n", max_size=120))
def test_no_words_raise(text):
    for sample in (GRAPH, GRID, WALK, STAYS, EVENTS):
        for claim in check(text, sample):
            assert claim.verdict in ("supported", "contradicted", "uncheckable")
