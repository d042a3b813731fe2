import subprocess
import sys

import huggingface_hub.constants
import pytest

from st2llm.errors import ArtefactError, ConfigError
from st2llm.model.checkpoint_folder import find_checkpoint, is_checkpoint


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache of the hub with the repository owner/masked, and no network."""
    monkeypatch.setenv("ST2LLM_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    repository = tmp_path / "hub" / "models--owner--masked"
    revision = "0123456789abcdef0123456789abcdef01234567"
    (repository / "refs").mkdir(parents=True)
    for name in ("main", "v1"):
        (repository / "refs" / name).write_text(revision)
    folder = repository / "snapshots" / revision
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("recipe: {}\n")
    return folder


@pytest.mark.parametrize("name", ["hub:owner/masked", "owner/masked", "hub:owner/masked@v1"])
def test_a_repository_is_found_by_its_id(hub, name):
    assert find_checkpoint(name) == hub


def test_a_folder_comes_before_a_repository_of_its_name(hub, tmp_path):
    (tmp_path / "owner" / "masked" / "best").mkdir(parents=True)
    (tmp_path / "owner" / "masked" / "best" / "config.yaml").write_text("recipe: {}\n")
    assert str(find_checkpoint("owner/masked")) == "owner/masked/best"
    assert find_checkpoint("hub:owner/masked") == hub


def test_a_repository_that_holds_something_else_is_named(hub):
    (hub / "config.yaml").unlink()
    with pytest.raises(ConfigError, match="The repository hub:owner/masked is not a checkpoint"):
        find_checkpoint("hub:owner/masked")


def test_a_repository_that_is_not_there_is_told_with_what_to_do(hub):
    with pytest.raises(
        ArtefactError, match="the repository owner/other of the hub could not be had.*unset ST2LLM_OFFLINE"
    ):
        find_checkpoint("owner/other")


def test_a_repository_is_a_checkpoint_where_it_is_named_as_one_and_has_its_config(hub, tmp_path):
    assert is_checkpoint("hub:owner/masked") and is_checkpoint("hub:owner/masked@v1")
    assert not is_checkpoint("owner/masked")  # the id of a language model
    assert not is_checkpoint("hub:owner/other")  # not in the cache, or a language model
    (tmp_path / "run" / "best").mkdir(parents=True)
    assert not is_checkpoint(tmp_path / "run")
    (tmp_path / "run" / "best" / "config.yaml").write_text("recipe: {}\n")
    assert is_checkpoint(tmp_path / "run")


@pytest.mark.parametrize("name", ["nowhere", "/no/where/at/all", "../nowhere/x"])
def test_a_path_is_not_looked_for_on_the_hub(hub, name):
    with pytest.raises(ConfigError, match="neither it nor its `best` has a config.yaml"):
        find_checkpoint(name)


def test_a_mistyped_run_is_not_looked_for_on_the_hub(hub, tmp_path):
    (tmp_path / "runs").mkdir()
    with pytest.raises(ConfigError, match="runs/maskd is not a checkpoint"):
        find_checkpoint("runs/maskd")


def test_an_odd_id_is_refused(hub):
    with pytest.raises(ConfigError, match="should be written hub:owner/name"):
        find_checkpoint("hub:masked")


def test_neither_torch_nor_data_are_imported_to_find_one():
    code = "import sys; import st2llm.model.checkpoint_folder; print({'torch', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
