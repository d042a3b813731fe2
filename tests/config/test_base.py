import logging
from typing import ClassVar

import pytest
from pydantic import Field

from st2llm import config
from st2llm.errors import ConfigError


class Rate(config.Settings):
    lr: float = 1e-4
    warmup: int = 0


class Schedule(config.Settings):
    renamed_keys: ClassVar = {"hot": "warmup_ratio"}
    removed_keys: ClassVar = {"cold": "Set `warmup_ratio` to 0"}
    warmup_ratio: float = 0.1


class Run(config.Settings):
    renamed_keys: ClassVar = {"start": "init_from"}
    init_from: str | None = None
    schedule: Schedule | None = None
    schedules: list[Schedule] = Field(default_factory=list)
    by_name: dict[str, Schedule] = Field(default_factory=dict)


class Suite(config.Settings):
    name: str
    rate: Rate = Rate()
    rates: list[Rate] = Field(default_factory=list)
    by_name: dict[str, Rate] = Field(default_factory=dict)


def _file(folder, text):
    path = folder / "suite.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_becomes_typed_settings(tmp_path):
    found = config.load(_file(tmp_path, "name: a\nrate: {lr: 1.0e-3}\n"), into=Suite)
    assert found == Suite(name="a", rate=Rate(lr=1e-3))


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Suite(name="a").name = "b"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nme: a\nname: b\n", "unknown key 'nme'. Did you mean 'name'"),
        ("name: a\nrate: {lrr: 1}\n", "unknown key 'rate.lrr'. Did you mean 'lr'"),
        ("name: a\nrates: [{warmpu: 1}]\n", "unknown key 'rates.0.warmpu'. Did you mean 'warmup'"),
        ("name: a\nby_name: {x: {warmpu: 1}}\n", "unknown key 'by_name.x.warmpu'. Did you mean 'warmup'"),
        ("rate: {lr: 1}\n", "the key 'name' is missing"),
        ("name: a\nrate: {lr: fast}\n", "rate.lr: .* but it is 'fast'"),
        ("- a\n", "should hold `key: value` lines"),
        ("name: [\n", "not readable as YAML"),
    ],
)
def test_a_wrong_file_is_refused_by_file_and_key(tmp_path, text, says):
    path = _file(tmp_path, text)
    with pytest.raises(ConfigError, match=says) as refused:
        config.load(path, into=Suite)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("name", "says"), [("none.yaml", "There is no file"), ("", "is a folder")])
def test_a_path_that_holds_no_file_is_named(tmp_path, name, says):
    with pytest.raises(ConfigError, match=says):
        config.load(tmp_path / name, into=Suite)


def test_a_file_of_other_bytes_is_not_read_as_yaml(tmp_path):
    path = tmp_path / "suite.yaml"
    path.write_bytes(b"name: \xff\xfe")
    with pytest.raises(ConfigError, match="not readable as YAML"):
        config.load(path, into=Suite)


EARLIER = """
start: runs/a
schedule: {hot: 0.1}
schedules: [{hot: 0.2}, {hot: 0.3}]
by_name: {x: {hot: 0.4}}
"""


def test_earlier_names_of_keys_are_read_with_one_line_for_each_key_of_a_file(tmp_path, caplog):
    path = _file(tmp_path, EARLIER)
    with caplog.at_level(logging.WARNING):
        run, again = (config.load(path, into=Run) for _ in range(2))
    assert run == again
    assert run.init_from == "runs/a"
    assert run.schedule.warmup_ratio == 0.1
    assert [one.warmup_ratio for one in (*run.schedules, run.by_name["x"])] == [0.2, 0.3, 0.4]
    assert caplog.messages == [
        f"{path}: the key {old!r} is now called {new!r}. Its earlier name is still accepted."
        for old, new in (
            ("start", "init_from"),
            ("schedule.hot", "warmup_ratio"),
            ("schedules.hot", "warmup_ratio"),
            ("by_name.x.hot", "warmup_ratio"),
        )
    ]


def test_validation_of_an_earlier_config_accepts_earlier_names_silently(caplog):
    assert Run.model_validate({"start": "a", "schedule": {"hot": 0.5}}) == Run(
        init_from="a", schedule=Schedule(warmup_ratio=0.5)
    )
    assert not caplog.messages


def test_an_earlier_and_a_present_name_of_one_key_are_refused_together(tmp_path):
    path = _file(tmp_path, "start: a\ninit_from: b\n")
    with pytest.raises(ConfigError, match="'start' and 'init_from' are the same setting") as refused:
        config.load(path, into=Run)
    assert str(path) in str(refused.value)


def test_a_key_that_is_unknown_is_refused_with_the_present_names(tmp_path):
    with pytest.raises(ConfigError, match="unknown key 'init_frm'. Did you mean 'init_from'"):
        config.load(_file(tmp_path, "init_frm: a\n"), into=Run)


@pytest.mark.parametrize(
    "content", [{"schedule": {"cold": 1}}, {"schedules": [{"cold": 1}]}, {"by_name": {"a": {"cold": 1}}}]
)
def test_a_removed_key_is_refused_with_what_to_do_and_left_out_of_the_config_of_an_earlier_run(content):
    with pytest.raises(ConfigError, match=r"cold is no longer a setting\. Set `warmup_ratio` to 0"):
        config.parse(content, into=Run, where="run.yaml")
    assert "cold" not in str(Run.model_validate(content))
