"""Objects in memory as temporary files, so that the readers and loaders of files check them too."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
import pandas as pd
import xarray as xr

from st2llm.data.card import Card, parse_card
from st2llm.errors import ConfigError, DataError, StorageError

Content: TypeAlias = pd.DataFrame | np.ndarray | xr.Dataset
Built = TypeVar("Built")
NAME = "in-memory"
"""The name of a data set whose card gives none."""
_FROM_PARAMETERS = ("kind", "source", "values", "table", "files", "nodes", "edges")
"""Keys of a card whose content is given by the parameters of the method."""


def build_from_memory(
    build: Callable[[Any, dict[str, Path]], Built],
    settings: Mapping[str, Any],
    contents: Mapping[str, Content],
    card: Mapping[str, Any] | None,
) -> Built:
    """The container that the loader of a kind builds from objects in memory.

    settings: the keys of the card that follow from the objects. contents: the objects by the names of the files that
    the card gives; the stem of a name is the parameter of the method. card: further keys of a data card, which take
    precedence over `settings`. The files of its `side` are looked for from the working folder.

    Raises ConfigError for keys that are invalid or follow from the objects, else what the loader raises.
    """
    given = dict(card or {})
    if taken := [key for key in _FROM_PARAMETERS if key in given]:
        raise ConfigError(
            f"card: the key {taken[0]!r} follows from the parameters of the method. Leave it out of `card`."
        )
    with _named_after_parameters(contents):
        data_card = parse_card({"name": NAME, **settings, **given}, where="card")
        with tempfile.TemporaryDirectory() as folder:
            files = _write_all(contents, Path(folder)) | _side_files(data_card, contents)
            return _with_source(build(data_card, files))


def _with_source(data: Built) -> Built:
    """The container, or the list of objects, whose provenance does not name temporary files."""
    if isinstance(data, list):
        return cast(Built, [_with_source(item) for item in data])
    item = cast(Any, data)
    return cast(Built, replace(item, provenance=replace(item.provenance, source="an object in memory")))


def _write_all(contents: Mapping[str, Content], folder: Path) -> dict[str, Path]:
    files = {name: folder / name for name in contents}
    for name, content in contents.items():
        try:
            _write(content, files[name])
        except OSError as error:
            raise StorageError(
                f"The temporary file of {name} cannot be written to {folder}: {error.strerror or error}. Free some "
                f"space, or set TMPDIR to a folder that has more."
            ) from error
    return files


def _write(content: Content, path: Path) -> None:
    if isinstance(content, np.ndarray):
        np.save(path, content, allow_pickle=False)
    elif isinstance(content, xr.Dataset):
        content.to_netcdf(path, engine="h5netcdf")
    elif path.suffix == ".parquet":
        content.to_parquet(path)
    else:
        content.to_csv(path, index=False)


def _side_files(card: Card, contents: Mapping[str, Content]) -> dict[str, Path]:
    """The files that `side` of the card names."""
    files = {name: Path(name) for name in card.files() if name not in contents}
    for name, path in files.items():
        if not path.is_file():
            raise DataError(f"card: there is no file {name!r} in {Path.cwd()}. Give its whole path.")
    return files


@contextmanager
def _named_after_parameters(contents: Mapping[str, Content]) -> Iterator[None]:
    """Names the parameters instead of the temporary files in messages."""
    try:
        yield
    except (DataError, ConfigError) as error:
        message = str(error)
        for name in contents:
            message = message.replace(name, Path(name).stem)
        raise type(error)(message) from error
