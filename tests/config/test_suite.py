"""Suites are refused before anything runs, with the nearest name."""

import json
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError
from support import tiny_suite

from st2llm import recipes
from st2llm.config import upgrade
from st2llm.config.model import EncoderSettings
from st2llm.config.suite import Suite, load_suites
from st2llm.config.training import PretrainRecipe
from st2llm.errors import ConfigError

SUITES = Path(recipes.locate("evaluation/suites/demo.yaml")).parent


@pytest.fixture
def load(tmp_path):
    """Loads a whole suite after `spoil` has changed its content."""

    def loaded(spoil=lambda suite: None):
        content = tiny_suite.everything("town.yaml", "tiny")
        spoil(content)
        return load_suites(tiny_suite.write_suite(tmp_path / "suite.yaml", content))

    return loaded


def set_(*path, to):
    def spoil(suite):
        for step in path[:-1]:
            suite = suite[step]
        suite[path[-1]] = to

    return spoil


def without(key):
    return lambda suite: suite.pop(key)


def test_a_whole_suite_loads(load):
    (suite,) = load()
    assert suite.id == "everything"
    assert suite.predictor("llm-lora").pretrained
    assert not suite.predictor("random-lora").pretrained
    assert suite.tasks[0].length == tiny_suite.HISTORY + tiny_suite.HORIZON


def of_kind(kind, task, rules, **changes):
    """A suite of rules of any kind."""
    predictors = [{"name": name, "family": "baseline"} for name in rules]
    return {
        "id": "s",
        "version": 1,
        "kind": kind,
        "data": "d",
        "task": task,
        "predictors": predictors,
    } | changes


NEXT = {"next-place": {"history": 3}}
KINDS = {
    "grid": (of_kind("grid", {"krige": {"length": 4}}, ["mean", "inverse-distance"]), "mae", "day", "mean"),
    "clips": (of_kind("video", {"classify": {}}, ["majority"]), "acc@1", "clip", "majority"),
    "paths": (
        of_kind("trajectory", {"forecast": {"history": 8, "horizon": 12}}, ["constant-velocity"]),
        "ade_m", "object", "last-position",
    ),
    "places": (of_kind("trajectory", NEXT, ["counts-all"]), "acc@1", "object", "counts"),
    "events": (of_kind("event", {"next-event": {"history": 9}}, ["last-gap"]), "mae", "week", "median-gap"),
    "marks": (
        of_kind("event", {"next-event": {"history": 9, "asked": ["mark"]}}, ["last-gap"]),
        "acc@1", "week", "median-gap",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "metric", "block", "stand_in"), KINDS.values(), ids=KINDS)
def test_metric_blocks_and_stand_in_go_by_kind_and_task(content, metric, block, stand_in):
    suite = Suite.model_validate(content)
    assert (suite.primary_metric, suite.bootstrap.block, suite.fallback_rule) == (metric, block, stand_in)
    again = Suite.model_validate(suite.model_dump(mode="json"))
    assert again == suite
    own = Suite.model_validate(content | {"bootstrap": {"block": "sample", "draws": 100}})
    assert own.bootstrap.block == "sample"


def test_a_text_predictor_needs_the_rule_of_its_kind_beside_it():
    text = {"name": "text", "family": "text", "backbone": "llm-frozen", "template": "trajectory/next-place"}
    content = of_kind("trajectory", NEXT, ["counts-all"], llm={"name": "x"})
    content["predictors"].append(text)
    with pytest.raises(ValueError, match="need {name: counts, family: baseline} beside them"):
        Suite.model_validate(content)


def test_a_rule_that_needs_the_time_is_refused_where_it_is_not_told():
    untimed = {"next-place": {"history": 3, "target_time": False}}
    assert Suite.model_validate(of_kind("trajectory", untimed, ["counts-transitions"]))
    with pytest.raises(ValueError, match="'counts-all' needs the time of the target"):
        Suite.model_validate(of_kind("trajectory", untimed, ["counts-all"]))


