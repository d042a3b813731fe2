"""A folder of shards with a manifest: written by worker processes, and resumed shard by shard after a kill."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from st2llm.errors import ConfigError
from st2llm.evaluate.run_folder.reading import read_json
from st2llm.evaluate.run_folder.store import write_json
from st2llm.files import remove_temporary
from st2llm.processes import map_jobs

T = TypeVar("T")


@dataclass(frozen=True)
class ShardFolder:
    """Parquet shards in `path`. manifest: the name of the JSON file that tells what they hold. content: what messages
    call it, such as 'predictions'.
    """

    path: Path
    manifest: str
    content: str

    def claim(self, plan: Mapping[str, Any], *, resume: bool) -> None:
        """Writes the plan into the manifest, or compares it with the one there and removes what a kill left.

        Raises ConfigError where the folder holds something else, or the same without `resume`.
        """
        path, plan = self.path / self.manifest, json.loads(json.dumps(plan))
        if not path.is_file():
            if self.path.is_dir() and any(self.path.glob("*.parquet")):
                raise ConfigError(f"{self.path} holds parquet files of something else. Choose another --out.")
            write_json(path, plan)
            return
        if not resume:
            raise ConfigError(
                f"{self.path} already holds {self.content}. Go on with --resume, or choose another --out."
            )
        before = read_json(path)
        for key, value in plan.items():
            if before.get(key) != value:
                raise ConfigError(
                    f"{self.path} holds {self.content} with another {key} ({_short(before.get(key))}, now "
                    f"{_short(value)}), so it cannot be resumed. Choose another --out, or undo the change."
                )
        remove_temporary(self.path)

    def write_missing(
        self,
        paths: Sequence[Path],
        open_writer: Callable[[], Callable[[int], T]],
        workers: int,
        on_shard: Callable[[int, int], None] | None,
    ) -> int:
        """Writes the shards that are not there yet, and returns how many were.

        paths: of all shards, by number. open_writer: returns, in a worker, the function that writes a shard
        (`map_jobs`). on_shard: is called with the number of finished shards and of all shards.
        """
        missing = [shard for shard, path in enumerate(paths) if not path.is_file()]
        kept = len(paths) - len(missing)
        for finished, _ in enumerate(map_jobs(open_writer, missing, workers), start=kept + 1):
            if on_shard is not None:
                on_shard(finished, len(paths))
        return kept

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Adds what is known at the end to the manifest."""
        path = self.path / self.manifest
        write_json(path, read_json(path) | {**summary, "done": True})


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) < 80 else f"{text[:77]}..."
