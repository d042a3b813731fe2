"""Fine-tuning on instructions: rows of messages are streamed, and a language model learns the answers."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets

from st2llm.config.training import InstructionRecipe
from st2llm.errors import ConfigError, DataError
from st2llm.model import checkpoint
from st2llm.model.backbone import trained
from st2llm.model.prompted import Speaker, Talk, Telling
from st2llm.predict.checkpoint import load_language_model
from st2llm.train.checkpointing import RunFolder
from st2llm.train.loop.batches import StreamedBatches
from st2llm.train.loop.trainer import Budget, FitResult, StepCallback, fit
from st2llm.train.model_card import model_card

_BUFFER = 1000
"""Rows that a stream is shuffled among."""
_SHARDS = 10
"""Shards that fill the buffer together."""


class InstructionSet:
    """The rows of an instruction set that `datasets` reads: a folder, or an id of the hub.

    Raises DataError where there is none, or its rows have no messages.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        found: Mapping[str, Any]
        try:
            found = datasets.load_dataset(path, streaming=True)
        except (FileNotFoundError, ValueError, OSError) as error:
            raise DataError(
                f"There is no instruction set at {path} that `datasets` can read ({error}). Make one with "
                f"`st2llm data instruct NAME --out FOLDER`."
            ) from error
        self.parts = found
        first = next(iter(self.read("train", limit=1)), None)
        if first is None or not isinstance(first.get("messages"), list):
            raise DataError(
                f"The rows of {path} should have a column `messages` (role and content, the answer last), but have "
                f"{', '.join(first or {}) or 'no rows'}."
            )

    def read(self, part: str, *, limit: int | None = None) -> list[dict[str, Any]]:
        """Rows of a part, in order; [] for a part that the set does not have."""
        if part not in self.parts:
            return []
        rows = self.parts[part]
        return list(rows if limit is None else rows.take(limit))

    def epochs(self, seed: int, *, after: int = 0) -> Any:
        """The training rows of an epoch by its number, each in another order. after: first rows that are left aside."""
        whole = self.parts["train"].skip(after) if after else self.parts["train"]
        # With more shards than there are, `datasets` waits five seconds for threads at the end of every epoch.
        shards = min(_SHARDS, whole.num_shards)
        shuffled = whole.shuffle(seed=seed, buffer_size=_BUFFER, max_buffer_input_shards=shards)

        def epoch(number: int) -> Iterator[dict[str, Any]]:
            shuffled.set_epoch(number)
            return iter(shuffled)

        return epoch


TokenizedExample = tuple[list[int], list[int]]
"""A prompt, and the answer with the mark of its end, as tokens."""


def prompt_batch(lessons: list[TokenizedExample]) -> Talk:
    """Prompts of words alone, with their answers."""
    return Talk(
        tuple((tuple(prompt),) for prompt, _ in lessons), tuple(tuple(answer) for _, answer in lessons)
    )


def finetune(
    recipe: InstructionRecipe,
    path: str,
    out: Path,
    *,
    resume: bool = False,
    tick: StepCallback = lambda step: None,
) -> FitResult:
    """Trains by a recipe on the instruction set at `path` into `out`: `best/` and `last/`, log.jsonl, run.json.

    The validation part chooses the best state; a set without one gives its first rows for that. Raises as `pretrain`
    does, and ConfigError for a method that trains nothing.
    """
    if recipe.adapt.frozen:
        raise ConfigError(f"{recipe.id}: adapt.method is frozen, so nothing would be trained. Take lora.")
    folder = RunFolder(out, recipe, seed=recipe.seed)
    folder.open(resume=resume)
    rows = InstructionSet(path)
    llm = load_language_model(recipe.llm)

    def read(row: dict[str, Any]) -> TokenizedExample | None:
        prompt, answer = llm.tokenizer.training_ids(row["messages"])
        return (prompt, answer) if len(prompt) + len(answer) <= recipe.max_length else None

    count = recipe.instructions.validation
    held = rows.read("validation", limit=count)
    after = 0 if held else count
    lessons = [read(row) for row in held or rows.read("train", limit=count)]
    chosen = [lesson for lesson in lessons if lesson is not None]
    if not chosen:
        raise DataError(
            f"No validation row of {path} fits into max_length: {recipe.max_length} tokens. Raise it."
        )
    train = StreamedBatches(
        rows.epochs(recipe.seed, after=after), read=read, make=prompt_batch, batch=recipe.budget.batch
    )
    speaker = Speaker(
        llm, recipe.adapt, seed=recipe.seed, length=recipe.max_length if recipe.packing else None
    )
    params = trained(speaker)
    folder.describe(
        {"recipe": recipe.model_dump(mode="json"), "of": "instructions"},
        {},
        lambda state: _card(recipe, path, params, train.left_out, state),
        checkpoint.Beneath(llm, recipe.adapt),
    )
    return fit(
        speaker,
        train,
        prompt_batch(chosen),
        Budget(**recipe.budget.model_dump()),
        objective=Telling(),
        seed=recipe.seed,
        tick=tick,
        keeper=folder,
    )


def _card(r: InstructionRecipe, path: str, params: int, left_out: int, state: Mapping[str, Any]) -> str:
    return model_card(
        r,
        f"{r.llm.name} fine-tuned by `st2llm finetune` on instructions ({r.adapt.method}, {params:,} trained "
        f"parameters); the loss is on the answers alone.",
        state=state,
        unit="nats a token",
        rows=[
            ("instructions", f"`{r.instructions.data or path}`"),
            (f"rows left out (longer than {r.max_length} tokens)", str(left_out)),
        ],
        after="`adapter/` is a peft adapter: `PeftModel.from_pretrained(model, FOLDER/adapter)`.",
        head={"library_name": "peft", "base_model": r.llm.name},
    )
