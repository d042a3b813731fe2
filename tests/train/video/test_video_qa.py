"""Questions about clips: heard as soft tokens or told in words, learned on made clips, answered about others."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.tiny_llm import tiny

from st2llm.commands import finetune as tuning
from st2llm.commands.exam import TUNED, UNTUNED
from st2llm.config.training import VideoQARecipe
from st2llm.errors import ConfigError
from st2llm.model import checkpoint
from st2llm.train.video import clip_questions
from st2llm.train.video.clip_questions import question_rows
from st2llm.train.video.video_qa import takes_soft_tokens, train_video_qa, untrained_answerer
from st2llm.types import Slot

pytestmark = pytest.mark.slow

__all__ = ["tiny"]


def recipe(llm: str, **changes) -> VideoQARecipe:
    made = {
        "id": "tiny",
        "clips": 8,
        "frames": 4,
        "topics": ["brighter-when"],
        "windows": 2,
        "test": ["kth-few"],
        "encoder": {"d_st": 16, "patch": 2, "layers": 1, "graph": "gcn"},
        "llm": {"name": llm, "depth": 2, "dtype": "fp32"},
        "up": {"head": "resampler", "tokens": 3},
        "adapt": {"method": "lora", "rank": 4},
        "budget": {"steps": 4, "batch": 4, "lr": 5e-3, "evaluations": 2},
        "validation": 4,
        **changes,
    }
    return VideoQARecipe.model_validate(made)


WORDS = {"template": "video/question-answer.chat", "encoder": {}, "up": {}}


@pytest.fixture(scope="module")
def reader(tiny, tmp_path_factory):
    """A model whose context holds a clip in words, some 2,800 tokens of the tiny tokenizer."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(tiny(), folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 4096}))
    return str(folder)


def losses(out: Path) -> list[float]:
    return [json.loads(line)["train"] for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("template", ["video/question-answer.soft", "video/question-answer.soft-chat"])
def test_a_clip_fills_the_slot_of_its_prompt(tiny, template):
    answerer, validation = untrained_answerer(recipe(tiny(), template=template))
    said = answerer.collate(answerer.rows[:3])
    slots = [[piece for piece in prompt if isinstance(piece, Slot)] for prompt in said.prompts]
    assert slots == [[Slot("regions", 3)]] * 3
    assert len(said.data) == 3 and validation
    assert {row["sample"] for row in validation}.isdisjoint(row["sample"] for row in answerer.rows)
    rows = answerer.model.embed_prompts(said)
    assert all(torch.isfinite(row).all() for row in rows)


def test_what_is_blind_sees_nothing_of_a_clip(tiny):
    answerer, _ = untrained_answerer(recipe(tiny()), blind=True)
    said = answerer.collate(answerer.rows[:3])
    assert not said.data.values.any() and not said.data.visible.any()
    seeing = replace(answerer, blind=False).collate(answerer.rows[:3])
    assert seeing.data.visible.any()
    assert said.prompts == seeing.prompts


def test_heads_and_adapters_are_trained_and_kept(tiny, tmp_path):
    plan = recipe(tiny())
    answerer, done = train_video_qa(plan, tmp_path / "out")
    assert done.curve.step[-1] == 4
    kept = checkpoint.load_weights(tmp_path / "out" / "last")
    assert any(name.startswith("encoder.") for name in kept)
    assert any("lora_" in name for name in kept)
    answers = answerer.answer(answerer.rows[:3])
    assert len(answers) == 3 and all(isinstance(answer, str) for answer in answers)
    with pytest.raises(ConfigError, match="resume"):
        train_video_qa(plan, tmp_path / "out")


def test_in_words_nothing_but_adapters_is_trained(reader, tmp_path):
    plan = recipe(reader, **WORDS)
    answerer, _ = train_video_qa(plan, tmp_path / "out")
    assert not takes_soft_tokens(answerer.template)
    assert answerer.collate(answerer.rows[:2]).data is None
    kept = checkpoint.load_weights(tmp_path / "out" / "last")
    assert kept and all("lora_" in name for name in kept)


@pytest.mark.parametrize("change", [{"adapt": {"method": "frozen"}}, {"init_from": "runs/other"}])
def test_in_words_there_is_nothing_else_to_train(tiny, change):
    with pytest.raises(ConfigError, match="describes clips in words"):
        untrained_answerer(recipe(tiny(), **WORDS, **change))


@pytest.mark.parametrize(("change", "twin"), [({}, tuning.BLIND), (WORDS, UNTUNED)])
def test_the_exam_is_about_other_clips_and_has_its_control(reader, tmp_path, monkeypatch, change, twin):
    plan = recipe(reader, **change)
    others, _ = untrained_answerer(recipe(reader, seed=5))
    asked = question_rows([row["window"] for row in others.rows[:3]], plan.topics)
    monkeypatch.setattr(clip_questions, "exam_rows", lambda _: asked)
    tuning.run_finetune(plan, tmp_path / "out")
    records = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert {record["predictor"] for record in records} >= {TUNED, twin}
    assert all(record["n"] == len(asked) for record in records)