@pytest.mark.parametrize(
    ("task", "stride"),
    [
        ({"forecast": {"history": 8, "horizon": 12}}, 12),
        ({"recover": {"length": 20, "span": 6}}, 20),
        ({"next-place": {"history": 3}}, 1),
    ],
)
def test_windows_are_so_far_apart_that_nothing_is_asked_twice(task, stride):
    rules = {"forecast": "last-position", "recover": "straight-line", "next-place": "counts"}
    suite = Suite.model_validate(of_kind("trajectory", task, [rules[next(iter(task))]]))
    assert suite.stride_of(suite.tasks[0]) == stride
    own = Suite.model_validate(suite.model_dump() | {"split": {"stride": 5}})
    assert own.stride_of(own.tasks[0]) == 5


BAD = {
    "unknown key": (set_("predictrs", to=[]), "unknown key 'predictrs'. Did you mean 'predictors'?"),
    "unknown inner key": (set_("budget", "step", to=1), "unknown key 'budget.step'. Did you mean 'steps'?"),
    "unknown override": (set_("predictors", 9, "set", "window", to=1), "Did you mean 'windows'?"),
    "unknown baseline": (set_("predictors", 0, "name", to="lastvalue"), "Did you mean 'last-value'?"),
    "unknown family": (set_("predictors", 0, "family", to="base"), "'baseline'"),
    "unknown backbone": (set_("predictors", 5, "backbone", to="llm-randm"), "Did you mean 'llm-random'?"),
    "backbone of another family": (
        set_("predictors", 3, "backbone", to="llm-lora"),
        "primitive predictor has no",
    ),
    "unknown metric": (set_("primary_metric", to="rsme"), "no metric 'rsme'. Did you mean 'rmse'?"),
    "unknown task": (set_("task", to={"forcast": {}}), "no task 'forcast'. Did you mean 'forecast'?"),
    "unknown task setting": (set_("task", "forecast", "horizn", to=1), "Did you mean 'horizon'?"),
    "draws of one answer": (
        set_("predictors", 9, "set", to={"draws": 5}),
        "5 draws of 'text' at temperature 0 would all be the same",
    ),
    "no draw": (set_("predictors", 9, "set", to={"draws": 0}), "predictors.9.set.draws"),
    "a temperature below nothing": (
        set_("predictors", 9, "set", to={"temperature": -1}),
        "predictors.9.set.temperature",
    ),
    "more than all of the probability": (set_("predictors", 9, "set", to={"top_p": 1.5}), "set.top_p"),
    "a misspelt temperature": (
        set_("predictors", 9, "set", to={"temprature": 1}),
        "Did you mean 'temperature'?",
    ),
    "draws of an arm that does not draw": (
        set_("predictors", 3, "set", to={"draws": 5, "temperature": 0.7}),
        "`draws` is for text predictors, but 'none' is a primitive predictor",
    ),
    "duplicate names": (set_("predictors", 4, "name", to="none"), "two predictors have the name 'none'"),
    "text without template": (set_("predictors", 9, "template", to=None), "needs `template: kind/task`"),
    "text without last-value": (lambda s: s["predictors"].pop(0), "last-value, family: baseline"),
    "controls of an unknown arm": (set_("controls", "predictors", to=["nones"]), "Did you mean 'none'?"),
    "controls of a rule": (set_("controls", "predictors", to=["last-value"]), "is not a trained predictor"),
    "steps of controls, which are those of the budget": (
        set_("controls", "steps", to=200),
        "controls.steps is no longer a setting. Controls train for the steps of `budget`. Leave it out",
    ),
    "a strength of all of the error": (set_("controls", "strengths", to=[0, 1]), "at least 0 and under 1"),
    "a strength twice": (set_("controls", "strengths", to=[0.1, 0.1]), "strengths are different gains"),
    "controls with another seed": (set_("controls", "seeds", to=[7]), "not among the seeds of the suite"),
    "examples of an arm that does not write": (
        set_("predictors", 3, "set", to={"examples": {"select": "random"}}),
        "`examples` is for text predictors, but 'none' is a primitive predictor",
    ),
    "prompted validation windows of an arm that is not prompted": (
        set_("predictors", 3, "set", to={"validation_windows": 4}),
        "`validation_windows` is for text predictors, but 'none' is a primitive predictor",
    ),
    "an unknown choice of examples": (
        set_("predictors", 9, "set", to={"examples": {"select": "shap"}}),
        "predictors.9.set.examples.select",
    ),
    "no example": (set_("predictors", 9, "set", to={"examples": {"count": 0}}), "examples.count"),
    "a metric of another kind": (
        set_("primary_metric", to="ade_m"),
        "primary_metric 'ade_m' is not measured for forecast of kind graph, which has mae, rmse",
    ),
    "a metric that not every arm has": (
        set_("primary_metric", to="crps"),
        "'crps' is not measured for every predictor",
    ),
    "a rule of another kind": (
        set_("predictors", 1, "name", to="counts"),
        "the baseline 'counts' does not answer forecast of kind graph. Those that do: last-value",
    ),
    "an unknown block": (set_("bootstrap", "block", to="month"), "bootstrap.block"),
    "an unknown kind": (set_("kind", to="graphs"), "kind: "),
    "arms trained for another task": (
        set_("task", to={"classify": {}}),
        "predictors are trained for forecast, impute, interpolate, krige of kind graph, grid and forecast",
    ),
    "no budget": (without("budget"), "need `budget: {steps:"),
    "no language model": (without("llm"), "need `llm: {name: ...}`"),
    "no learning rate": (set_("budget", "lr", to=[]), "budget.lr"),
    "no predictor": (set_("predictors", to=[]), "predictors"),
    "no seed": (set_("seeds", to=[]), "seeds"),
    "a name that leaves the folder": (set_("predictors", 3, "name", to="../none"), "predictors.3.name"),
    "an id that leaves the folder": (set_("id", to="a/b"), "id: "),
    "a missing key": (without("task"), "the key 'task' is missing"),
}


