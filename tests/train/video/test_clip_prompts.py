"""Clips and sentences are brought together, and questions answered by the sentence that lies nearest."""

import json

import numpy as np
import pytest
import torch

from st2llm.commands import finetune as tuning
from st2llm.commands.align import align_and_report
from st2llm.commands.exam import TUNED
from st2llm.config.training import VideoTextRecipe
from st2llm.errors import ConfigError
from st2llm.features import text
from st2llm.model import checkpoint
from st2llm.model.objectives.video_text import VideoTextContrast, VideoTextEncoder
from st2llm.train.video import clip_questions
from st2llm.train.video.clip_prompts import ANSWER_PROMPTS, sentence_vectors, train_clip_prompts

pytestmark = pytest.mark.slow


class Sentences:
    """A vector a sentence, at random but always the same: what MiniLM is to the code, without loading it."""

    width = 12

    def encode(self, texts):
        rows = [np.random.default_rng(list(one.encode())).normal(size=self.width) for one in texts]
        return np.stack([row / np.linalg.norm(row) for row in rows]).astype(np.float32)


@pytest.fixture(autouse=True)
def encoder(monkeypatch):
    monkeypatch.setattr(text, "load", lambda name: Sentences())


def recipe(**changes) -> VideoTextRecipe:
    made = {
        "id": "tiny", "clips": 40, "frames": 4, "topics": ["brighter-when"], "windows": 2, "test": ["kth-few"],
        "encoder": {"d_st": 16, "patch": 2, "layers": 1, "graph": "gcn"}, "width": 8, "validation": 4,
        "budget": {"steps": 120, "batch": 16, "lr": 1e-2, "evaluations": 4}, **changes,
    }  # fmt: skip
    return VideoTextRecipe.model_validate(made)


def test_a_clip_finds_the_sentence_that_is_true_of_it(tmp_path):
    answerer, done = train_clip_prompts(recipe(), tmp_path / "out")
    assert done.curve.train[-1] < 0.8 * done.curve.train[0]
    answers = answerer.answer(answerer.rows)
    right = np.mean([answer == row["truth"] for answer, row in zip(answers, answerer.rows, strict=True)])
    usual = max(
        np.mean([row["truth"] == one for row in answerer.rows]) for one in answerer.rows[0]["options"]
    )
    assert right > usual + 0.1
    assert all(answer in row["options"] for answer, row in zip(answers, answerer.rows, strict=True))
    kept = checkpoint.load_weights(tmp_path / "out" / "best")
    assert {"of_clip.weight", "of_text.weight"} <= kept.keys()
    with pytest.raises(ConfigError, match="resume"):
        train_clip_prompts(recipe(), tmp_path / "out")


def test_equal_sentences_are_no_negatives_of_each_other(tmp_path):
    answerer, _ = train_clip_prompts(
        recipe(budget={"steps": 1, "batch": 8, "lr": 1e-3, "evaluations": 1}), tmp_path / "out"
    )
    model, row = answerer.model, answerer.rows[0]
    assert isinstance(model, VideoTextEncoder)
    twice = answerer.pairs([row, row])
    (total,) = VideoTextContrast(0.1).totals(model, twice).values()
    assert float(total.detach()) == pytest.approx(0.0, abs=1e-5)
    assert sentence_vectors([row], [row["truth"]]).shape == (1, Sentences.width)
    assert len(ANSWER_PROMPTS) > 1


def test_without_video_all_clips_are_one(tmp_path):
    few = recipe(budget={"steps": 1, "batch": 8, "lr": 1e-3, "evaluations": 1})
    answerer, _ = train_clip_prompts(few, tmp_path / "out", blind=True)
    vectors = answerer.model.embed_clips(answerer.data(answerer.rows[:4]))
    torch.testing.assert_close(vectors, vectors[:1].expand_as(vectors), atol=1e-4, rtol=0)


def test_the_command_examines_it_beside_its_control(tmp_path, monkeypatch):
    few = recipe(budget={"steps": 2, "batch": 8, "lr": 1e-3, "evaluations": 1})
    monkeypatch.setattr(
        clip_questions, "exam_rows", lambda asked: clip_questions.generate_clips(asked).validation
    )
    align_and_report(few, tmp_path / "out")
    records = map(json.loads, (tmp_path / "out" / "results.jsonl").read_text().splitlines())
    assert {record["predictor"] for record in records} >= {TUNED, tuning.BLIND}
