"""The keys that all data cards share: where the data are, what they mean, how they are split."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import Field, model_validator

from st2llm.config import Settings
from st2llm.data.fetch import Source
from st2llm.types import MONTH_S, HoldOut, SplitPlan


class HoldOutRule(Settings):
    """What training and validation never ask for, and the test alone asks for, so that only its meaning carries over.

    by: places of a graph or grid, or marks of events. names: ids of places (`queen-street`), or marks. share: of them,
    drawn by `seed`, where there are no names. Held-out places stay visible as neighbours, and events of held-out marks
    stay in histories: they are known, and nothing is learned about predicting them. unseen: of places, whether no part
    shows a value of them, so that they are known by name, text and position alone; validation then asks for as many
    others, which are unseen as well.
    """

    by: Literal["place", "mark"]
    names: list[str] = Field(default_factory=list)
    share: float = Field(0.0, ge=0, lt=1)
    seed: int = Field(0, description="of the draw of a share")
    unseen: bool = False

    @model_validator(mode="after")
    def _some(self) -> "HoldOutRule":
        if bool(self.names) == bool(self.share):
            raise ValueError("give `names`, or a `share` above 0")
        if self.unseen and self.by != "place":
            raise ValueError("`unseen` is for places; events of held-out marks stay in histories")
        return self


class SplitShares(Settings):
    """Shares of the time axis. `align: day` moves each boundary back to local midnight.

    by: see SplitPlan. test: a list names objects or labels that are held out for the test (`by: object`, `by: label`);
    the shares then apply to the others. `by: given` needs no shares.
    """

    train: float = Field(1.0, description="share to train on")
    validation: float = Field(0.0, description="share for validation")
    test: float | list[str] = 0.0
    align: Literal["step", "day"] = Field(
        "step", description="where boundaries between the parts lie: at any step, or at local midnight"
    )
    by: Literal["time", "object", "label", "given", "class"] | None = None
    hold_out: HoldOutRule | None = None

    @model_validator(mode="after")
    def _fits(self) -> "SplitShares":
        by = self.by or "time"
        if "train" not in self.model_fields_set and by != "given":
            raise ValueError("`train` is missing: the share to train on")
        if isinstance(self.test, list) and by not in ("object", "label"):
            raise ValueError("a list under `test` names objects or labels: add `by: object` or `by: label`")
        if by == "label" and not isinstance(self.test, list):
            raise ValueError("`by: label` needs `test`, a list of the labels that are held out")
        return self

    def plan(self) -> SplitPlan:
        held_out = tuple(self.test) if isinstance(self.test, list) else ()
        share = 0.0 if isinstance(self.test, list) else self.test
        rule = self.hold_out
        hold_out = (
            None if rule is None else HoldOut(rule.by, tuple(rule.names), rule.share, rule.seed, rule.unseen)
        )
        return SplitPlan(
            self.train, self.validation, share, self.align, self.by or "time", held_out, hold_out
        )


_SPLIT_WAYS = {"graph": ("time",), "grid": ("time",), "video": ("time", "class")}


class HolidayRule(Settings):
    """A calendar of public holidays: the ISO code of the country and, where holidays differ, of its subdivision."""

    country: str = Field(description="ISO 3166 code, such as NZ")
    subdivision: str | None = Field(None, description="ISO 3166-2 code, such as AUK")


class Conversion(Settings):
    """Files of a card that are made from those of its source, into the cache, because no loader reads these.

    by: the name of the converter (see `st2llm.data.convert.source_files`).
    """

    by: str
    files: list[str] = Field(min_length=1, description="the files of the source that are converted")


class Card(Settings):
    """The keys of every kind of data. Further keys depend on `kind`.

    folder: the folder of the files below `$ST2LLM_DATA`, by default `<kind>/<name with _>`. obtain: where a person gets
    files that no command can download, as their source takes no address for them. timezone: of the calendar: hours and
    days of prompts, profiles, blocks and splits. stamps: the time zone in which timestamps without an offset are
    written, in the files and in the card; by default that of the calendar.
    """

    name: str = Field(
        pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", description="of the data set, in lower case with hyphens"
    )
    kind: str = Field(description="graph, grid, video, trajectory or event")
    source: Source | None = None
    folder: str | None = None
    obtain: str = ""
    convert: Conversion | None = None
    timezone: str = "UTC"
    written_in: str | None = Field(None, alias="stamps")
    quantity: str = Field("values", description="what is measured, as prompts name it")
    unit: str = Field("", description="of the values, as prompts and reports name it")
    holidays: HolidayRule | None = None
    split: SplitShares | None = None
    splits: dict[str, SplitShares] | None = None
    default_task: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="the task of commands that name none, with its settings"
    )
    licence: str = Field("", description="of the data")
    citation: str = Field("", description="of the data")
    leakage: str = Field("", description="what models may have seen of the data before")
    description: str = Field("", description="a sentence for prompts")

    @model_validator(mode="after")
    def _one_split(self) -> "Card":
        if self.split is not None and self.splits is not None:
            raise ValueError("give `split` or `splits`, not both")
        if self.splits is not None and not self.splits:
            raise ValueError("`splits` names no split")
        splits = [self.split] if self.split else list((self.splits or {}).values())
        held = {"graph": "place", "grid": "place", "event": "mark"}.get(self.kind, "")
        if any(shares.hold_out is not None and shares.hold_out.by != held for shares in splits):
            rule = f"`hold_out: {{by: {held}}}`" if held else "no `hold_out`"
            raise ValueError(f"a split of {self.kind} data has {rule}")
        if any((shares.by or "time") not in self.split_ways for shares in splits):
            ways = " or ".join(f"`by: {way}`" for way in self.split_ways)
            more = "; name the column of `object` for `by: object`" if self.kind == "event" else ""
            raise ValueError(f"a {self.kind} data set can only be split {ways}{more}")
        return self

    @property
    def split_ways(self) -> tuple[str, ...]:
        """The ways in which this kind of data can be split (`split.by`)."""
        return _SPLIT_WAYS.get(self.kind, ("time", "object", "label", "given"))

    @property
    def timestamp_zone(self) -> str:
        """The time zone of timestamps without an offset."""
        return self.timezone if self.written_in is None else self.written_in

    def plan(self) -> SplitPlan:
        """The split of the card: `split`, else the first of `splits`, else 70 / 10 / 20 % of the time."""
        if self.splits:
            return next(iter(self.splits.values())).plan()
        return (self.split or SplitShares(train=0.7, validation=0.1, test=0.2)).plan()

    def data_folder(self) -> str:
        """The folder of the files, below `$ST2LLM_DATA`."""
        return self.folder or f"{self.kind}/{self.name.replace('-', '_')}"

    def files(self) -> list[str]:
        """The names of the files that the card refers to."""
        raise NotImplementedError

    def files_in(self, folders: Sequence[Path]) -> list[str]:
        """The names of the files; patterns are expanded in the first of `folders` that has a match."""
        return self.files()


def step_seconds(freq: str) -> int:
    """The seconds of a step such as `5min`, `h` or `1D`; MONTH_S for `1MS` or `month`; 0 where they are not whole."""
    if freq in ("MS", "1MS", "month"):
        return MONTH_S
    try:
        step = pd.Timedelta(freq if freq[:1].isdigit() else f"1{freq}")
    except ValueError:
        return 0
    seconds = step.total_seconds()
    return int(seconds) if seconds == int(seconds) else 0


def file_and_key(values: str) -> tuple[str, str | None]:
    """Splits `speed.npz:data` into (`speed.npz`, `data`); the key is None where there is none."""
    name, colon, key = values.partition(":")
    return name, key if colon else None
