"""Parts of other packages: known by metadata alone, imported on use, checked, and used where parts of st2llm are."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from support import fields, tiny_card, tiny_suite
from support.arms import small_blueprint
from support.command_line import run_cli
from support.plugin_package import write_package

from st2llm import load_data, plugins, split, tasks
from st2llm.config.catalog import EXTERNAL_MODELS
from st2llm.config.model import EncoderSettings
from st2llm.config.suite import Suite
from st2llm.data.safe_open.table import READERS
from st2llm.errors import ConfigError, DataError
from st2llm.evaluate.run.runners.sources import source_sha256
from st2llm.model.arm import ENCODERS, build_arm, build_encoder
from st2llm.predict.external.pretrained import load_model
from st2llm.predict.forecaster import forecast
from st2llm.serialize.answer.formats import NumbersFormat
from st2llm.serialize.numbers import STRATEGIES, fit, is_sequential
from st2llm.tasks import TASKS

EXAMPLE = Path(__file__).resolve().parents[1] / "examples/plugin"
REGISTRIES = {
    "encoders": ENCODERS,
    "predictors": EXTERNAL_MODELS,
    "readers": READERS,
    "strategies": STRATEGIES,
    "tasks": TASKS,
}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """install(name, code, {group: {entry: attribute}}) puts a package on the path of this process."""
    before = set(sys.modules)
    plugins.installed.cache_clear()

    def add(name, code, entry_points):
        write_package(tmp_path / name, name, code, entry_points)
        monkeypatch.syspath_prepend(str(tmp_path / name))
        plugins.installed.cache_clear()

    yield add
    plugins.installed.cache_clear()
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize("group", plugins.GROUPS)
def test_names_of_a_package_are_listed_without_importing_it(install, group):
    install("lister", "raise SystemExit('imported')", {group: {"mine": "Mine"}})
    assert (
        "mine" in REGISTRIES[group] and "mine" in list(REGISTRIES[group]) and "min" not in REGISTRIES[group]
    )
    shown = run_cli("list", "plugins")
    assert shown.returncode == 0 and "lister 1.2" in shown.stdout and "mine" in shown.stdout


def test_without_packages_the_list_is_empty():
    shown = run_cli("list", "plugins")
    assert shown.returncode == 0 and shown.stderr == ""


@pytest.mark.parametrize("group", plugins.GROUPS)
def test_a_package_that_cannot_be_imported_is_one_message_when_its_name_is_used(install, group):
    install("broken", "import no_such_module", {group: {"mine": "Mine"}})
    message = (
        "'mine' of the package broken 1.2 cannot be imported from broken:Mine: ModuleNotFoundError: No module"
    )
    with pytest.raises(ConfigError, match=message):
        REGISTRIES[group]["mine"]


@pytest.mark.parametrize("group", plugins.GROUPS)
def test_a_name_of_two_packages_is_one_message_that_names_both(install, group):
    install("one", "Mine = 1", {group: {"mine": "Mine"}})
    install("two", "Mine = 1", {group: {"mine": "Mine"}})
    with pytest.raises(
        ConfigError, match=r"added by the packages one 1\.2 and two 1\.2.*Uninstall all but one"
    ):
        REGISTRIES[group]["mine"]


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("predictors", "chronos"),
        ("predictors", "ridge"),
        ("readers", "csv"),
        ("strategies", "scaled"),
        ("tasks", "forecast"),
    ],
)
def test_a_name_of_st2llm_is_refused_whether_the_package_or_st2llm_is_meant(install, group, name):
    install("taker", "Mine = print", {group: {name: "Mine"}})
    with pytest.raises(
        ConfigError, match=rf"taker 1\.2 adds the .* '{name}', but st2llm has that name itself"
    ):
        REGISTRIES[group][name]


@pytest.mark.parametrize("group", plugins.GROUPS)
def test_something_else_under_a_name_is_refused_with_what_was_expected(install, group):
    install("wrong", "Mine = 3", {group: {"mine": "Mine"}})
    with pytest.raises(
        ConfigError, match=r"of the package wrong 1\.2 should be a .*, but wrong:Mine is a int"
    ):
        REGISTRIES[group]["mine"]


def test_a_strategy_of_a_package_writes_numbers_where_a_template_names_it(install):
    code = (
        "from st2llm.serialize.numbers import Deltas\n\nclass Steps(Deltas):\n    sequential = True\n"
        "class Own(Deltas):\n    pass\n"
    )
    install("writer", code, {"strategies": {"steps": "Steps", "own": "Own"}})
    notation = NumbersFormat(strategy="steps").notation
    assert type(fit("steps", np.array([1.0, 4.0]), notation)).__name__ == "Steps"
    assert is_sequential("steps") and not is_sequential("own") and is_sequential("deltas")
    with pytest.raises(ValueError, match="no strategy 'step' to write numbers. Did you mean 'steps'"):
        NumbersFormat(strategy="step")


TASK = """
from dataclasses import dataclass
import numpy as np

