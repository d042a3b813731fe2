"""`st2llm finetune` from end to end: writes the instruction set, trains a model on it, and evaluates it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from st2llm.commands.exam import TUNED, UNTUNED, Answerer, examine, prompted_answerer, write
from st2llm.commands.instruct.rows import InstructionRequest
from st2llm.commands.instruct.shards import write_instructions
from st2llm.config.training import (
    InstructionRecipe,
    SoftTokenRecipe,
    VideoQARecipe,
    VideoQuestionRecipe,
    VideoTextRecipe,
)
from st2llm.evaluate.planning.training import check_recipe
from st2llm.evaluate.run.progress import NO_PROGRESS, ProgressReporter
from st2llm.evaluate.run.run_card import commit_text
from st2llm.model import checkpoint
from st2llm.model.prompted import PromptedLM
from st2llm.predict.build import load_language_model
from st2llm.train import align
from st2llm.train.checkpointing import is_main
from st2llm.train.finetune import InstructionSet, finetune
from st2llm.train.loop.budget import FitResult
from st2llm.train.video import clip_prompts, clip_questions, video_qa

_SET = "instructions"


def run_finetune(
    recipe: InstructionRecipe | SoftTokenRecipe | VideoQARecipe,
    out: Path,
    *,
    resume: bool = False,
    reporter: ProgressReporter = NO_PROGRESS,
) -> FitResult:
    """Fine-tunes on soft tokens or on instructions.

    For instructions, the set is written first where the recipe names data, and the evaluation writes report.md into
    `out`. Finished parts are kept: `resume` continues a killed run. Raises as `instruct` and
    `train.finetune.finetune` do.
    """
    if isinstance(recipe, SoftTokenRecipe):
        reporter.start(recipe.id, recipe.budget.steps)
        return align.finetune(recipe, out, resume=resume, on_step=reporter.update).fit
    if isinstance(recipe, VideoQARecipe):
        return _run_video_qa(recipe, out, resume=resume, reporter=reporter)
    check_recipe(recipe)
    path = _instruction_set(recipe, out, resume=resume)
    reporter.start(recipe.id, recipe.budget.steps)
    result = finetune(recipe, path, out, resume=resume, on_step=reporter.update)
    if is_main() and recipe.instructions.test:
        _examine(recipe, path, out, reporter)
    return result


BLIND = "without video"


def _run_video_qa(recipe: VideoQARecipe, out: Path, *, resume: bool, reporter: ProgressReporter) -> FitResult:
    """Trains on questions about synthetic clips, with a control that gets no video; both are evaluated on real clips.

    Where clips are described in text, the control is the model before training.
    """
    check_recipe(recipe)
    reporter.start(recipe.id, recipe.budget.steps)
    answerer, result = video_qa.train_video_qa(recipe, out, resume=resume, on_step=reporter.update)
    soft_tokens = video_qa.takes_soft_tokens(answerer.template)
    answerers: dict[str, Callable[[], Answerer]] = {TUNED: lambda: answerer.answer}
    if recipe.control and soft_tokens:
        reporter.start(f"{recipe.id}, {BLIND}", recipe.budget.steps)
        control, started = _control_folder(out, resume)
        blind, _ = video_qa.train_video_qa(
            recipe, control, resume=started, on_step=reporter.update, blind=True
        )
        answerers[BLIND] = lambda: blind.answer
    elif recipe.control:
        answerers[UNTUNED] = lambda: (
            replace(answerer, model=PromptedLM(load_language_model(recipe.llm))).answer
        )
    facts = [
        ("language model", f"{recipe.llm.name}, depth {answerer.model.llm.depth}"),
        ("head and adaptation", f"{recipe.up.head if soft_tokens else 'words'}, {recipe.adapt.method}"),
    ]
    _evaluate(recipe, out, result, answerer.rows, answerers, facts, reporter)
    return result


def run_clip_prompts(
    recipe: VideoTextRecipe, out: Path, *, resume: bool = False, reporter: ProgressReporter = NO_PROGRESS
) -> FitResult:
    """Aligns synthetic clips and sentences, with a control without video; both are evaluated on real clips."""
    check_recipe(recipe)
    reporter.start(recipe.id, recipe.budget.steps)
    answerer, result = clip_prompts.train_clip_prompts(recipe, out, resume=resume, on_step=reporter.update)
    answerers: dict[str, Callable[[], Answerer]] = {TUNED: lambda: answerer.answer}
    if recipe.control:
        reporter.start(f"{recipe.id}, {BLIND}", recipe.budget.steps)
        control, started = _control_folder(out, resume)
        blind, _ = clip_prompts.train_clip_prompts(
            recipe, control, resume=started, on_step=reporter.update, blind=True
        )
        answerers[BLIND] = lambda: blind.answer
    joined = ", ".join(("values", *recipe.encoder.extra_features))
    facts = [
        ("clips", joined),
        ("sentences", "all-MiniLM-L6-v2, frozen"),
        ("common space", f"{recipe.width} numbers"),
    ]
    _evaluate(recipe, out, result, answerer.rows, answerers, facts, reporter)
    return result


def _control_folder(out: Path, resume: bool) -> tuple[Path, bool]:
    """The folder of the control of a run, and whether it was started before."""
    return out / "blind", resume and (out / "blind" / "run.json").exists()


def _evaluate(
    recipe: VideoQuestionRecipe,
    out: Path,
    result: FitResult,
    train: list[dict[str, Any]],
    answerers: dict[str, Callable[[], Answerer]],
    facts: list[tuple[str, str]],
    reporter: ProgressReporter,
) -> None:
    """Evaluates on real clips; only the main process writes."""
    if not is_main():
        return
    rows = clip_questions.exam_rows(recipe)
    reporter.start(f"{recipe.id}, exam", len(rows) * len(answerers))
    exam = examine(rows, train, answerers, tick=reporter.update)
    details = [
        *facts,
        ("trained on", f"{recipe.clips} synthetic clips of {recipe.frames} frames, {len(train)} questions"),
        ("evaluated on", f"{', '.join(recipe.test)}: at most {recipe.windows} windows each"),
        ("steps", f"{result.curve.step[-1]}, batch {recipe.budget.batch}, rate {recipe.budget.lr:g}"),
        ("validation", f"{result.curve.best:.4g} nats"),
        ("seed", str(recipe.seed)),
        ("commit", commit_text()),
    ]
    write(exam, out, title=recipe.title or recipe.id, facts=details)


def _instruction_set(recipe: InstructionRecipe, out: Path, *, resume: bool) -> str:
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
    trained = checkpoint.read_checkpoint(out)
    state, r, a = trained.state, recipe, recipe.adapt
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