@pytest.mark.parametrize(("spoil", "says"), BAD.values(), ids=BAD)
def test_a_bad_suite_is_refused_with_the_file_and_what_to_do(load, spoil, says):
    with pytest.raises(ConfigError) as refused:
        load(spoil)
    assert says in str(refused.value)


def test_a_text_predictor_may_draw_several_answers(load):
    (suite,) = load(set_("predictors", 9, "set", to={"draws": 5, "temperature": 0.7, "top_p": 0.9}))
    own = suite.predictor("text").set
    assert (own.draws, own.temperature, own.top_p) == (5, 0.7, 0.9)


def test_a_config_from_before_a_setting_was_there_is_read_with_its_default(load):
    (suite,) = load()
    config = suite.model_dump(mode="json")
    older = json.loads(json.dumps(config))
    for predictor in older["predictors"]:
        for key in ("draws", "temperature", "top_p"):
            del predictor["set"][key]
    assert upgrade(older, into=Suite) == config
    assert upgrade({"no": "suite"}, into=Suite) == {"no": "suite"}


def test_what_a_suite_says_wrong_names_its_file(load):
    with pytest.raises(ConfigError, match=r"suite\.yaml: "):
        load(set_("primary_metric", to="rsme"))


def test_an_unknown_predictor_is_refused_with_the_nearest_name(load):
    with pytest.raises(ConfigError, match="has no predictor 'llm-lorra'. Did you mean 'llm-lora'?"):
        load()[0].predictor("llm-lorra")


def test_an_unknown_suite_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="Did you mean 'demo.yaml'?"):
        load_suites("dem")


@pytest.mark.parametrize("path", sorted(SUITES.glob("**/*.yaml")), ids=lambda path: path.stem)
def test_every_suite_of_the_project_loads_by_path_and_by_name(path):
    by_path = load_suites(path)
    assert by_path == load_suites(path.stem)
    assert by_path[0].id


def test_names_of_suite_files_are_unique():
    names = [path.stem for path in SUITES.glob("**/*.yaml")]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("scene", ["eth", "hotel", "univ", "zara1", "zara2"])
@pytest.mark.parametrize("suite", ["eth-ucy-native", "eth-ucy-rules"])
def test_a_suite_of_a_sweep_loads_by_its_id_and_by_the_path_of_a_file_of_its_own(suite, scene):
    (one,) = load_suites(f"{suite}-{scene}")
    assert one.id == f"{suite}-{scene}"
    assert one.data == f"eth-ucy#{scene}"
    assert one.title.endswith(f" on {scene}")
    assert load_suites(f"evaluation/suites/{suite}-{scene}.yaml") == [one]
    assert one in load_suites(suite)


