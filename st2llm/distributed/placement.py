"""Where the jobs of a comparison run: a part of them here, or all on the workers of an engine."""

import os
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

import torch

from st2llm.distributed.engines import ENGINES
from st2llm.errors import ConfigError, nearest


@dataclass(frozen=True)
class Part:
    """Part `index` of `count`, from 1."""

    index: int
    count: int

    @property
    def name(self) -> str:
        """Names its lock: part-1-of-2."""
        return f"part-{self.index}-of-{self.count}"

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def parse_part(words: str) -> Part:
    """The part that `2/8` names. Raises ConfigError for other words, and for a part that there is not."""
    found = re.fullmatch(r"(\d+)/(\d+)", words)
    part = Part(*map(int, found.groups())) if found else Part(0, 0)
    if not 1 <= part.index <= part.count:
        raise ConfigError(
            f"A part is given as i/n, from 1/n to n/n, but {words!r} came. Start `--part 1/2` and `--part 2/2`."
        )
    return part


@dataclass(frozen=True)
class Placement:
    """On which engine jobs run, and what each of them gets.

    address: what follows `://`, such as the host and port of a Ray head. settings: what follows `?` in it. workers:
    jobs that run at once; None leaves it to the engine. gpus: of each job that trains or prompts a model on its
    worker; None means one where the engine has GPUs. threads: of each job.
    """

    engine: str
    address: str = ""
    settings: tuple[tuple[str, str], ...] = ()
    workers: int | None = None
    gpus: float | None = None
    threads: int = 1


def parse_placement(
    words: str, *, workers: int | None = None, gpus: float | None = None, threads: int | None = None
) -> Placement:
    """The placement that `ray`, `ray://HOST:PORT` or `slurm://PARTITION?time=600` name.

    threads: by default those of this process, so that the numbers are those of a run in it; where OMP_NUM_THREADS does
    not set them, the workers of this machine share its cores. Raises ConfigError for an engine that there is not.
    """
    engine, _, rest = words.partition("://")
    address, _, query = rest.partition("?")
    if engine not in ENGINES:
        raise ConfigError(f"--on names an engine, but {words!r} came. {nearest(engine, ENGINES)}")
    for name, number in (("--workers", workers), ("--threads", threads)):
        if number is not None and number < 1:
            raise ConfigError(f"{name} takes a number from 1, but {number} came.")
    if gpus is not None and gpus < 0:
        raise ConfigError(f"--gpus-per-job takes a number from 0, but {gpus:g} came.")
    here = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ and not address:
        here = max(1, here // (workers or 1))
    settings = tuple(parse_qsl(query, keep_blank_values=True))
    return Placement(engine, address, settings, workers, gpus, here if threads is None else threads)
