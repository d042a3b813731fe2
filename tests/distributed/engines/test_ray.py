"""Jobs on a cluster of Ray that runs in processes of its own: equal results, and one message for what goes wrong."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
from support.command_line import run_cli
from support.faulty_model import FaultyModel, request
from support.tiny_suite import assert_same_numbers, leftovers
from support.waiting_comparison import WaitingComparison

from st2llm.distributed import cluster
from st2llm.distributed.cluster import run_on, start_engine
from st2llm.distributed.placement import parse_placement
from st2llm.errors import EngineError
from st2llm.evaluate.run.compare import run_here

# Ray reads them when it is imported.
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(16))
ray = pytest.importorskip("ray", reason="needs the extra `ray`")

from st2llm.distributed.engines.ray_driver import RayDriver  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of Ray
    pytest.mark.xdist_group("ray"),
]


def _free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Head:
    """A cluster of two cores on this machine, in processes of its own."""

    def __init__(self, folder, path=None):
        self.port, self.log = _free_port(), folder / "head.log"
        command = "import sys; from ray.scripts.scripts import main; sys.exit(main())"
        options = [
            "--head",
            "--num-cpus=2",
            "--num-gpus=0",
            f"--port={self.port}",
            "--node-ip-address=127.0.0.1",
        ]
        ports = ["--min-worker-port=0", "--max-worker-port=0", "--include-dashboard=false", "--block"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", command, "start", *options, *ports, "--disable-usage-stats"],
                env={
                    **os.environ,
                    "OMP_NUM_THREADS": "1",
                    "PYTHONPATH": path or os.pathsep.join(filter(None, sys.path)),
                },
                stdout=log,
                stderr=log,
            )

    def wait(self):
        while "--block" not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(60)


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """A cluster that asks for a token."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("OMP_NUM_THREADS", "1")
        with Head(tmp_path_factory.mktemp("ray")) as started:
            started.wait()
            yield started


def _place(head, **options):
    return parse_placement(f"ray://127.0.0.1:{head.port}", threads=1, **options)


def test_results_are_those_of_one_process_also_after_a_worker_was_killed(head, small_suite, tmp_path):
    model = FaultyModel(tmp_path / "met", "kill")
    run_on(request(small_suite, tmp_path / "ray", model), _place(head, workers=2))
    assert model.met.exists(), "the model met its fault on a worker"
    run_here(request(small_suite, tmp_path / "here", model))
    assert_same_numbers(tmp_path / "ray", tmp_path / "here")
    assert leftovers(tmp_path / "ray") == [] and not (tmp_path / "ray/.jobs").exists()


def test_a_job_that_raises_is_one_message_and_resume_runs_what_is_left(head, two_rules, tmp_path):
    model = FaultyModel(tmp_path / "met", "raise")
    with pytest.raises(
        EngineError, match="faulty-model-0 failed on .*: ValueError: there is no forecast today"
    ):
        run_on(request(two_rules, tmp_path / "run", model), _place(head, workers=2))
    report = run_on(request(two_rules, tmp_path / "run", model, resume=True), _place(head))
    assert {record.predictor for record in report.results} == {"last-value", "hour-of-week", "faulty-model"}


def test_gpus_and_cores_that_no_node_has_are_refused_before_any_job(head):
    with pytest.raises(EngineError, match=r"asks for 1 GPUs \(--gpus-per-job\), but Ray has 0"):
        start_engine(_place(head, gpus=1))
    with pytest.raises(EngineError, match="asks for 9 cores, but Ray has 2"):
        start_engine(parse_placement(f"ray://127.0.0.1:{head.port}", threads=9))


def test_another_version_of_ray_names_both(head, monkeypatch):
    monkeypatch.setattr(ray, "__version__", "1.13.0")
    with pytest.raises(EngineError, match=r"Version mismatch.* Here are Ray 1\.13\.0"):
        RayDriver(_place(head))


def test_an_address_that_does_not_answer_is_one_message(two_rules, tmp_path):
    done = run_cli("compare", two_rules, "--out", tmp_path / "run", "--on", f"ray://127.0.0.1:{_free_port()}")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "does not answer" in done.stderr and "ray start" in done.stderr
    assert not (tmp_path / "run/arms").exists()
    for words in ("ray://head", "ray://head:x"):
        with pytest.raises(EngineError, match="takes HOST:PORT"):
            start_engine(parse_placement(words))


def test_ctrl_c_ends_the_cluster_with_one_message_and_the_run_can_be_resumed(card, tmp_path):
    with WaitingComparison(tmp_path, card) as comparison:
        comparison.start("ray")
        comparison.interrupt()
        written = comparison.wait()
        assert comparison.process.returncode == 130 and "Traceback" not in written
        assert written.splitlines()[-1].startswith(
            "Interrupted. Finished work is kept. Continue with: st2llm compare"
        )
        assert comparison.still_running() == set()
        resumed = comparison.resume()
        assert resumed.returncode == 0, resumed.stderr


def test_a_ray_that_ends_meanwhile_is_one_message_and_what_has_finished_is_kept(card, tmp_path):
    """Ray ends the process that is connected to it, which once was the command itself."""
    with WaitingComparison(tmp_path, card) as comparison, Head(tmp_path, comparison.path) as head:
        head.wait()
        comparison.start(f"ray://127.0.0.1:{head.port}")
        for process in psutil.Process(head.process.pid).children(recursive=True):
            if "raylet" in process.name():
                process.kill()
        written = comparison.wait()
        assert comparison.process.returncode == 1
        assert [line for line in written.splitlines() if " done, " not in line] == [written.splitlines()[-1]]
        assert "is gone: its head or the node of this machine" in written and "--resume" in written
        assert comparison.still_running() == set()
        resumed = comparison.resume()
        assert resumed.returncode == 0, resumed.stderr


def test_a_package_that_is_missing_names_the_extra(two_rules, tmp_path, monkeypatch):
    def missing(module):
        raise ModuleNotFoundError(f"No module named {module!r}", name="ray")

    monkeypatch.setattr(cluster, "import_module", missing)
    done = run_cli("compare", two_rules, "--out", tmp_path / "run", "--on", "ray")
    assert done.returncode == 1 and "pip install 'st2llm[ray]'" in done.stderr