@dataclass(frozen=True)
class Evens:
    length: int
    type = "interpolate"
    context = 0

    @property
    def name(self):
        return f"evens-{self.length}"

    def hidden(self, shape, key=""):
        mask = np.zeros(shape, dtype=bool)
        mask[1::2] = True
        return mask
"""


def test_a_task_of_a_package_is_cut_and_scored_as_the_task_that_it_is_a_mask_of(install, tmp_path):
    install("masker", TASK, {"tasks": {"evens": "Evens"}})
    (task,) = tasks.from_config({"evens": {"length": 8}})
    data = load_data(str(tiny_card.write(tmp_path, tiny_card.card(), tiny_card.tables())))
    sample = split(data, task, stride=24).train[0]
    assert sample.task == "interpolate" and sample.wanted[1::2].all() and not sample.wanted[::2].any()
    suite = {"id": "e", "version": 1, "kind": "graph", "data": "d", "task": {"evens": {"length": 8}}}
    made = Suite.model_validate({**suite, "predictors": [{"name": "linear", "family": "baseline"}]})
    assert made.primary_metric == "mae" and made.metrics_of(task)[0] == "mae"
    with pytest.raises(ValueError, match="'yesterday' does not answer evens"):
        Suite.model_validate({**suite, "predictors": [{"name": "yesterday", "family": "baseline"}]})
    with pytest.raises(ConfigError, match=r"task\.evens needs 'length'\."):
        tasks.from_config({"evens": {}})


def test_a_reader_of_a_package_opens_tables_by_their_suffix(install, tmp_path):
    code = (
        "import pandas as pd\n\ndef read(path):\n    if 'bad' in path.name:\n        raise OSError('no header')\n"
        "    return pd.read_csv(path, sep='/')\n"
    )
    install("opener", code, {"readers": {"slash": "read"}})
    content = tiny_card.card() | {"values": "values.slash"}
    card = tiny_card.write(tmp_path, content, tiny_card.tables())
    pd.read_csv(tmp_path / "values.csv").to_csv(tmp_path / "values.slash", sep="/", index=False)
    assert load_data(str(card)).values.shape == (480, 3, 1)
    rows = pd.DataFrame({"time": pd.date_range("2024-01-01", periods=40, freq="h"), "x": 1.0, "y": 2.0})
    rows.to_csv(tmp_path / "events.slash", sep="/", index=False)
    events = {"name": "e", "kind": "event", "table": "events.slash", "time": "time", "x": "x", "y": "y"}
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(events))
    assert len(load_data(str(tmp_path / "e.yaml")).time) == 40
    (tmp_path / "bad.slash").write_text("")
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(events | {"table": "bad.slash"}))
    with pytest.raises(DataError, match="bad.slash cannot be read by opener: OSError: no header"):
        load_data(str(tmp_path / "e.yaml"))


def _spec(settings):
    return replace(small_blueprint(), encoder=settings)


ENCODER = """
from torch import nn
from st2llm.encode.batch import Encoder

