"""`st2llm align` on clips without a language model: clips and sentences are embedded in one space, as CLIP does.

A question is answered by the option whose sentence lies nearest to the clip (Radford et al. 2021). The sentence vectors
are frozen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor

from st2llm.config.model import Projection
from st2llm.config.training import VideoTextRecipe
from st2llm.encode.field_batch import FieldBatch
from st2llm.features import text
from st2llm.model.objectives.video_text import ClipSentenceBatch, VideoTextContrast, VideoTextEncoder
from st2llm.predict.preprocess import Preprocessor
from st2llm.predict.preprocess.fit import make_blueprint
from st2llm.train.checkpointing import CheckpointContents
from st2llm.train.loop.budget import FitResult, StepCallback
from st2llm.train.model_card import model_card
from st2llm.train.run import open_run, run
from st2llm.train.setup import Setup, parameter_count, recipe_config
from st2llm.train.video.clip_questions import (
    clips_fitted_on,
    collate_clips,
    fit_clip_preprocessor,
    generate_clips,
)

ANSWER_PROMPTS = (
    "{question} {option}.",
    "In this video: {question} It is {option}.",
    "Asked “{question}”, one says: {option}",
)
"""Sentences that an option is put into; their mean vector stands for the option, as in CLIP's prompt ensembles."""


@dataclass(frozen=True)
class ClipPromptModel:
    """Answers questions about clips by the nearest sentence.

    rows: the questions it is trained on. blind: the values of all clips are replaced by zeros.
    """

    model: VideoTextEncoder
    preprocessor: Preprocessor
    rows: list[dict[str, Any]]
    blind: bool

    @torch.inference_mode()
    def answer(self, rows: Sequence[dict[str, Any]]) -> list[str]:
        """For each question the option whose sentence lies nearest to the clip."""
        self.model.eval()
        device = next(self.model.parameters()).device
        clips = self.model.embed_clips(self.data(rows).to(device))
        answers = []
        for row, clip in zip(rows, clips, strict=True):
            vectors = sentence_vectors([row] * len(row["options"]), row["options"])
            similarity = self.model.embed_texts(vectors.to(device)) @ clip
            answers.append(str(row["options"][int(similarity.argmax())]))
        return answers

    def data(self, rows: Sequence[dict[str, Any]]) -> FieldBatch:
        """The windows that questions are about."""
        return collate_clips(self.preprocessor, rows, blind=self.blind)

    def pairs(self, rows: Sequence[dict[str, Any]]) -> ClipSentenceBatch:
        """Windows with the sentence vector of the true answer."""
        return ClipSentenceBatch(self.data(rows), sentence_vectors(rows, [row["truth"] for row in rows]))


def sentence_vectors(rows: Sequence[dict[str, Any]], options: Sequence[str]) -> Float32[Tensor, "row d_text"]:
    """The mean vector of the prompts of each row's question with an option."""
    sentences = [
        prompt.format(question=row["question"].text, option=option)
        for row, option in zip(rows, options, strict=True)
        for prompt in ANSWER_PROMPTS
    ]
    vectors = torch.from_numpy(text.load("minilm").encode(sentences))
    return vectors.reshape(len(options), len(ANSWER_PROMPTS), -1).mean(dim=1)


def train_clip_prompts(
    recipe: VideoTextRecipe,
    out: Path,
    *,
    resume: bool = False,
    on_step: StepCallback = lambda step: None,
    blind: bool = False,
) -> tuple[ClipPromptModel, FitResult]:
    """Trains the encoder and both linear layers on generated clips.

    blind: trains and answers without seeing the clips, as a control. Raises as `pretrain` does.
    """
    with open_run(recipe, out, resume=resume) as folder:
        clips = generate_clips(recipe)
        preprocessor = fit_clip_preprocessor(clips, recipe, up=Projection())
        first = clips.samples[0]
        shape = preprocessor.task_shape(first, clips.task)
        blueprint = make_blueprint(shape, first, recipe.encoder, llm=None, up=Projection())
        d_text = text.load("minilm").width
        model = VideoTextEncoder(blueprint, d_text=d_text, width=recipe.width, seed=recipe.seed)
        answerer = ClipPromptModel(model, preprocessor, clips.train, blind)
        setup = Setup(
            module=model,
            objective=VideoTextContrast(recipe.temperature),
            train=answerer.pairs(clips.train),
            validation=answerer.pairs(clips.validation),
            contents=CheckpointContents(
                config=recipe_config(recipe, "pair"),
                scaler=preprocessor.scaler_state(),
                card=partial(_card, recipe, parameter_count(model)),
                fitted_on=clips_fitted_on([*clips.train, *clips.validation]),
            ),
        )
        return answerer, run(recipe, folder, setup, on_step=on_step)


def _card(r: VideoTextRecipe, parameters: int, state: Mapping[str, Any]) -> str:
    features = f" with {', '.join(r.encoder.extra_features)}" if r.encoder.extra_features else ""
    return model_card(
        r,
        f"Clips (encoder{features}) and sentences (all-MiniLM-L6-v2) in one space of {r.width} numbers; "
        f"{parameters:,} trained parameters. Trained on {r.clips} generated clips.",
        state=state,
        unit="nats a pair",
    )
