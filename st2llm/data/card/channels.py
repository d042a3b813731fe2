"""The channels of a graph or grid: names alone, or for each what it measures, its unit and its role."""

from typing import Any

from pydantic import Field, field_validator, model_validator

from st2llm.config import Settings
from st2llm.data.card.base import Card
from st2llm.types import Channel
from st2llm.types.side import ChannelRole, common_quantity, common_unit


class ChannelRule(Settings):
    """What one channel measures.

    unit: a unit as in text, such as `degrees Celsius`. quantity: a phrase for prompts, by default the channel's name.
    role: a `target` is predicted and scored, a `covariate` is an input; a task chooses others with its key `target`.
    known: whether a covariate is known in advance, as forecasts are; otherwise it is hidden wherever the targets are.
    """

    unit: str
    quantity: str = ""
    role: ChannelRole = "target"
    known: bool = False

    @model_validator(mode="after")
    def _covariates_are_known(self) -> "ChannelRule":
        if self.known and self.role == "target":
            raise ValueError("`known: true` goes with `role: covariate`: a target is never known in advance")
        return self


CHANNEL_KEYS = tuple(ChannelRule.model_fields)
"""The keys of a channel, which `to_xarray` writes as coordinates."""


class ChannelKeys(Settings):
    """The key `channels`: a list of names, all in the card's `unit`, or a mapping from names to ChannelRule."""

    channels: list[str] | dict[str, ChannelRule] | None = Field(
        None,
        description="names of the channels, of a long table its columns, in the card's `unit`; or a mapping from names "
        "to what each measures",
    )

    @field_validator("channels", mode="before")
    @classmethod
    def _each_once(cls, value: Any) -> Any:
        if isinstance(value, list):
            twice = [name for i, name in enumerate(value) if name in value[:i]]
            if twice:
                raise ValueError(f"names {twice[0]!r} twice; name each channel once")
        if isinstance(value, list | dict) and not value:
            raise ValueError("names no channel")
        return value

    @model_validator(mode="after")
    def _one_unit_each(self) -> "ChannelKeys":
        if isinstance(self.channels, dict):
            if getattr(self, "unit", ""):
                raise ValueError(
                    "each channel states its `unit` under `channels`; leave the card's `unit` out"
                )
            if all(rule.role == "covariate" for rule in self.channels.values()):
                raise ValueError("`channels` has covariates alone; one of them must be a target")
        return self

    @property
    def channel_details(self) -> tuple[Channel, ...]:
        """What each channel measures; empty where the card names channels alone."""
        if not isinstance(self.channels, dict):
            return ()
        return tuple(
            Channel(name, rule.unit, rule.quantity, rule.role, rule.known)
            for name, rule in self.channels.items()
        )


def field_unit(card: Card, channels: tuple[Channel, ...], otherwise: str = "") -> str:
    """The unit of all targets, '' where they differ. otherwise: that of the file, where the card states none."""
    return common_unit(channels) if channels else card.unit or otherwise


def field_quantity(card: Card, channels: tuple[Channel, ...]) -> str:
    """The quantity of the card, else what the targets measure."""
    return card.quantity if not channels or "quantity" in card.model_fields_set else common_quantity(channels)
