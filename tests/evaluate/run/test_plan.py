"""A wrong command is refused before anything is loaded."""

import subprocess
import sys

import pandas as pd
import pytest
from support import tiny_suite

from st2llm.errors import ConfigError
from st2llm.evaluate.run.plan import Overrides, make, planned_arms
from st2llm.evaluate.run_folder.store import RunStore


@pytest.fixture
def suite(tmp_path):
    return tiny_suite.write_suite(tmp_path / "suite.yaml", tiny_suite.everything("town.yaml", "tiny"))


def test_a_plan_holds_the_suite_as_overridden_and_its_folder(suite, tmp_path):
    plan = make(suite, Overrides(data="other.yaml", llm="tinier", limit=3), out=tmp_path / "run")
    (one,) = plan.suites
    assert (one.data, one.llm.name, one.limit) == ("other.yaml", "tinier", 3)
    assert plan.stores[0].root == plan.root == tmp_path / "run"


def test_suites_of_a_list_have_folders_of_their_own(tmp_path):
    for name in ("one", "two"):
        tiny_suite.write_suite(tmp_path / f"{name}.yaml", tiny_suite.rules("town.yaml", id=name))
    path = tiny_suite.write_suite(tmp_path / "list.yaml", ["one.yaml", "two.yaml"])
    plan = make(path, Overrides(), out=tmp_path / "run")
    assert [store.root.name for store in plan.stores] == ["one", "two"]
    with pytest.raises(ConfigError, match="lists 2 suites"):
        make(path, Overrides(data="other"), out=tmp_path / "run")


def test_a_folder_that_holds_a_run_is_claimed_only_to_go_on(suite, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.json").write_text("{}")
    with pytest.raises(ConfigError, match="already holds a run"):
        make(suite, Overrides(), out=tmp_path / "run")
    assert make(suite, Overrides(), out=tmp_path / "run", resume=True).root == tmp_path / "run"


def test_another_model_for_a_suite_without_one_is_refused(tmp_path):
    path = tiny_suite.write_suite(tmp_path / "rules.yaml", tiny_suite.rules("town.yaml"))
    with pytest.raises(ConfigError, match="has no language model to replace by 'x'"):
        make(path, Overrides(llm="x"), out=tmp_path / "run")


@pytest.mark.slow
def test_the_command_line_refuses_a_wrong_suite_without_loading_torch(tmp_path):
    path = tiny_suite.write_suite(tmp_path / "bad.yaml", tiny_suite.rules("town", primary_metric="rsme"))
    code = (
        "import sys; from st2llm.cli import main\n"
        f"try: main(['compare', {str(path)!r}])\n"
        "except SystemExit as left: print(left.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False"]
    assert "Did you mean 'rmse'?" in done.stderr


def test_every_arm_and_seed_of_controls_and_suite_is_planned_with_what_an_earlier_start_finished(
    suite, tmp_path
):
    plan = make(suite, Overrides(), out=tmp_path / "run")
    RunStore(tmp_path / "run").finish("none-1", {"wall_s": 12.5}, pd.DataFrame({"value": [1.0]}), [])
    arms = planned_arms(plan)
    own = {arm.key: arm for arm in arms if arm.suite == "everything"}
    assert len(own) == 3 + 6 * 2 + 1
    assert own["none-1"].seconds == 12.5
    assert own["none-0"].seconds is None
    assert own["llm-lora-1"].work > own["llm-frozen-1"].work > own["none-1"].work > own["last-value-0"].work
    assert own["llm-lora-1"].label == "llm-lora, seed 1"
    controls = [arm.label for arm in arms if arm.suite == "everything-positive-control"]
    assert controls[:2] == ["positive control, none, seed 0", "positive control, none, seed 1"]
