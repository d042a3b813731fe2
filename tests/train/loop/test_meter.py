"""The meter tells how long a stretch of work took, and its highest memory even if it was given back."""

import mmap
import time

import pytest

from st2llm.train.loop.meter import Meter


def test_it_measures_wall_clock_seconds():
    began = time.perf_counter()
    with Meter() as meter:
        time.sleep(0.1)
    assert 0.1 <= meter.seconds <= time.perf_counter() - began


def test_it_sees_memory_that_was_given_back_before_the_end():
    with Meter() as idle:
        pass
    with Meter() as meter:
        block = mmap.mmap(
            -1, 200_000_000
        )  # from the system itself: what training freed may be kept for the next
        block.write(b"1" * len(block))
        deadline = time.perf_counter() + 20
        while meter.peak_mb < idle.peak_mb + 150 and time.perf_counter() < deadline:
            time.sleep(0.02)
        block.close()
    assert meter.peak_mb > idle.peak_mb + 150


def test_it_stops_watching_at_the_end():
    with Meter() as meter:
        pass
    assert not meter._thread.is_alive()


def test_an_error_inside_is_not_swallowed():
    with pytest.raises(ZeroDivisionError), Meter():
        raise ZeroDivisionError
