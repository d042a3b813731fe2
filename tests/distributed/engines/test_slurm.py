"""Jobs through submitit, on its executor of this machine: equal results, and one message for what goes wrong."""

import os
import sys

import pytest
from support.faulty_model import FaultyModel, request
from support.tiny_suite import assert_same_numbers
from support.waiting_comparison import WaitingComparison

from st2llm.distributed.cluster import run_on, start_engine
from st2llm.distributed.placement import parse_placement
from st2llm.errors import EngineError
from st2llm.evaluate.run.compare import run_here

pytest.importorskip("submitit", reason="needs the extra `slurm`")

HERE = parse_placement("slurm://local", workers=2, threads=1)


@pytest.fixture(autouse=True)
def searched(monkeypatch):
    """Workers find the model of the tests, as this process does."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.slow
def test_results_are_those_of_one_process_also_after_a_worker_was_killed(two_rules, tmp_path):
    model = FaultyModel(tmp_path / "met", "kill")
    run_on(request(two_rules, tmp_path / "slurm", model), HERE)
    assert model.met.exists()
    run_here(request(two_rules, tmp_path / "here", model))
    assert_same_numbers(tmp_path / "slurm", tmp_path / "here")


@pytest.mark.slow
def test_ctrl_c_ends_the_workers_with_one_message_and_the_run_can_be_resumed(card, tmp_path):
    """It reaches the launchers of workers too, whose tracebacks came before the message."""
    with WaitingComparison(tmp_path, card) as comparison:
        comparison.start("slurm://local")
        comparison.interrupt()
        written = comparison.wait()
        assert comparison.process.returncode == 130 and "Traceback" not in written
        assert written.splitlines()[-1].startswith(
            "Interrupted. Finished work is kept. Continue with: st2llm compare"
        )
        assert comparison.still_running() == set()
        resumed = comparison.resume()
        assert resumed.returncode == 0, resumed.stderr
        assert (comparison.out / "report.md").exists()


def test_a_machine_without_slurm_says_where_to_start(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EngineError, match="sbatch, which this machine does not have"):
        start_engine(parse_placement("slurm://gpu"))


def test_settings_that_slurm_does_not_take_are_refused(monkeypatch):
    with pytest.raises(EngineError, match="whole GPUs"):
        start_engine(parse_placement("slurm://local", gpus=0.5))
    with pytest.raises(EngineError, match="`time` .* number of minutes"):
        start_engine(parse_placement("slurm://local?time=2h"))
