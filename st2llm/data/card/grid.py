"""The card of a grid."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from st2llm.config import Settings
from st2llm.data.card.base import Card, file_and_key, step_seconds
from st2llm.data.card.channels import ChannelKeys
from st2llm.data.card.side import SideRule

ROLES = ("time", "row", "col", "node", "channel")


class Axis(Settings):
    """Coordinates at a constant step: the first coordinate and the step."""

    first: float = Field(description="the first coordinate")
    step: float = Field(description="from one to the next; may be negative")


class Subset(Settings):
    """The part of a raster to keep: limits in degrees north and east, which may cross 0 and 180, or index ranges from 0
    without the end."""

    lat: tuple[float, float] | None = Field(None, description="south and north, degrees")
    lon: tuple[float, float] | None = Field(None, description="west and east, degrees")
    rows: tuple[int, int] | None = Field(None, description="the first row, and the one after the last")
    cols: tuple[int, int] | None = Field(None, description="the first column, and the one after the last")

    @model_validator(mode="after")
    def _ordered(self) -> "Subset":
        for name in ("lat", "rows", "cols"):
            pair = getattr(self, name)
            if pair is not None and pair[0] >= pair[1]:
                raise ValueError(f"`{name}` goes from the smaller to the larger number")
        if min((*(self.rows or (0,)), *(self.cols or (0,)))) < 0:
            raise ValueError("indices count from 0")
        return self


class Coarsen(Settings):
    """Averages blocks of rows x cols cells, over the cells that have a reading."""

    rows: int = Field(1, ge=1, description="rows of a block")
    cols: int = Field(1, ge=1, description="columns of a block")


class GridCard(ChannelKeys, Card):
    """Readings on a raster.

    values: a NetCDF or GRIB file, a Zarr folder or zip, `file.npz:key`, npy, or a pickle of an array; several files are
    concatenated in time.
    variable: the variable of NetCDF or Zarr; several variables become channels. dims: the role of each axis of the
    array: time, row, col, channel, or node (cells row by row, with `shape: [rows, cols]`); axes with other names have
    length 1. NetCDF and Zarr give the roles themselves. time: the coordinate of the times, where it is not called time.
    rows, cols: coordinates in the unit `space`: numbers, or the first and the step. NetCDF and Zarr hold them.
    freq: the step, `month` for calendar months. start: the first timestamp, where the files have none.
    null: the value that stands for a missing reading. outside: the value that cells outside the region hold at all
    times; they have no reading. subset, coarsen: applied in this order.
    """

    kind: Literal["grid"]
    values: str | list[str]
    variable: str | list[str] | None = None
    dims: list[str] | None = None
    shape: tuple[int, int] | None = Field(
        None, description="rows and columns, where one axis holds all cells"
    )
    time: str | None = None
    freq: str
    start: str | None = None
    rows: Axis | list[float] | None = None
    cols: Axis | list[float] | None = None
    space: Literal["degrees", "metres", "cells"] | None = Field(None, description="the unit of rows and cols")
    null: float | None = Field(None, allow_inf_nan=True)
    outside: float | None = None
    side: SideRule | None = None
    subset: Subset | None = None
    coarsen: Coarsen | None = None

    @field_validator("start", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return value.isoformat() if hasattr(value, "isoformat") else value

    @field_validator("freq")
    @classmethod
    def _step(cls, value: str) -> str:
        if step_seconds(value) < 1:
            raise ValueError("a step of whole seconds is expected, such as 5min, 1h or 1D, or month")
        return value

    @model_validator(mode="after")
    def _whole(self) -> "GridCard":
        dims = self.dims
        if dims is not None:
            known = [name for name in dims if name in ROLES]
            flat = "node" in known
            if len(set(known)) < len(known) or "time" not in known or ({"row", "col"} <= set(known)) == flat:
                raise ValueError(
                    "`dims` names each axis once: time, then row and col (or node with `shape`), and channel"
                )
            if flat and self.shape is None:
                raise ValueError("`dims: node` needs `shape: [rows, cols]`")
        if not self.files():
            raise ValueError("`values` names no file")
        if (self.rows is None) != (self.cols is None):
            raise ValueError("give `rows` with `cols`")
        return self

    @property
    def freq_s(self) -> int:
        return step_seconds(self.freq)

    @property
    def parts(self) -> list[str]:
        """The entries of `values`, in order of time."""
        return [self.values] if isinstance(self.values, str) else list(self.values)

    def files(self) -> list[str]:
        """The names of the files that the card refers to."""
        side = self.side.files() if self.side else []
        return list(dict.fromkeys([*(file_and_key(part)[0] for part in self.parts), *side]))
