"""Video question answering: a language model answers questions about clips, given as soft tokens or in words.

It is trained on generated clips, whose answers are computed, and examined on real ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from st2llm.config.training import VideoQARecipe
from st2llm.errors import ConfigError
from st2llm.model import checkpoint
from st2llm.model.backbone import trained_parameter_count
from st2llm.model.prompted import AnswerLoss, PromptBatch, PromptedLM
from st2llm.predict.build import load_language_model
from st2llm.predict.preprocess import Preprocessor
from st2llm.predict.preprocess.fit import make_blueprint
from st2llm.serialize.questions import question_sample
from st2llm.serialize.template.template import Template, load_prompt
from st2llm.train.checkpointing import CheckpointContents
from st2llm.train.loop.budget import FitResult, StepCallback
from st2llm.train.model_card import model_card
from st2llm.train.run import open_run, run
from st2llm.train.setup import Setup, recipe_config
from st2llm.train.video.clip_questions import (
    clips_fitted_on,
    collate_clips,
    fit_clip_preprocessor,
    generate_clips,
    refuse_exam_clips,
)

_BATCH_SIZE = 16


@dataclass(frozen=True)
class VideoQuestionAnswerer:
    """A language model that answers questions about clips.

    rows: the questions it is trained on. blind: the values of all clips are replaced by zeros. token_budget: of a
    prompt that describes the clip in words.
    """

    model: PromptedLM
    preprocessor: Preprocessor
    template: Template
    rows: list[dict[str, Any]]
    blind: bool
    token_budget: int | None

    def answer(self, rows: Sequence[dict[str, Any]]) -> list[str]:
        """The answers to rows of `exam_rows`."""
        answers = []
        for start in range(0, len(rows), _BATCH_SIZE):
            answers += self.model.generate_answers(self.collate(rows[start : start + _BATCH_SIZE]))
        return answers

    def collate(self, rows: Sequence[dict[str, Any]]) -> PromptBatch:
        """Prompts and answers of rows as tokens, and the windows that fill the slots of the prompts."""
        tokenizer = self.model.llm.tokenizer
        prompts = [
            self.template.render(
                question_sample(row["window"], row["question"]),
                soft=self.preprocessor.slots,
                budget=self.token_budget,
                tokenizer=tokenizer,
            )
            for row in rows
        ]
        separator = "" if self.template.head.format == "chat" else " "
        answers = tuple(tuple(tokenizer.answer_ids(f"{separator}{row['truth']}")) for row in rows)
        pieces = tuple(tokenizer.prompt_pieces(prompt) for prompt in prompts)
        if not takes_soft_tokens(self.template):
            return PromptBatch(pieces, answers)
        return PromptBatch(pieces, answers, collate_clips(self.preprocessor, rows, blind=self.blind))


def takes_soft_tokens(template: Template) -> bool:
    """Whether the prompts of a template hold soft tokens; if not, they describe clips in words."""
    return "soft" in template.body.variables


def train_video_qa(
    recipe: VideoQARecipe,
    out: Path,
    *,
    resume: bool = False,
    on_step: StepCallback = lambda step: None,
    blind: bool = False,
) -> tuple[VideoQuestionAnswerer, FitResult]:
    """Trains encoder, projection head and adapters on questions about generated clips; the loss is on the answers.

    With a template without a slot, clips are described in words and only the adapters are trained.
    blind: trains and answers without seeing the clips, as a control. Raises as `pretrain` does.
    """
    with open_run(recipe, out, resume=resume) as folder:
        answerer, validation = untrained_answerer(recipe, blind=blind)
        model = answerer.model
        setup = Setup(
            module=model,
            objective=AnswerLoss(),
            train=answerer.collate(answerer.rows),
            validation=answerer.collate(validation),
            contents=CheckpointContents(
                config=recipe_config(recipe, "talk"),
                scaler=answerer.preprocessor.scaler_state(),
                card=partial(_card, recipe, trained_parameter_count(model)),
                base_model=checkpoint.BaseModel(model.llm, recipe.adapt),
                fitted_on=clips_fitted_on([*answerer.rows, *validation], recipe.init_from),
            ),
        )
        return answerer, run(recipe, folder, setup, on_step=on_step)


def untrained_answerer(
    recipe: VideoQARecipe, *, blind: bool = False
) -> tuple[VideoQuestionAnswerer, list[dict[str, Any]]]:
    """The model of a recipe before training, and the questions that choose its best state.

    Raises ConfigError for a template without a slot where the recipe would train or start an encoder, and for a
    checkpoint to start from that was fitted on clips of the exam.
    """
    template = load_prompt(recipe.template)
    if recipe.init_from and takes_soft_tokens(template):
        refuse_exam_clips(recipe, recipe.init_from)
    llm, clips = load_language_model(recipe.llm), generate_clips(recipe)
    preprocessor = fit_clip_preprocessor(clips, recipe, up=recipe.up)
    blueprint = None
    if takes_soft_tokens(template):
        shape = preprocessor.task_shape(clips.samples[0], clips.task)
        blueprint = make_blueprint(shape, clips.samples[0], recipe.encoder, llm=llm, up=recipe.up)
    elif recipe.adapt.frozen or recipe.init_from or blind:
        raise ConfigError(
            f"{recipe.id}: {recipe.template} describes clips in words, so there is nothing to train but the language "
            f"model. Set adapt.method to lora, and leave `init_from` out."
        )
    model = PromptedLM(llm, recipe.adapt, spec=blueprint, seed=recipe.seed)
    if recipe.init_from:
        checkpoint.load_encoder(model, Path(recipe.init_from), clips.samples[0], heads=True)
    answerer = VideoQuestionAnswerer(model, preprocessor, template, clips.train, blind, recipe.prompt_budget)
    return answerer, clips.validation


def _card(r: VideoQARecipe, parameters: int, state: Mapping[str, Any]) -> str:
    return model_card(
        r,
        f"{r.llm.name} answers questions about clips ({r.template}); {parameters:,} trained parameters "
        f"({r.adapt.method}). Trained on {r.clips} generated clips.",
        state=state,
        unit="nats a token",
        head={"base_model": r.llm.name},
    )