class Mean(Encoder):
    def __init__(self, shape, edges, d_st):
        super().__init__()
        self.slots, self.output_slots = shape.nodes, slice(None)
        self.linear = nn.Linear(shape.channels, d_st)

    def forward(self, batch, condition=None):
        return self.linear(batch.values.mean(dim=1))

def wrong(shape, edges, d_st):
    return nn.Linear(1, d_st)
"""


def test_an_encoder_of_a_package_is_that_of_every_arm(install):
    install("encoding", ENCODER, {"encoders": {"mean": "Mean", "wrong": "wrong"}})
    spec = _spec(EncoderSettings(plugin="mean", d_st=16))
    arms = [build_arm(name, spec, seed=0) for name in ("none", "attention")]
    assert type(arms[0].encoder).__name__ == "Mean" and arms[0].shared_sha256 == arms[1].shared_sha256
    with pytest.raises(ConfigError, match=r"Encoder with \d slots .* it is a Linear"):
        build_encoder(_spec(EncoderSettings(plugin="wrong", d_st=16)))
    with pytest.raises(ConfigError, match=r"encoder\.layers is a setting of st2llm's own encoder"):
        build_encoder(_spec(EncoderSettings(plugin="mean", d_st=16, layers=5)))
    with pytest.raises(ValueError, match="no installed package adds an encoder 'mea'. Did you mean 'mean'"):
        EncoderSettings(plugin="mea")


PREDICTOR = """
from sklearn.linear_model import Ridge
from st2llm.config.catalog import Scope

def load(name, argument):
    return Ridge(alpha=float(argument or 1.0))

load.scope = Scope(("graph",), ("forecast",), needs_weights=True)
"""


def test_a_predictor_of_a_package_that_is_not_fitted_is_fitted_on_training_windows(install, card, tmp_path):
    install("regress", PREDICTOR, {"predictors": {"smooth": "load"}})
    content = tiny_suite.rules(card)
    content["predictors"].append({"name": "mine", "family": "baseline", "model": "smooth:0.5"})
    assert load_model("smooth:0.5", name="mine").name == "mine"
    before = source_sha256(Suite.model_validate(content).predictor("mine"))
    assert before is not None
    with pytest.raises(ValueError, match="which is written smooth:<"):
        Suite.model_validate({**content, "predictors": [{**content["predictors"][-1], "model": "smooth"}]})
    table = pd.DataFrame(
        fields.series(200)[:, :, 0], index=pd.date_range("2024-01-01", periods=200, freq="h")
    )
    assert len(forecast(table.add_prefix("s"), horizon=3, model="smooth:0.5")) > 0


@pytest.mark.slow
def test_the_example_is_installed_and_used_by_a_comparison_and_a_prompt(card, tmp_path):
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*pip, "--disable-pip-version-check", "--target", str(tmp_path / "site"), str(EXAMPLE)], check=True
    )
    root = str(EXAMPLE.parents[1])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), root]), "COLUMNS": "200"}

    def st2llm(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "st2llm", *map(str, arguments)],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    content = tiny_suite.rules(card)
    content["predictors"].append({"name": "line", "family": "baseline", "model": "drift"})
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(content))
    template = (EXAMPLE.parents[1] / "prompts/graph/forecast.md").read_text(encoding="utf-8")
    (tmp_path / "whole.md").write_text(
        template.replace("grammar: numbers", "grammar: numbers, strategy: whole-numbers")
    )
    assert "drift" in (listed := st2llm("list", "plugins")) and "st2llm-example 0.1.0" in listed
    st2llm("compare", "suite.yaml", "--out", "out")
    records = [yaml.safe_load(line) for line in (tmp_path / "out/results.jsonl").read_text().splitlines()]
    assert next(r for r in records if r["predictor"] == "line")["metrics"]["mae"]["value"] > 0
    given = ["--data", card, "--place", "Queen St", "--history", 48, "--horizon", 24, "--json"]
    answer = yaml.safe_load(st2llm("prompt", "whole.md", *given))["truth"]
    assert all(word.isdigit() or word == "x" for word in answer.split(","))
