"""Predictions of all of the data in shards: by worker processes, in constant memory, resumed by shard after a kill."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from st2llm.commands.predict.model import TaskModel, load_model
from st2llm.commands.predict.server import is_server, load_server, server_predictor
from st2llm.commands.predict.table import prediction_table
from st2llm.commands.predict.windows import ConsecutiveWindows, all_windows
from st2llm.data import load_data
from st2llm.errors import ConfigError
from st2llm.evaluate.run_folder.shard_folder import ShardFolder
from st2llm.evaluate.run_folder.store import write_predictions
from st2llm.files import exclusive
from st2llm.types import Container, Prompt, Sample, first_object

MANIFEST = "predict.json"


@dataclass(frozen=True)
class ShardRequest:
    """What to predict in shards.

    model: a checkpoint's folder, or `openai:URL[,URL...]#MODEL`. template: of the prompts of a language model. top:
    options listed for each place, mark or class. shard: samples of a shard. concurrency: requests in flight at each
    server, of all workers together.
    """

    model: str
    data: str
    template: str | None = None
    top: int = 1
    shard: int = 1000
    concurrency: int = 8

    def __post_init__(self) -> None:
        if min(self.top, self.shard, self.concurrency) < 1:
            raise ConfigError(
                f"--top, --shard and --concurrency should be at least 1, but are {self.top}, {self.shard} and "
                f"{self.concurrency}."
            )


@dataclass(frozen=True)
class ShardSummary:
    """The summary of a run. kept: shards of earlier runs. unread: rows whose answer could not be read."""

    out: Path
    rows: int
    unread: int
    shards: int
    kept: int


def predict_shards(
    request: ShardRequest,
    out: Path,
    *,
    resume: bool = False,
    workers: int = 1,
    on_shard: Callable[[int, int], None] | None = None,
) -> ShardSummary:
    """Writes the predictions of all of the data into a folder: `predictions-00000-of-00012.parquet`, ..., predict.json.

    Each worker process loads the data and holds the samples of one shard; it renders their prompts, asks the servers,
    and writes the table of the shard at once. Together, in order, the shards are the table of `predict`. `resume` keeps
    finished shards; answers that arrived for an unfinished one are in the answer cache.

    Raises ConfigError where the folder holds other predictions, these without `resume`, or is being written, and for
    several workers with a model on this machine, which would be loaded by each of them; ArtefactError where a worker
    is ended from outside; and as `predict` does.
    """
    if workers < 1 or (workers > 1 and not is_server(request.model)):
        raise ConfigError(
            f"--workers should be 1 for a model on this machine, and at least 1 for servers, but it is {workers} for "
            f"{request.model}."
        )
    with exclusive(out):
        return _write(request, out, resume, workers, on_shard)


@dataclass(frozen=True, eq=False)
class ShardPredictor:
    """Made by `open_shards`: predicts and writes the shards of a request."""

    request: ShardRequest
    out: Path
    data: Container
    model: TaskModel
    samples: ConsecutiveWindows

    @property
    def shards(self) -> int:
        return -(-len(self.samples) // self.request.shard)

    def path(self, shard: int) -> Path:
        return self.out / f"predictions-{shard:05d}-of-{self.shards:05d}.parquet"

    def samples_of(self, shard: int) -> list[Sample]:
        """The samples of a shard, cut now."""
        return self.samples[shard * self.request.shard : (shard + 1) * self.request.shard]

    def write(self, shard: int) -> None:
        """Predicts a shard and writes its table."""
        samples = self.samples_of(shard)
        predictions = self.model.predict([sample.without_truth() for sample in samples])
        table = prediction_table(samples, predictions, top=self.request.top)
        write_predictions(self.path(shard), table, self.model.fitted_on)

    def prompts(self, shard: int) -> Iterator[Prompt]:
        """The prompts of a shard, with their true answers where they are known."""
        template = self.model.template
        if template is None:
            return
        for sample in self.samples_of(shard):
            one_place = template.head.per == "place"
            queries = (
                [sample.at(sample.place[node]) for node in sample.wanted_nodes] if one_place else [sample]
            )
            yield from (template.render(query) for query in queries)


def open_shards(request: ShardRequest, out: Path, workers: int = 1) -> ShardPredictor:
    """The data, the model and the samples of a request; workers: among which its concurrency is divided."""
    data = load_data(request.data)
    if is_server(request.model):
        llm = load_server(request.model, max(1, request.concurrency // workers))
        model = server_predictor(llm, data, request.template, chunk_size=request.shard)
    else:
        model = load_model(Path(request.model), data, request.template)
    return ShardPredictor(request, out, data, model, all_windows(data, model.task, model.options))


def _open_writer(request: ShardRequest, out: Path, workers: int) -> Callable[[int], None]:
    """In a worker process: the function that predicts a shard."""
    return open_shards(request, out, workers).write


def _write(
    request: ShardRequest,
    out: Path,
    resume: bool,
    workers: int,
    on_shard: Callable[[int, int], None] | None,
) -> ShardSummary:
    predictor = open_shards(request, out)
    folder = ShardFolder(out, MANIFEST, "predictions")
    folder.claim(_plan(predictor), resume=resume)
    paths = [predictor.path(shard) for shard in range(predictor.shards)]
    opened = partial(_open_writer, request, out, workers) if workers > 1 else lambda: predictor.write
    kept = folder.write_missing(paths, opened, workers, on_shard)
    rows = sum(pq.read_metadata(path).num_rows for path in paths)
    unread = sum(int(pq.read_table(path, columns=["unread"])["unread"].to_numpy().sum()) for path in paths)
    folder.finish({"rows": rows, "unread": unread})
    return ShardSummary(out, rows, unread, len(paths), kept)


def _plan(predictor: ShardPredictor) -> dict[str, Any]:
    request, first, template = predictor.request, first_object(predictor.data), predictor.model.template
    return {
        "model": request.model,
        "dataset": first.name,
        "data_sha256": first.provenance.sha256,
        "task": predictor.model.task.name,
        "template": None if template is None else template.id,
        "template_sha256": None if template is None else template.sha256,
        "top": request.top,
        "shard": request.shard,
        "samples": len(predictor.samples),
    }
