"""A checkpoint is whole or not there, never runs code, and says clearly what is wrong with it."""

import json
import pickle

import pytest
import torch
from torch import nn

from st2llm.errors import ConfigError, StorageError
from st2llm.model import checkpoint

WEIGHTS = {"encoder.a": torch.arange(3.0), "head.b": torch.ones(2, 2)}


def save(folder, weights=WEIGHTS, step=1):
    checkpoint.save_checkpoint(
        folder,
        weights,
        config={"recipe": {"id": "x"}},
        state={"step": step, "rng": {"seed": 0}, "best": 0.5},
        scaler={"kind": "place"},
        card="# x\n",
    )


def test_it_comes_back_as_it_was(tmp_path):
    save(tmp_path / "last")
    found = checkpoint.read_checkpoint(tmp_path / "last")
    assert (found.config, found.state["step"]) == ({"recipe": {"id": "x"}}, 1)
    got = checkpoint.load_weights(found.folder)
    assert got.keys() == WEIGHTS.keys()
    assert all(torch.equal(got[name], tensor) for name, tensor in WEIGHTS.items())
    names = {p.name for p in (tmp_path / "last").iterdir()}
    assert names == {
        "encoder.safetensors",
        "head.safetensors",
        "config.yaml",
        "state.json",
        "scaler.json",
        "README.md",
    }


def test_a_runs_folder_stands_for_its_best(tmp_path):
    save(tmp_path / "best", step=7)
    assert checkpoint.read_checkpoint(tmp_path).state["step"] == 7


def test_a_fault_while_saving_leaves_the_earlier_one_whole(tmp_path, monkeypatch):
    save(tmp_path / "last")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(StorageError, match="No space left on device. The earlier checkpoint is kept"):
        save(tmp_path / "last", step=2)
    assert checkpoint.read_checkpoint(tmp_path / "last").state["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["last"]


def test_a_kill_between_the_two_renames_is_mended(tmp_path):
    save(tmp_path / "last")
    (tmp_path / "last").rename(tmp_path / ".last.old")
    assert checkpoint.read_checkpoint(tmp_path / "last").state["step"] == 1


def test_weights_that_were_cut_short_are_named(tmp_path):
    save(tmp_path / "best")
    path = tmp_path / "best" / "head.safetensors"
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ConfigError, match=r"head\.safetensors cannot be read as safetensors"):
        checkpoint.load_weights(tmp_path / "best")


def test_a_pickle_in_their_place_is_not_opened(tmp_path):
    save(tmp_path / "best")

    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was opened",))

    (tmp_path / "best" / "encoder.safetensors").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ConfigError, match="never opened"):
        checkpoint.load_weights(tmp_path / "best")


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ConfigError, match="is not a checkpoint"):
        checkpoint.read_checkpoint(tmp_path)
    save(tmp_path / "best")
    (tmp_path / "best" / "head.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"lacks head\.safetensors"):
        checkpoint.load_weights(tmp_path / "best")
    (tmp_path / "best" / "state.json").write_text("{")
    with pytest.raises(ConfigError, match=r"state\.json cannot be read"):
        checkpoint.read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("width", "message"), [(3, r"should have the shape \(3, 2\), but \(4, 2\) came"), (4, None)]
)
def test_another_width_is_refused_before_anything_is_changed(width, message):
    module = nn.Linear(2, width)
    weights = {"weight": torch.ones(4, 2), "bias": torch.ones(4)}
    before = module.weight.detach().clone()
    if message is None:
        checkpoint.load_into(module, weights, source="x")
        assert torch.equal(module.weight, weights["weight"])
        return
    with pytest.raises(ConfigError, match=message):
        checkpoint.load_into(module, weights, source="x")
    assert torch.equal(module.weight, before)


def test_state_is_plain_json(tmp_path):
    save(tmp_path / "last")
    assert json.loads((tmp_path / "last" / "state.json").read_text())["best"] == 0.5


@pytest.mark.parametrize("file", ["encoder.safetensors", "head.safetensors", "config.yaml", "scaler.json"])
def test_its_hash_sees_whatever_its_predictions_depend_on(tmp_path, file):
    save(tmp_path / "last")
    before = checkpoint.sha256_of(tmp_path / "last")
    save(tmp_path / "last", step=2)
    assert checkpoint.sha256_of(tmp_path / "last") == before
    path = tmp_path / "last" / file
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    assert checkpoint.sha256_of(tmp_path / "last") != before
