"""CLIP with prompts, of frozen parts: clips find the sentences that are true of them, and so answer questions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor

from st2llm.config.model import Projection
from st2llm.config.training import VideoTextRecipe
from st2llm.encode.field_batch import FieldBatch
from st2llm.features import text
from st2llm.model.objectives.video_text import Paired, Pairing, Pairs
from st2llm.predict.checkpoint import scaler_state
from st2llm.predict.preprocess.field import FieldPreprocessor
from st2llm.predict.preprocess.fit import field_shape, make_blueprint
from st2llm.train.checkpointing import RunFolder
from st2llm.train.clip_questions import collate_clips, fit_clip_preprocessor, generate_clips
from st2llm.train.loop.trainer import Budget, FitResult, StepCallback, fit
from st2llm.train.model_card import model_card

ANSWER_PROMPTS = (
    "{question} {option}.",
    "In this video: {question} It is {option}.",
    "Asked “{question}”, one says: {option}",
)
"""Sentences that an option stands in; the mean of their vectors counts, as CLIP's ensembles of prompts."""


@dataclass(frozen=True)
class ClipPromptModel:
    """Who answers by the nearest sentence, and the rows to learn from."""

    model: Paired
    preprocessor: FieldPreprocessor
    rows: list[dict[str, Any]]
    blind: bool

    @torch.inference_mode()
    def answer(self, rows: Sequence[dict[str, Any]]) -> list[str]:
        """Of each question the option whose sentence lies nearest to the clip."""
        self.model.eval()
        device = next(self.model.parameters()).device
        clips = self.model.clip(self.data(rows).to(device))
        found = []
        for row, clip in zip(rows, clips, strict=True):
            near = (
                self.model.text(sentence_vectors([row] * len(row["options"]), row["options"]).to(device))
                @ clip
            )
            found.append(str(row["options"][int(near.argmax())]))
        return found

    def data(self, rows: Sequence[dict[str, Any]]) -> FieldBatch:
        """The windows that questions are about."""
        return collate_clips(self.preprocessor, rows, blind=self.blind)

    def pairs(self, rows: Sequence[dict[str, Any]]) -> Pairs:
        """Windows with the sentence of the true answer."""
        return Pairs(self.data(rows), sentence_vectors(rows, [row["truth"] for row in rows]))


def sentence_vectors(rows: Sequence[dict[str, Any]], options: Sequence[str]) -> Float32[Tensor, "row d_text"]:
    """The mean vector of the prompts of each row's question with an option."""
    said = [
        prompt.format(question=row["question"].words, option=option)
        for row, option in zip(rows, options, strict=True)
        for prompt in ANSWER_PROMPTS
    ]
    vectors = torch.from_numpy(text.load("minilm").encode(said))
    return vectors.reshape(len(options), len(ANSWER_PROMPTS), -1).mean(dim=1)


def train_clip_prompts(
    recipe: VideoTextRecipe,
    out: Path,
    *,
    resume: bool = False,
    tick: StepCallback = lambda step: None,
    blind: bool = False,
) -> tuple[ClipPromptModel, FitResult]:
    """Trains the encoder and both linear layers on made clips; the sentence vectors stay as they are.

    blind: nothing of the clips is shown, in training and after. Raises as `pretrain` does.
    """
    folder = RunFolder(out, recipe, seed=recipe.seed)
    folder.open(resume=resume)
    clips = generate_clips(recipe)
    preprocessor = fit_clip_preprocessor(clips, recipe, up=Projection())
    shape, first = field_shape(clips.samples[0], clips.task, preprocessor), clips.samples[0]
    blueprint = make_blueprint(shape, first, recipe.encoder, llm=None, up=Projection())
    d_text = text.load("minilm").width
    model = Paired(blueprint, d_text=d_text, width=recipe.width, seed=recipe.seed)
    pairer = ClipPromptModel(model, preprocessor, clips.train, blind)
    params = sum(weight.numel() for weight in model.parameters())
    folder.describe(
        {"recipe": recipe.model_dump(mode="json"), "of": "pair"},
        scaler_state(preprocessor),
        lambda state: _card(recipe, params, state),
    )
    done = fit(
        model,
        pairer.pairs(clips.train),
        pairer.pairs(clips.validation),
        Budget(**recipe.budget.model_dump()),
        objective=Pairing(recipe.temperature),
        seed=recipe.seed,
        tick=tick,
        keeper=folder,
    )
    return pairer, done


def _card(r: VideoTextRecipe, params: int, state: Any) -> str:
    joined = f" with {', '.join(r.encoder.extra_features)}" if r.encoder.extra_features else ""
    return model_card(
        r,
        f"Clips (encoder{joined}) and sentences (all-MiniLM-L6-v2) in one space of {r.width} numbers; {params:,} "
        f"trained parameters. Trained on {r.clips} made clips.",
        state=state,
        unit="nats a pair",
    )
