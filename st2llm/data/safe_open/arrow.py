"""A folder that `save_to_disk` of Hugging Face `datasets` wrote: Arrow files that a JSON file lists."""

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa

from st2llm.data.safe_open.limits import checked_file, path_inside
from st2llm.errors import DataError, nearest

MAX_STATE_BYTES = 16 * 2**20


def saved_dataset(folder: Path, part: str | None = None) -> pd.DataFrame:
    """The table of a saved `Dataset`, or of the split `part` of a saved `DatasetDict` ('train').

    Raises DataError where files are missing, damaged, or lie outside the folder.
    """
    try:
        if (names := folder / "dataset_dict.json").is_file():
            parts = json.loads(checked_file(names, limit=MAX_STATE_BYTES).read_text(encoding="utf-8"))[
                "splits"
            ]
            if part not in parts:
                raise DataError(
                    f"{folder.name} has the parts {', '.join(map(str, parts))}. {nearest(str(part), parts)}"
                )
            folder = path_inside(folder, str(part))
        state = json.loads(
            checked_file(folder / "state.json", limit=MAX_STATE_BYTES).read_text(encoding="utf-8")
        )
        if state.get("_indices_files"):
            raise DataError(f"{folder} is a selection of rows. Call flatten_indices() before save_to_disk.")
        files = [path_inside(folder, str(entry["filename"])) for entry in state["_data_files"]]
        if not files:
            raise DataError(f"{folder} names no data files. Save the data set again.")
        table = pa.concat_tables([_stream(checked_file(file)) for file in files])
        table.validate(full=True)
        return pd.DataFrame(table.to_pandas())
    except (ValueError, KeyError, TypeError, AttributeError, OSError, pa.ArrowException) as error:
        raise DataError(
            f"{folder} cannot be read as a saved data set: {error}. Save it again with save_to_disk."
        ) from error


def _stream(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
        return reader.read_all()
