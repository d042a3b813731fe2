"""`st2llm data instruct`: instruction sets in shards, which worker processes write and a killed run resumes."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from st2llm.commands.instruct.rows import (
    SCHEMA,
    InstructionRequest,
    InstructionSource,
    instruction_row,
    instruction_sources,
)
from st2llm.data import load_data
from st2llm.data.windows.coverage import container_provenance
from st2llm.data.windows.fitted_on import INSTRUCTION_MANIFEST, fitted_on_parts
from st2llm.errors import ConfigError, DataError
from st2llm.evaluate.run_folder.shard_folder import ShardFolder
from st2llm.files import exclusive, write_atomically
from st2llm.types import Container, first_object

MANIFEST = INSTRUCTION_MANIFEST


@dataclass(frozen=True)
class InstructionSummary:
    """The summary of a run. left_out: rows for which no sample had a true answer. kept: shards of earlier runs."""

    out: Path
    rows: int
    left_out: int
    shards: int
    kept: int


def write_instructions(
    request: InstructionRequest,
    out: Path,
    *,
    resume: bool = False,
    workers: int = 1,
    on_shard: Callable[[int, int], None] | None = None,
) -> InstructionSummary:
    """Writes an instruction set into a folder: `<part>-00000-of-00012.parquet`, ..., and instruct.json.

    A shard is written atomically when it is full; `resume` keeps finished shards, so a killed run continues and ends
    with the same files. A row depends on the request and its number only, so that any number of `workers` (processes,
    each of which loads the data and holds one shard) writes the same files. `datasets.load_dataset(str(out))` reads it.
    on_shard: is called with the number of finished shards and of all shards.

    Raises ConfigError where the folder holds another set, this one without `resume`, or is being written by another
    process, and for less than one worker; DataError where the data have no such task, or hold no truth for it;
    ArtefactError where a worker is ended from outside.
    """
    if workers < 1:
        raise ConfigError(f"--workers should be at least 1, but it is {workers}.")
    with exclusive(out):
        return _write(request, out, resume, workers, on_shard)


@dataclass(frozen=True)
class _ShardWriter:
    """Writes the shards of a set: the rows of a span of numbers each."""

    request: InstructionRequest
    out: Path
    data: Container
    sources: Sequence[InstructionSource]

    @property
    def total(self) -> int:
        return sum(source.count for source in self.sources)

    @property
    def shards(self) -> int:
        return -(-self.total // self.request.shard)

    def path(self, shard: int) -> Path:
        return self.out / f"{self.request.part}-{shard:05d}-of-{self.shards:05d}.parquet"

    def write(self, shard: int) -> None:
        """Writes a shard."""
        first = shard * self.request.shard
        span = range(first, min(first + self.request.shard, self.total))
        rows = [
            row
            for number in span
            if (row := instruction_row(self.request, self.data, self.sources, number)) is not None
        ]
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        write_atomically(self.path(shard), lambda file: pq.write_table(table, file, compression="zstd"))


def _open_writer(request: InstructionRequest, out: Path) -> Callable[[int], None]:
    """In a worker process: the function that writes a shard."""
    data = load_data(request.data)
    return _ShardWriter(request, out, data, instruction_sources(request, data)).write


def _write(
    request: InstructionRequest,
    out: Path,
    resume: bool,
    workers: int,
    on_shard: Callable[[int, int], None] | None,
) -> InstructionSummary:
    data = load_data(request.data)
    writer = _ShardWriter(request, out, data, instruction_sources(request, data))
    folder = ShardFolder(out, MANIFEST, "an instruction set")
    folder.claim(_plan(request, data, writer.sources), resume=resume)
    paths = [writer.path(shard) for shard in range(writer.shards)]
    opened = partial(_open_writer, request, out) if workers > 1 else lambda: writer.write
    kept = folder.write_missing(paths, opened, workers, on_shard)
    rows = sum(pq.read_metadata(path).num_rows for path in paths)
    if not rows:
        raise DataError(
            f"{first_object(data).name}: none of {writer.total} rows has a true answer. Take another --task, or data "
            f"that hold one."
        )
    left_out = writer.total - rows
    samples = itertools.chain.from_iterable(source.part for source in writer.sources)
    covers = fitted_on_parts({request.part: samples}, container_provenance(data)).to_json()
    folder.finish({"rows": rows, "left_out": left_out, "covers": covers})
    return InstructionSummary(out, rows, left_out, len(paths), kept)


def _plan(
    request: InstructionRequest, data: Container, sources: Sequence[InstructionSource]
) -> dict[str, Any]:
    first = first_object(data)
    return {
        "order": {
            k: v for k, v in asdict(request).items() if k != "data" and (v is not None or k == "count")
        },
        "dataset": first.name,
        "data_sha256": first.provenance.sha256,
        "licence": first.provenance.licence,
        "citation": first.provenance.citation,
        "templates": [
            {
                "id": source.template.id,
                "version": source.template.version,
                "sha256": source.template.sha256,
                "split_sha256": source.split_sha256,
                "rows": source.count,
            }
            for source in sources
        ],
    }
