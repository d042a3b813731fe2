"""Fine-tunes a language model on instructions: rows of messages are streamed, the loss is on the answers."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets

from st2llm.config.training import InstructionRecipe
from st2llm.data.windows.fitted_on import instructions_fitted_on
from st2llm.errors import ConfigError, DataError
from st2llm.model import checkpoint
from st2llm.model.backbone import trained_parameter_count
from st2llm.model.prompted import AnswerLoss, PromptBatch, PromptedLM
from st2llm.predict.build import load_language_model
from st2llm.train.checkpointing import CheckpointContents
from st2llm.train.loop.batches import StreamedBatches
from st2llm.train.loop.budget import FitResult, StepCallback
from st2llm.train.model_card import model_card
from st2llm.train.run import open_run, run
from st2llm.train.setup import Setup, recipe_config

_BUFFER = 1000
"""Size of the shuffle buffer of a stream, in rows."""
_SHARDS = 10
"""Shards that fill the buffer together."""


class InstructionSet:
    """The rows of an instruction set that `datasets` reads: a folder, or an id of the hub.

    Raises DataError where `datasets` finds no set there, or its rows have no column `messages`.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        splits: Mapping[str, Any]
        try:
            splits = datasets.load_dataset(path, streaming=True)
        except (FileNotFoundError, ValueError, OSError) as error:
            raise DataError(
                f"There is no instruction set at {path} that `datasets` can read ({error}). Make one with "
                f"`st2llm data instruct NAME --out FOLDER`."
            ) from error
        self.splits = splits
        first = next(iter(self.read("train", limit=1)), None)
        if first is None or not isinstance(first.get("messages"), list):
            raise DataError(
                f"The rows of {path} should have a column `messages` (role and content, the answer last), but have "
                f"{', '.join(first or {}) or 'no rows'}."
            )

    def read(self, split: str, *, limit: int | None = None) -> list[dict[str, Any]]:
        """Rows of a split, in order; [] for a split that the set does not have."""
        if split not in self.splits:
            return []
        rows = self.splits[split]
        return list(rows if limit is None else rows.take(limit))

    @property
    def sha256(self) -> str:
        """A hash of all rows, in order."""
        digest = hashlib.sha256()
        for split in sorted(self.splits):
            for row in self.splits[split]:
                digest.update(json.dumps(row, sort_keys=True, default=str).encode())
        return digest.hexdigest()

    def epochs(self, seed: int, *, after: int = 0) -> Any:
        """A function from the number of an epoch to its shuffled training rows. after: first rows that are skipped."""
        rows = self.splits["train"].skip(after) if after else self.splits["train"]
        # With more shards than there are, `datasets` waits five seconds for threads at the end of every epoch.
        shards = min(_SHARDS, rows.num_shards)
        shuffled = rows.shuffle(seed=seed, buffer_size=_BUFFER, max_buffer_input_shards=shards)

        def epoch(number: int) -> Iterator[dict[str, Any]]:
            shuffled.set_epoch(number)
            return iter(shuffled)

        return epoch


TokenizedExample = tuple[list[int], list[int]]
"""Tokens of a prompt, and of its answer with the end-of-sequence token."""


def prompt_batch(examples: list[TokenizedExample]) -> PromptBatch:
    """A batch of text prompts with their answers."""
    return PromptBatch(
        tuple((tuple(prompt),) for prompt, _ in examples), tuple(tuple(answer) for _, answer in examples)
    )


def finetune(
    recipe: InstructionRecipe,
    path: str,
    out: Path,
    *,
    resume: bool = False,
    on_step: StepCallback = lambda step: None,
) -> FitResult:
    """Trains by a recipe on the instruction set at `path` into `out`: `best/` and `last/`, log.jsonl, run.json.

    The validation split chooses the best state; for a set without one, its first training rows do, and are not trained
    on. Raises as `pretrain` does, ConfigError for a method that trains nothing, and DataError where no validation row
    fits into `max_length` tokens.
    """
    if recipe.adapt.frozen:
        raise ConfigError(f"{recipe.id}: adapt.method is frozen, so nothing would be trained. Take lora.")
    with open_run(recipe, out, resume=resume) as folder:
        return run(recipe, folder, _setup(recipe, path), on_step=on_step)


def _setup(recipe: InstructionRecipe, path: str) -> Setup:
    rows = InstructionSet(path)
    llm = load_language_model(recipe.llm)

    def tokenize(row: dict[str, Any]) -> TokenizedExample | None:
        prompt, answer = llm.tokenizer.training_ids(row["messages"])
        return (prompt, answer) if len(prompt) + len(answer) <= recipe.max_length else None

    count = recipe.instructions.validation
    validation_rows = rows.read("validation", limit=count)
    skipped = 0 if validation_rows else count
    examples = [tokenize(row) for row in validation_rows or rows.read("train", limit=count)]
    validation = [example for example in examples if example is not None]
    if not validation:
        raise DataError(
            f"No validation row of {path} fits into max_length: {recipe.max_length} tokens. Raise it."
        )
    epochs = rows.epochs(recipe.seed, after=skipped)
    train = StreamedBatches(epochs, read=tokenize, make=prompt_batch, batch=recipe.budget.batch)
    model = PromptedLM(
        llm, recipe.adapt, seed=recipe.seed, length=recipe.max_length if recipe.packing else None
    )
    parameters = trained_parameter_count(model)
    return Setup(
        module=model,
        objective=AnswerLoss(),
        train=train,
        validation=prompt_batch(validation),
        contents=CheckpointContents(
            config=recipe_config(recipe, "instructions"),
            card=lambda state: _card(recipe, path, parameters, train.left_out, state),
            base_model=checkpoint.BaseModel(llm, recipe.adapt),
            fitted_on=instructions_fitted_on(path),
            data_sha256=rows.sha256,
        ),
    )


def _card(r: InstructionRecipe, path: str, parameters: int, left_out: int, state: Mapping[str, Any]) -> str:
    return model_card(
        r,
        f"{r.llm.name} fine-tuned by `st2llm finetune` on instructions ({r.adapt.method}, {parameters:,} trained "
        f"parameters); the loss is on the answers alone.",
        state=state,
        unit="nats a token",
        rows=[
            ("instructions", f"`{r.instructions.data or path}`"),
            (f"rows left out (longer than {r.max_length} tokens)", str(left_out)),
        ],
        head={"library_name": "peft" if r.adapt.method == "lora" else "st2llm", "base_model": r.llm.name},
    )
