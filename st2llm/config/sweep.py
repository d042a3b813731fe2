"""Sweeps: one suite for several data sets."""

from pydantic import Field

from st2llm.config import Settings
from st2llm.errors import ConfigError


class Sweep(Settings):
    """Data sets that a suite is run on, each as a suite of its own, in place of `data`: `sweep: {data: [...]}`.

    data: names or cards, as a list or by a short name. The id of each suite is that of the file with the short name
    (the split after `#` where there is one, else the data set's own name); `{name}` in the title stands for it.
    """

    data: list[str] | dict[str, str] = Field(min_length=1)

    @property
    def by_name(self) -> dict[str, str]:
        """The data sets by short name. Raises ConfigError where two have the same."""
        if isinstance(self.data, dict):
            return self.data
        names = [data.rpartition("#")[2] for data in self.data]
        if len(set(names)) < len(names):
            raise ConfigError(
                f"sweep.data has two of the name {first_twice(names)!r}. Name each: {{a: ..., b: ...}}."
            )
        return dict(zip(names, self.data, strict=True))


def first_twice(names: list[str]) -> str:
    """The first name that occurs twice."""
    return next(name for name in names if names.count(name) > 1)
