"""Blocks of the bootstrap: days, weeks, objects, clips or samples."""

import pandas as pd
import pytest

from st2llm.evaluate.scoring.blocks import block_of_samples


def _blocks_of(samples, places, times, block, timezone="UTC"):
    frame = pd.DataFrame({"sample": samples, "place": places, "time": times})
    return block_of_samples(frame, block, timezone)


@pytest.mark.parametrize(
    ("block", "want"),
    [
        ("day", {"d/u1/0": "2024-01-07", "d/u1/1": "2024-01-09", "d/u2/0": "2024-01-08"}),
        ("week", {"d/u1/0": "2024-01-01", "d/u1/1": "2024-01-08", "d/u2/0": "2024-01-08"}),
        ("object", {"d/u1/0": "u1", "d/u1/1": "u1", "d/u2/0": "u2"}),
        ("place", {"d/u1/0": "u1", "d/u1/1": "u1", "d/u2/0": "u2"}),
        ("clip", {"d/u1/0": "u1", "d/u1/1": "u1", "d/u2/0": "u2"}),
        ("sample", {name: name for name in ("d/u1/0", "d/u1/1", "d/u2/0")}),
    ],
)
def test_blocks_are_days_weeks_objects_clips_or_samples(block, want):
    sunday_night = 1_704_668_400 - 3600  # 2024-01-07 22:00 UTC
    times = [sunday_night, sunday_night + 86_400 * 2, sunday_night + 3 * 3600]
    assert _blocks_of(["d/u1/0", "d/u1/1", "d/u2/0"], ["u1", "u1", "u2"], times, block) == want


def test_the_week_begins_on_monday_in_the_local_zone():
    late_sunday = 1_704_668_400  # 23:00 UTC, Monday noon in Auckland
    assert _blocks_of(["s"], ["p"], [late_sunday], "week", "Pacific/Auckland") == {"s": "2024-01-08"}
    assert _blocks_of(["s"], ["p"], [late_sunday], "week") == {"s": "2024-01-01"}


def test_trips_that_were_cut_from_one_object_are_one_block():
    frame = pd.DataFrame(
        {"sample": ["d/u1/1/0", "d/u1/2/0", "d/u2/0"], "place": ["u1/1", "u1/2", "u2"], "time": 0}
    )
    whole = {"u1/1": "u1", "u1/2": "u1"}
    got = block_of_samples(frame, "object", "UTC", whole)
    assert got == {"d/u1/1/0": "u1", "d/u1/2/0": "u1", "d/u2/0": "u2"}
