"""Names that the shell completes: data sets, suites, templates and training configs."""

from collections.abc import Callable

from st2llm import recipes


def _from_files(folder: str, pattern: str, depth: int) -> Callable[[str], list[str]]:
    """Completes the names of recipe files. depth: the number of parts of a name, counted from its end."""

    def complete(incomplete: str) -> list[str]:
        paths = recipes.listing(folder, pattern)
        names = {"/".join(path.with_suffix("").parts[-depth:]) for path in paths}
        return sorted(name for name in names if name.startswith(incomplete))

    return complete


complete_suite = _from_files("evaluation/suites", "**/*.yaml", 1)
complete_config = _from_files("alignment", "*/*.yaml", 1)
complete_template = _from_files("prompts", "*/*.md", 2)


def complete_data(incomplete: str) -> list[str]:
    """The data sets whose cards ship with the package."""
    from st2llm.data import cards

    return [name for name in cards() if name.startswith(incomplete)]
