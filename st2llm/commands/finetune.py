"""`st2llm finetune` from end to end: the instruction set is made, a model is trained on it, and examined."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from st2llm.commands.exam import TUNED, UNTUNED, Answerer, examine, prompted_answerer, write
from st2llm.commands.instruct import InstructionRequest, write_instructions
from st2llm.config.training import (
    InstructionRecipe,
    SoftTokenRecipe,
    VideoQARecipe,
    VideoQuestionRecipe,
    VideoTextRecipe,
)
from st2llm.evaluate.run.progress import NO_PROGRESS, ProgressReporter
from st2llm.evaluate.run.run_card import commit_text
from st2llm.model import checkpoint
from st2llm.model.prompted import PromptedLM
from st2llm.predict.build import load_language_model
from st2llm.train import align, clip_prompts, clip_questions, video_qa
from st2llm.train.checkpointing import is_main
from st2llm.train.finetune import InstructionSet, finetune
from st2llm.train.loop.budget import FitResult

_SET = "instructions"


def run_finetune(
    recipe: InstructionRecipe | SoftTokenRecipe | VideoQARecipe,
    out: Path,
    *,
    resume: bool = False,
    reporter: ProgressReporter = NO_PROGRESS,
) -> FitResult:
    """Fine-tunes behind soft tokens, or on instructions: then it makes the set first (where the recipe names data), and
    writes the exam's report.md into `out` at the end.

    Each part is kept when it is finished: a killed run goes on with `resume`. Raises as `instruct` and
    `train.finetune.finetune` do.
    """
    if isinstance(recipe, SoftTokenRecipe):
        reporter.start(recipe.id, recipe.budget.steps)
        return align.finetune(recipe, out, resume=resume, on_step=reporter.update).fit
    if isinstance(recipe, VideoQARecipe):
        return _talk(recipe, out, resume=resume, reporter=reporter)
    path = _set_of(recipe, out, resume=resume)
    reporter.start(recipe.id, recipe.budget.steps)
    done = finetune(recipe, path, out, resume=resume, on_step=reporter.update)
    if is_main() and recipe.instructions.test:
        _examine(recipe, path, out, reporter)
    return done


BLIND = "without video"


def _talk(recipe: VideoQARecipe, out: Path, *, resume: bool, reporter: ProgressReporter) -> FitResult:
    """Trains on questions about made clips, and a twin that sees nothing; both are examined on real clips. Where clips
    are told in words, the twin is the model as it was before."""
    reporter.start(recipe.id, recipe.budget.steps)
    answerer, done = video_qa.train_video_qa(recipe, out, resume=resume, on_step=reporter.update)
    soft_tokens = video_qa.takes_soft_tokens(answerer.template)
    answerers: dict[str, Callable[[], Answerer]] = {TUNED: lambda: answerer.answer}
    if recipe.control and soft_tokens:
        reporter.start(f"{recipe.id}, {BLIND}", recipe.budget.steps)
        twin, again = _beside(out, resume)
        blind, _ = video_qa.train_video_qa(recipe, twin, resume=again, on_step=reporter.update, blind=True)
        answerers[BLIND] = lambda: blind.answer
    elif recipe.control:
        answerers[UNTUNED] = lambda: (
            replace(answerer, model=PromptedLM(load_language_model(recipe.llm))).answer
        )
    facts = [
        ("language model", f"{recipe.llm.name}, depth {answerer.model.llm.depth}"),
        ("head and adaptation", f"{recipe.up.head if soft_tokens else 'words'}, {recipe.adapt.method}"),
    ]
    _ask(recipe, out, done, answerer.rows, answerers, facts, reporter)
    return done


def run_clip_prompts(
    recipe: VideoTextRecipe, out: Path, *, resume: bool = False, reporter: ProgressReporter = NO_PROGRESS
) -> FitResult:
    """Brings made clips and sentences into one space, and a twin that sees nothing; both are examined on real clips."""
    reporter.start(recipe.id, recipe.budget.steps)
    answerer, done = clip_prompts.train_clip_prompts(recipe, out, resume=resume, on_step=reporter.update)
    answerers: dict[str, Callable[[], Answerer]] = {TUNED: lambda: answerer.answer}
    if recipe.control:
        reporter.start(f"{recipe.id}, {BLIND}", recipe.budget.steps)
        twin, again = _beside(out, resume)
        blind, _ = clip_prompts.train_clip_prompts(
            recipe, twin, resume=again, on_step=reporter.update, blind=True
        )
        answerers[BLIND] = lambda: blind.answer
    joined = ", ".join(("values", *recipe.encoder.extra_features))
    facts = [
        ("clips", joined),
        ("sentences", "all-MiniLM-L6-v2, frozen"),
        ("common space", f"{recipe.width} numbers"),
    ]
    _ask(recipe, out, done, answerer.rows, answerers, facts, reporter)
    return done


def _beside(out: Path, resume: bool) -> tuple[Path, bool]:
    """Where the twin of a run is, and whether it was begun."""
    return out / "blind", resume and (out / "blind" / "run.json").exists()


def _ask(
    recipe: VideoQuestionRecipe,
    out: Path,
    done: FitResult,
    train: list[dict[str, Any]],
    answerers: dict[str, Callable[[], Answerer]],
    facts: list[tuple[str, str]],
    reporter: ProgressReporter,
) -> None:
    """The exam on real clips, written by the first process alone."""
    if not is_main():
        return
    rows = clip_questions.exam_rows(recipe)
    reporter.start(f"{recipe.id}, exam", len(rows) * len(answerers))
    exam = examine(rows, train, answerers, tick=reporter.update)
    told = [
        *facts,
        ("trained on", f"{recipe.clips} made clips of {recipe.frames} frames, {len(train)} questions"),
        ("asked about", f"{', '.join(recipe.test)}: at most {recipe.windows} windows each"),
        ("steps", f"{done.curve.step[-1]}, batch {recipe.budget.batch}, rate {recipe.budget.lr:g}"),
        ("validation", f"{done.curve.best:.4g} nats"),
        ("seed", str(recipe.seed)),
        ("commit", commit_text()),
    ]
    write(exam, out, title=recipe.title or recipe.id, facts=told)


def _set_of(recipe: InstructionRecipe, out: Path, *, resume: bool) -> str:
    wanted = recipe.instructions
    if wanted.data is None:
        return str(wanted.path)
    folder = out / _SET
    counts = {"train": wanted.count, "validation": wanted.validation, "test": wanted.test}
    if is_main():
        for part, count in counts.items():
            if (count and not (folder / part / "instruct.json").exists()) or (resume and count):
                order = InstructionRequest(
                    wanted.data,
                    wanted.templates,
                    count,
                    seed=recipe.seed,
                    part=part,  # type: ignore[arg-type]
                    budget=wanted.prompt_budget,
                    llm=recipe.llm.name if wanted.prompt_budget else None,
                )
                write_instructions(order, folder / part, resume=resume)
    return str(folder)


def _examine(recipe: InstructionRecipe, path: str, out: Path, reporter: ProgressReporter) -> None:
    rows = InstructionSet(path)
    test, train = rows.read("test", limit=recipe.instructions.test or None), rows.read("train")
    plain = recipe.llm.model_copy(update={"quant": "none"})
    models: dict[str, Callable[[], Answerer]] = {
        TUNED: lambda: prompted_answerer(checkpoint.load_finetuned_llm(out, dtype=recipe.llm.dtype)),
        UNTUNED: lambda: prompted_answerer(load_language_model(plain)),
    }
    reporter.start(f"{recipe.id}, exam", len(test) * len(models))
    exam = examine(test, train, models, tick=reporter.update)
    write(exam, out, title=recipe.title or recipe.id, facts=_facts(recipe, out, test))


def _facts(recipe: InstructionRecipe, out: Path, test: list[dict[str, Any]]) -> list[tuple[str, str]]:
    found = checkpoint.read_checkpoint(out)
    state, r, a = found.state, recipe, recipe.adapt
    first = test[0]
    return [
        (
            "language model",
            f"{r.llm.name}, trained in {r.llm.quant if r.llm.quant != 'none' else r.llm.dtype}",
        ),
        (
            "adaptation",
            f"{a.method}, rank {a.rank}, {', '.join(a.target_modules)}" if a.method == "lora" else a.method,
        ),
        (
            "instructions",
            f"{first.get('dataset') or r.instructions.path}, {', '.join(r.instructions.templates)}",
        ),
        ("data sha256", str(first.get("data_sha256"))),
        (
            "best state",
            f"step {state['step']} of {r.budget.steps}, batch {r.budget.batch}, rate {r.budget.lr:g}",
        ),
        ("validation, nats a token", f"{state['best']:.4g}, before training {state['rows'][0][2]:.4g}"),
        ("seed", str(r.seed)),
        ("commit", commit_text()),
    ]
