"""The model card of a training run: model, training data, budget and validation loss."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from st2llm.config.training import TrainingBudget
from st2llm.types import Sample


@runtime_checkable
class TrainingRecipe(Protocol):
    """The settings that every recipe of a training run has."""

    @property
    def id(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def budget(self) -> TrainingBudget: ...
    @property
    def seed(self) -> int: ...


def channel_rows(sample: Sample) -> list[tuple[str, str]]:
    """A row for the table that says what each channel measures; none where all are alike. sample: one of training."""
    said = "; ".join(
        f"{channel.name}: {channel.label}, {channel.role}{', known in advance' if channel.known_in_advance else ''}"
        for channel in sample.side.channel_details
    )
    return [("channels", said)] if said else []


def model_card(
    run: TrainingRecipe,
    about: str,
    *,
    state: Mapping[str, Any],
    unit: str,
    rows: Sequence[tuple[str, str]] = (),
    after: str = "",
    head: Mapping[str, str] | None = None,
) -> str:
    """A README.md with the YAML head that model hubs read.

    about: a sentence or two that describe the model. state: content of state.json. unit: of the validation loss. rows:
    the first rows of the table. after: text below the table. head: further keys of the YAML head.
    """
    budget, keys = run.budget, {"library_name": "st2llm", **(head or {})}
    table = [
        *rows,
        ("steps", f"{state['step']} of {budget.steps}, batch {budget.batch}, learning rate {budget.lr:g}"),
        ("seed", str(run.seed)),
        (f"validation, {unit}", f"{state['best']:.6g} (before {state['rows'][0][2]:.6g})"),
    ]
    return "\n".join(
        [
            "---",
            *(f"{key}: {value}" for key, value in keys.items()),
            f"---\n# {run.title or run.id}\n\n{about}\n\n| | |\n|---|---|",
            *(f"| {name} | {value} |" for name, value in table),
            f"\n{after}\n" if after else "",
        ]
    )
