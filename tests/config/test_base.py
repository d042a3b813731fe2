import pytest
from pydantic import Field

from st2llm import config
from st2llm.errors import ConfigError


class Rate(config.Settings):
    lr: float = 1e-4
    warmup: int = 0


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
