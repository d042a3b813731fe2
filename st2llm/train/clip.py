"""CLIP with prompts, of frozen parts: clips find the sentences that are true of them, and so answer questions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor

from st2llm.config.adaptation import Projection
from st2llm.config.training import PairRecipe
from st2llm.encode.field_batch import FieldBatch
from st2llm.features import text
from st2llm.model.objectives.video_text import Paired, Pairing, Pairs
from st2llm.predict.checkpoint import scaled
from st2llm.predict.preprocess.field import Frame
from st2llm.predict.preprocess.fit import blueprint_for, field_shape
from st2llm.train.checkpointing import RunFolder
from st2llm.train.clip_questions import frame_of, made_clips, stacked
from st2llm.train.loop import Budget, Fit, Watching, fit
from st2llm.train.model_card import model_card

PROMPTS = (
    "{question} {option}.",
    "In this video: {question} It is {option}.",
    "Asked “{question}”, one says: {option}",
)
"""Sentences that an option stands in; the mean of their vectors counts, as CLIP's ensembles of prompts."""


@dataclass(frozen=True)
class Pairer:
    """Who answers by the nearest sentence, and the rows to learn from."""

    model: Paired
    frame: Frame
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
            near = self.model.text(sentences([row] * len(row["options"]), row["options"]).to(device)) @ clip
            found.append(str(row["options"][int(near.argmax())]))
        return found

    def data(self, rows: Sequence[dict[str, Any]]) -> FieldBatch:
        """The windows that questions are about."""
        return stacked(self.frame, rows, blind=self.blind)

    def pairs(self, rows: Sequence[dict[str, Any]]) -> Pairs:
        """Windows with the sentence of the true answer."""
        return Pairs(self.data(rows), sentences(rows, [row["truth"] for row in rows]))


def sentences(rows: Sequence[dict[str, Any]], options: Sequence[str]) -> Float32[Tensor, "row d_text"]:
    """The mean vector of the prompts of each row's question with an option."""
    said = [
        prompt.format(question=row["question"].words, option=option)
        for row, option in zip(rows, options, strict=True)
        for prompt in PROMPTS
    ]
    vectors = torch.from_numpy(text.load("minilm").encode(said))
    return vectors.reshape(len(options), len(PROMPTS), -1).mean(dim=1)


def pair(
    recipe: PairRecipe,
    out: Path,
    *,
    resume: bool = False,
    tick: Watching = lambda step: None,
    blind: bool = False,
) -> tuple[Pairer, Fit]:
    """Trains the encoder and both linear layers on made clips; the sentence vectors stay as they are.

    blind: nothing of the clips is shown, in training and after. Raises as `pretrain` does.
    """
    folder = RunFolder(out, recipe, seed=recipe.seed)
    folder.open(resume=resume)
    clips = made_clips(recipe)
    frame = frame_of(clips, recipe, up=Projection())
    shape, first = field_shape(clips.samples[0], clips.task, frame), clips.samples[0]
    blueprint = blueprint_for(shape, first, recipe.encoder, llm=None, up=Projection())
    d_text = text.load("minilm").width
    model = Paired(blueprint, d_text=d_text, width=recipe.width, seed=recipe.seed)
    pairer = Pairer(model, frame, clips.train, blind)
    params = sum(weight.numel() for weight in model.parameters())
    folder.describe(
        {"recipe": recipe.model_dump(mode="json"), "of": "pair"},
        scaled(frame),
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


def _card(r: PairRecipe, params: int, state: Any) -> str:
    joined = f" with {', '.join(r.encoder.also)}" if r.encoder.also else ""
    return model_card(
        r,
        f"Clips (encoder{joined}) and sentences (all-MiniLM-L6-v2) in one space of {r.width} numbers; {params:,} "
        f"trained parameters. Trained on {r.clips} made clips.",
        state=state,
        unit="nats a pair",
    )
