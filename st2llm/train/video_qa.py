"""Questions about clips that a language model hears as soft tokens, or is told in words: trained on made clips, asked
about real ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from st2llm.config.training import VideoQARecipe
from st2llm.errors import ConfigError
from st2llm.model import checkpoint
from st2llm.model.backbone import trained
from st2llm.model.prompted import Speaker, Talk, Telling
from st2llm.predict.checkpoint import load_language_model, scaler_state
from st2llm.predict.preprocess.field import FieldPreprocessor
from st2llm.predict.preprocess.fit import field_shape, make_blueprint
from st2llm.serialize.questions import question_sample
from st2llm.serialize.template.template import Template, load_prompt
from st2llm.train.checkpointing import RunFolder
from st2llm.train.clip_questions import collate_clips, fit_clip_preprocessor, generate_clips
from st2llm.train.loop.trainer import Budget, FitResult, StepCallback, fit
from st2llm.train.model_card import model_card

_BATCH = 16


@dataclass(frozen=True)
class VideoQuestionAnswerer:
    """Who learns to answer and then answers, and the rows to learn from."""

    speaker: Speaker
    preprocessor: FieldPreprocessor
    template: Template
    rows: list[dict[str, Any]]
    blind: bool
    words: int | None

    def answer(self, rows: Sequence[dict[str, Any]]) -> list[str]:
        """Its answers to rows of `exam_rows`."""
        found = []
        for start in range(0, len(rows), _BATCH):
            part = rows[start : start + _BATCH]
            found += self.speaker.answers(self.talk(part))
        return found

    def talk(self, rows: Sequence[dict[str, Any]]) -> Talk:
        """Rows as prompts, and the windows that fill their slots."""
        tokenizer = self.speaker.llm.tokenizer
        prompts = [
            self.template.render(
                question_sample(row["window"], row["question"]),
                soft=self.preprocessor.slots,
                budget=self.words,
                tokenizer=tokenizer,
            )
            for row in rows
        ]
        begin = "" if self.template.head.format == "chat" else " "
        answers = tuple(tuple(tokenizer.answer_ids(f"{begin}{row['truth']}")) for row in rows)
        pieces = tuple(tokenizer.prompt_pieces(prompt) for prompt in prompts)
        if not takes_soft_tokens(self.template):
            return Talk(pieces, answers)
        return Talk(pieces, answers, collate_clips(self.preprocessor, rows, blind=self.blind))


def takes_soft_tokens(template: Template) -> bool:
    """Whether its prompts hold soft tokens; if not, all is told in words."""
    return "soft" in template.body.variables


def train_video_qa(
    recipe: VideoQARecipe,
    out: Path,
    *,
    resume: bool = False,
    tick: StepCallback = lambda step: None,
    blind: bool = False,
) -> tuple[VideoQuestionAnswerer, FitResult]:
    """Trains encoder, projection head and adapters on questions about made clips, the loss on the answers alone.

    A template without a slot tells clips in words, and nothing but adapters is trained.
    blind: nothing of the clips is shown, in training and after: the control without video. Raises as `pretrain` does.
    """
    folder = RunFolder(out, recipe, seed=recipe.seed)
    folder.open(resume=resume)
    made, validation = untrained_answerer(recipe, blind=blind)
    speaker, llm = made.speaker, made.speaker.llm
    params = trained(speaker)
    folder.describe(
        {"recipe": recipe.model_dump(mode="json"), "of": "talk"},
        scaler_state(made.preprocessor),
        lambda state: _card(recipe, params, state),
        checkpoint.Beneath(llm, recipe.adapt),
    )
    done = fit(
        speaker,
        made.talk(made.rows),
        made.talk(validation),
        Budget(**recipe.budget.model_dump()),
        objective=Telling(),
        seed=recipe.seed,
        tick=tick,
        keeper=folder,
    )
    return made, done


def untrained_answerer(
    recipe: VideoQARecipe, *, blind: bool = False
) -> tuple[VideoQuestionAnswerer, list[dict[str, Any]]]:
    """Who is trained by a recipe, as it is before, and the rows that its best state is chosen by."""
    clips = generate_clips(recipe)
    preprocessor = fit_clip_preprocessor(clips, recipe, up=recipe.up)
    template, llm = load_prompt(recipe.template), load_language_model(recipe.llm)
    blueprint = None
    if takes_soft_tokens(template):
        shape = field_shape(clips.samples[0], clips.task, preprocessor)
        blueprint = make_blueprint(shape, clips.samples[0], recipe.encoder, llm=llm, up=recipe.up)
    elif recipe.adapt.frozen or recipe.init_from or blind:
        raise ConfigError(
            f"{recipe.id}: {recipe.template} tells clips in words, so there is nothing to train but the language "
            f"model. Set adapt.method to lora, and leave `init_from` out."
        )
    speaker = Speaker(llm, recipe.adapt, blueprint=blueprint, seed=recipe.seed)
    if recipe.init_from:
        checkpoint.start_from(speaker, Path(recipe.init_from), heads=True)
    return VideoQuestionAnswerer(
        speaker, preprocessor, template, clips.train, blind, recipe.prompt_budget
    ), clips.validation


def _card(r: VideoQARecipe, params: int, state: Any) -> str:
    return model_card(
        r,
        f"{r.llm.name} answers questions about clips ({r.template}); {params:,} trained parameters ({r.adapt.method}). "
        f"Trained on {r.clips} made clips.",
        state=state,
        unit="nats a token",
        head={"base_model": r.llm.name},
    )
