"""Which arms to try first on new data, from the records of data that resemble it."""

from collections.abc import Sequence
from pathlib import Path

from st2llm import recipes
from st2llm.data import load_data
from st2llm.errors import ConfigError, DataError
from st2llm.evaluate.recommend.advice import Advice, Question, advise
from st2llm.evaluate.recommend.errors import errors_page
from st2llm.evaluate.recommend.knowledge import KNOWLEDGE, build_knowledge, read_knowledge
from st2llm.evaluate.recommend.measures import measure
from st2llm.files import write_text

__all__ = ["build", "recommend"]


def build(reports: Sequence[Path], out: Path) -> int:
    """Writes a knowledge base from the runs below these folders, and beside it (`.md`) how wrong its advice is.

    Returns the number of its rows. Raises as `build_knowledge` does, and ConfigError where `out` is no Parquet file.
    """
    if out.suffix != ".parquet":
        raise ConfigError(
            f"A knowledge base is a Parquet file, but --out is {out}. Give a name that ends in .parquet."
        )
    rows = build_knowledge(reports, out)
    page = errors_page(read_knowledge(out))
    write_text(out.with_suffix(".md"), page)
    return rows


def recommend(card: str | Path, *, task: str | None = None, knowledge: Path | None = None) -> Advice:
    """The arms for a data set, ranked by the gains that they had on data like it.

    task: `forecast`, `impute`, `next-place`, ...; None for the default task of the card. knowledge: a file of
    `build_knowledge`; None for the one that ships. Raises ConfigError where the card or the file is missing, DataError
    where the data are too short, where the card names no task, and where no record is of its kind and task.
    """
    evidence = read_knowledge(knowledge or recipes.locate(KNOWLEDGE))
    data = load_data(card)
    first = data[0] if isinstance(data, list) else data
    task_type = task or next(iter(first.default_task), None)
    if task_type is None:
        raise DataError(
            f"The card of {first.name} has no `default_task`. Name what is to be predicted, such as --task forecast."
        )
    question = Question(first.name, first.kind, task_type.replace("_", "-"), measure(data))
    return advise(question, evidence)
