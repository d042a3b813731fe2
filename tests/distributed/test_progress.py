"""Each worker says how far its job is, and one line tells it of all."""

import io
import json

from rich.console import Console

from st2llm.distributed.progress import ProgressFile, ProgressView, SharedProgress, read_stage
from st2llm.evaluate.run.progress import PlannedArm

ARMS = [PlannedArm("s", f"arm-{i}", f"arm, seed {i}", "arm", 10.0) for i in range(5)]


def test_the_file_of_a_job_says_its_step_at_most_once_a_second_and_is_gone_after_it(tmp_path):
    clock = [0.0]
    file = ProgressFile(now=lambda: clock[0])
    with file.of(tmp_path, "arm-1"):
        assert read_stage(tmp_path, "arm-1") == ""
        file.reporter.start("arm-1, lr 0.1", 200)
        file.reporter.update(1)
        assert read_stage(tmp_path, "arm-1") == "arm-1, lr 0.1"
        clock[0] = 2.0
        file.reporter.update(120)
        assert read_stage(tmp_path, "arm-1") == "arm-1, lr 0.1, step 120 of 200"
    assert list(tmp_path.iterdir()) == []
    file.reporter.start("after it", 1)


def test_a_file_that_is_cut_short_says_nothing(tmp_path):
    (tmp_path / "a.progress.json").write_text(json.dumps({"stage": "a"})[:5])
    assert read_stage(tmp_path, "a") == ""


def test_notes_of_a_worker_are_taken_once(tmp_path):
    file = ProgressFile()
    file.reporter.note("look")
    assert (file.take_notes(), file.take_notes()) == (("look",), ())


def test_the_time_left_is_shared_by_the_workers():
    progress = SharedProgress(ARMS)
    progress.workers = 2
    assert progress.seconds_left() is None
    progress.finish("s", "arm-0", 20.0)
    assert progress.seconds_left() == 4 * 20.0 / 2
    assert progress.share == 0.2
    for arm in ARMS[1:]:
        progress.finish("s", arm.key, 20.0)
    assert progress.line([]) == "5 of 5 arms done, 0 running; about 0 s left for all"


def test_without_a_terminal_a_line_is_printed_when_a_job_begins_and_not_at_each_poll():
    out = io.StringIO()
    view = ProgressView(SharedProgress(ARMS), Console(file=out, width=200))
    view.show(["arm-0", "arm-1"], begins=True)
    view.show(["arm-0"])
    assert out.getvalue() == "0 of 5 arms done, 2 running (arm-0; arm-1); time left not known yet\n"
