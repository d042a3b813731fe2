"""Parts that other packages add to st2llm by entry points (see docs/guides/plugins.md).

The metadata of installed packages tell the names; a package is imported when one of its names is first used.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from st2llm.errors import ConfigError

T = TypeVar("T")

GROUPS: Mapping[str, str] = {
    "encoders": "encoder",
    "predictors": "predictor",
    "readers": "reader of files",
    "strategies": "number strategy",
    "tasks": "task",
}
"""What packages can add: the last part of the group of entry points (`st2llm.encoders`, ...), and the noun for it."""


@dataclass(frozen=True)
class Plugin:
    """A part that a package adds. package: its name and version."""

    name: str
    group: str
    package: str
    entry: EntryPoint

    def load(self) -> object:
        """The part; imports its module. Raises ConfigError where that fails."""
        try:
            loaded: object = self.entry.load()
        except Exception as error:  # the module is not ours and may raise any error
            reason = str(error).strip().partition("\n")[0]
            raise ConfigError(
                f"The {GROUPS[self.group]} {self.name!r} of the package {self.package} cannot be imported from "
                f"{self.entry.value}: {type(error).__name__}: {reason}. Update that package, or uninstall it."
            ) from error
        return loaded


@cache
def installed() -> tuple[Plugin, ...]:
    """The parts that installed packages add, by group and name. Nothing is imported."""
    found = entry_points()
    plugins = [
        Plugin(entry.name, group, _package(entry), entry)
        for group in GROUPS
        for entry in found.select(group=f"st2llm.{group}")
    ]
    return tuple(sorted(plugins, key=lambda plugin: (plugin.group, plugin.name, plugin.package)))


def find(group: str, name: str) -> Plugin | None:
    """The part of that name; None where no package adds one. Raises ConfigError where two packages do."""
    plugins = [plugin for plugin in installed() if (plugin.group, plugin.name) == (group, name)]
    if len(plugins) > 1:
        packages = " and ".join(plugin.package for plugin in plugins)
        raise ConfigError(
            f"The {GROUPS[group]} {name!r} is added by the packages {packages}, but a name can belong to one alone. "
            f"Uninstall all but one of them."
        )
    return plugins[0] if plugins else None


def _package(entry: EntryPoint) -> str:
    return "(unknown)" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"


class WithPlugins(Mapping[str, T]):
    """The parts of st2llm of one group by name, and those that packages add.

    Names are listed without an import; a part is imported, checked and kept when it is first taken.
    """

    def __init__(
        self,
        group: str,
        own: Mapping[str, T],
        convert: Callable[[object], T | None],
        expected: str,
        reserved: Collection[str] = (),
    ) -> None:
        """own: the parts of st2llm. convert: the checked part from what an entry point names, or None where it is not
        one. expected: what it should be, for the message. reserved: further names that packages cannot give.
        """
        self._group, self._own, self._convert, self._expected = group, own, convert, expected
        self._reserved = {*own, *reserved}
        self._loaded: dict[Plugin, T] = {}

    def __getitem__(self, name: str) -> T:
        """Raises KeyError for an unknown name, and ConfigError for one that is given twice or cannot be imported."""
        plugin = find(self._group, name)
        if plugin is None:
            return self._own[name]
        if name in self._reserved:
            raise ConfigError(
                f"The package {plugin.package} adds the {GROUPS[self._group]} {name!r}, but st2llm has that name "
                f"itself. Rename the entry point of the package, or uninstall it."
            )
        if plugin not in self._loaded:
            self._loaded[plugin] = self._checked(plugin)
        return self._loaded[plugin]

    def __iter__(self) -> Iterator[str]:
        names = (plugin.name for plugin in installed() if plugin.group == self._group)
        return iter(dict.fromkeys([*self._own, *names]))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return name in self._own or any(
            (plugin.group, plugin.name) == (self._group, name) for plugin in installed()
        )

    def _checked(self, plugin: Plugin) -> T:
        loaded = plugin.load()
        part = self._convert(loaded)
        if part is None:
            raise ConfigError(
                f"The {GROUPS[self._group]} {plugin.name!r} of the package {plugin.package} should be "
                f"{self._expected}, but {plugin.entry.value} is a {type(loaded).__name__}. Correct the entry point."
            )
        return part
