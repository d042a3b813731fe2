"""Questions about clips: a run does not start from a checkpoint that was fitted on the clips of its exam."""

import json

import pytest
from support.five_kinds import clip as film

from st2llm.config.training import VideoQARecipe
from st2llm.data.windows.fitted_on import FittedOn, fitted_on_parts
from st2llm.errors import ConfigError
from st2llm.train.video import clip_questions
from st2llm.train.video.clip_questions import exam_rows
from st2llm.train.video.video_qa import untrained_answerer
from st2llm.types import Provenance


def recipe(**changes) -> VideoQARecipe:
    made = {
        "id": "tiny", "clips": 8, "frames": 4, "windows": 2, "test": ["first", "second"],
        "llm": {"name": "not-loaded"}, "budget": {"steps": 1, "batch": 4, "lr": 5e-3},
    }  # fmt: skip
    return VideoQARecipe.model_validate(made | changes)


@pytest.mark.parametrize(("clip", "refused"), [("left", True), ("right", True), ("other", False)])
def test_a_start_that_was_fitted_on_a_clip_of_the_exam_is_refused(tmp_path, monkeypatch, clip, refused):
    clips = {
        "first": [film(10, name="left")],
        "second": [film(10, name="right")],
        "third": [film(10, name="other")],
    }
    monkeypatch.setattr(clip_questions, "load_data", clips.__getitem__)
    of = {row["window"].id.split("/")[1]: row["window"] for row in exam_rows(recipe(test=list(clips)))}
    fitted = fitted_on_parts({"train": [of[clip]]}, Provenance()) + FittedOn(unknown=("a hub model",))
    contents = {
        "state.json": {"fitted_on": fitted.to_json()},
        "scaler.json": {},
        "config.yaml": {"of": "talk"},
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(json.dumps(content))
    message = r"The checkpoint .*\(init_from of tiny\) should be fitted on data without the test part"
    with pytest.raises(ConfigError, match=message if refused else "not-loaded"):
        untrained_answerer(recipe(init_from=str(tmp_path)))