def test_a_suite_in_a_subfolder_loads_by_its_name_in_the_folder_of_suites():
    assert load_suites("evaluation/suites/graph-forecast.yaml") == load_suites("graph-forecast")


def _sweep(folder, sweep, **more):
    content = tiny_suite.rules("town.yaml", id="rules") | {"sweep": sweep, **more}
    if not more:
        del content["data"]
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(
    ("data", "ids"),
    [
        (["a", "b#c"], ["rules-a", "rules-c"]),
        ({"first": "a", "second": "b#c"}, ["rules-first", "rules-second"]),
    ],
)
def test_a_sweep_is_a_suite_for_each_of_its_data_sets(tmp_path, data, ids):
    suites = load_suites(_sweep(tmp_path, {"data": data}))
    assert [suite.id for suite in suites] == ids
    assert [suite.data for suite in suites] == ["a", "b#c"]
    assert len({repr(suite.model_dump(exclude={"id", "data"})) for suite in suites}) == 1


@pytest.mark.parametrize(
    ("sweep", "more", "says"),
    [
        ({"data": ["a", "b"]}, {"data": "town.yaml"}, "both `data` and `sweep`"),
        ({"data": ["x#a", "y#a"]}, {}, "two of the name 'a'"),
        ({"data": []}, {}, "at least 1 item"),
        ({"dat": ["a"]}, {}, "unknown key 'dat'. Did you mean 'data'?"),
        (["a"], {}, "should hold `key: value` lines"),
    ],
)
def test_a_bad_sweep_is_refused(tmp_path, sweep, more, says):
    with pytest.raises(ConfigError) as refused:
        load_suites(_sweep(tmp_path, sweep, **more))
    assert says in str(refused.value)


def _list(folder, *entries):
    for name in ("one", "two"):
        tiny_suite.write_suite(folder / f"{name}.yaml", tiny_suite.rules("town.yaml", id=name))
    path = folder / "list.yaml"
    path.write_text(yaml.safe_dump(list(entries)))
    return path


def test_a_list_names_suites_beside_it_by_path_or_as_one_types_them(tmp_path):
    path = _list(tmp_path, "one.yaml", str(tmp_path / "two.yaml"), "demo")
    assert [suite.id for suite in load_suites(path)] == ["one", "two", "demo"]


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([], "it lists none"),
        (["one.yaml", "one.yaml"], "it lists 'one' twice"),
        (["one.yaml", {"id": "x"}], "a path each"),
        (["one.yaml", "list.yaml"], "holds list"),
        (["on.yaml"], "There is no on.yaml"),
    ],
)
def test_a_bad_list_is_refused(tmp_path, entries, says):
    with pytest.raises(ConfigError) as refused:
        load_suites(_list(tmp_path, *entries))
    assert says in str(refused.value)


ENCODER_FAULTS = [
    ({"patch": 8, "patch_stride": 9}, "would skip steps between patches of 8"),
    ({"mixer": "none"}, "are for encoder.tokens: patch"),
    ({"readout": "flatten"}, "are for encoder.tokens: patch"),
    ({"tokens": "patch", "readout": "next-patch", "patch": 8, "patch_stride": 4}, "no patch_stride"),
    ({"tokens": "patch", "channel_independent": True, "graph": "gcn"}, "take encoder.graph: none"),
]


@pytest.mark.parametrize(("settings", "message"), ENCODER_FAULTS)
def test_settings_of_patches_that_do_not_fit_together_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        EncoderSettings.model_validate(settings)


@pytest.mark.parametrize("setting", [{"instance_norm": True}, {"channel_independent": True, "graph": "none"}])
def test_settings_of_forecasts_are_refused_where_whole_windows_are_trained(setting):
    with pytest.raises(ValidationError, match=f"encoder.{next(iter(setting))} is for suites"):
        PretrainRecipe.model_validate(
            {
                "id": "tiny",
                "data": "los-loop",
                "encoder": setting,
                "task": {"forecast": {"history": 4, "horizon": 2}},
                "objectives": {"masked": {}},
                "budget": {"steps": 1},
            }
        )
