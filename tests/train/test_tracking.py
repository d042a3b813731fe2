"""A run is reported to trackers: real event files of TensorBoard; a tracker that is missing is named at once."""

import pytest
import torch

from st2llm.config.training import Recipe
from st2llm.errors import ConfigError
from st2llm.train import tracking
from st2llm.train.loop.state import TrainingState


class Kept:
    """A checkpointer that counts its saves."""

    saved = 0

    def save(self, state, terms):
        self.saved += 1

    def load(self):
        return None


def recipe(*names):
    content = {"id": "tiny", "budget": {"steps": 3, "lr": 0.5}, "report_to": list(names)}
    return Recipe.model_validate(content)


def test_tensorboard_event_files_hold_the_losses_and_settings(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    weights = {"w": torch.ones(1)}
    inner = Kept()
    with tracking.tracked(recipe("tensorboard"), tmp_path, inner) as checkpointer:
        for step, loss in ((2, 0.5), (4, 0.25)):
            rows = [(0, float("nan"), 1.0), (step, loss + 1, loss)]
            checkpointer.save(TrainingState(step, rows, loss, weights, weights), {"regression": loss})
    assert inner.saved == 2
    folder = tmp_path / "tensorboard/tiny"
    events = accumulator.EventAccumulator(str(folder)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss/validation")] == [(2, 0.5), (4, 0.25)]
    assert [e.value for e in events.Scalars("loss/train")] == [1.5, 1.25]
    assert [e.value for e in events.Scalars("terms/regression")] == [0.5, 0.25]
    (settings,) = folder.rglob("hparams.yml")
    assert "budget.lr: 0.5" in settings.read_text()


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_tracker_that_is_not_installed_is_named_before_anything_is_loaded(monkeypatch, name):
    monkeypatch.setitem(tracking._AVAILABLE, name, lambda: False)
    with pytest.raises(ConfigError, match=rf"tiny: report_to names {name}, .*pip install {name}"):
        tracking.check_trackers(recipe(name))


def test_without_trackers_the_checkpointer_is_the_run_s_own(tmp_path):
    inner = Kept()
    with tracking.tracked(recipe(), tmp_path, inner) as checkpointer:
        assert checkpointer is inner
