"""The progress of a comparison: which arm, what is left of the whole run, and what an earlier start finished."""

import pytest

from st2llm.evaluate.run.progress import PlannedArm, RunProgress, TrainingLines, show_run_progress

ARMS = (
    PlannedArm("town", "ridge-0", "ridge", "ridge", 1.0),
    PlannedArm("town", "lora-0", "lora, seed 0", "lora", 100.0),
    PlannedArm("town", "lora-1", "lora, seed 1", "lora", 100.0),
)


class Clock:
    def __init__(self):
        self.time = 1000.0

    def __call__(self):
        return self.time


@pytest.fixture
def clock():
    return Clock()


def run_arm(run, clock, key, seconds):
    run.begin("town", key)
    clock.time += seconds
    run.finish("town", key)


def test_time_left_is_unknown_before_anything_is_measured_and_zero_at_the_end(clock):
    run = RunProgress(ARMS, clock)
    assert run.seconds_left() is None
    assert run.line() == "0 of 3 arms done; time left not known yet"
    for arm in ARMS:
        run_arm(run, clock, arm.key, 5)
    assert (run.seconds_left(), run.share) == (0.0, 1.0)
    assert run.line() == "3 of 3 arms done; about 0 s left for all"


def test_another_seed_is_expected_to_take_as_long_as_the_first_whatever_was_planned(clock):
    run = RunProgress(ARMS, clock)
    run_arm(run, clock, "ridge-0", 1)
    assert run.seconds_left() == pytest.approx(200)
    run_arm(run, clock, "lora-0", 480)
    assert run.seconds_left() == pytest.approx(480)
    assert run.share == pytest.approx(481 / 961)


def test_the_line_names_arm_stage_step_and_the_time_left_for_all(clock):
    run = RunProgress(ARMS, clock)
    run_arm(run, clock, "ridge-0", 1)
    run.begin("town", "lora-0")
    run.start("lora-0, lr 0.001", 200)
    clock.time += 60
    run.update(50)
    # 180 s for the other 150 steps, and 100 s for the second seed, of which nothing is known yet.
    assert run.line() == "arm 2 of 3: lora, seed 0, lr 0.001, step 50 of 200; about 5 min left for all"
    assert run.seconds_left() == pytest.approx(180 + 100)


def test_arms_that_are_trained_together_are_named(clock):
    run = RunProgress(ARMS, clock)
    run.begin("town", "lora-0")
    run.start("lora-0 together with seed 1, lr 0.001", 200)
    assert run.line().startswith("arm 1 of 3: lora, seed 0, together with seed 1, lr 0.001; ")


def test_time_left_is_never_negative_however_long_an_arm_takes(clock):
    run = RunProgress(ARMS[:2], clock)
    run_arm(run, clock, "ridge-0", 1)
    run.begin("town", "lora-0")
    clock.time += 10_000
    assert run.seconds_left() == 0.0
    run.start("lora-0", 10)
    run.update(10)
    assert run.seconds_left() == 0.0


def test_the_first_arm_tells_its_time_by_its_own_steps(clock):
    run = RunProgress(ARMS[1:], clock)
    run.begin("town", "lora-0")
    run.start("lora-0", 10)
    clock.time += 30
    run.update(1)
    assert run.seconds_left() == pytest.approx(30 * 9 + 300)


def test_arms_of_an_earlier_start_count_as_done_and_tell_the_speed(clock):
    before = PlannedArm("town", "lora-0", "lora, seed 0", "lora", 100.0, seconds=480.0)
    run = RunProgress([ARMS[0], before, ARMS[2]], clock)
    assert run.seconds_left() == pytest.approx(4.8 + 480)
    run.begin("town", "lora-1")
    assert run.line().startswith("arm 2 of 3: lora, seed 1; about 8 min left")


def test_an_arm_that_is_run_again_and_one_outside_the_plan_are_counted(clock):
    before = PlannedArm("town", "lora-0", "lora, seed 0", "lora", 100.0, seconds=480.0)
    run = RunProgress([before], clock)
    run.begin("town", "lora-0")
    assert run.line().startswith("arm 1 of 1")
    run.finish("town", "lora-0")
    run.begin("town-control", "none-0")
    assert run.line().startswith("arm 2 of 2: none-0")


def test_without_a_terminal_each_arm_prints_one_line(capfd):
    with show_run_progress(True, ARMS) as reporter:
        for arm in ARMS:
            reporter.begin("town", arm.key)
            reporter.start(arm.key, 100)
            for step in range(100):
                reporter.update(step)
            reporter.finish("town", arm.key)
    lines = capfd.readouterr().err.splitlines()
    assert [line.partition(";")[0] for line in lines] == [
        f"arm {number} of 3: {arm.label}" for number, arm in enumerate(ARMS, 1)
    ]


def test_a_training_in_a_pipe_prints_its_first_step_then_a_line_each_half_minute_with_the_time_left(clock):
    printed = []
    lines = TrainingLines(printed.append, clock)
    lines.start("masked", 500)
    assert printed == []  # a finished run takes no step
    for step in range(100, 141):
        lines.update(step)
        clock.time += 2
    assert printed[0] == "masked: step 100 of 500"
    assert printed[1] == "masked: step 115 of 500; about 13 min left"
    assert len(printed) == 3
