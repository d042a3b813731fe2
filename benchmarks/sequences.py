"""Seconds and peak memory of reading, filtering and windowing ten million fixes and ten million events.

python benchmarks/sequences.py [--json] [--rows N] [--forms csv,parquet]

The data are made on the spot and deleted afterwards. Each reading is a process of its own, so that its peak memory
(the most that was resident, the interpreter included) is its alone.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

import st2llm

LIMIT_GIB = 3.0
PER_OBJECT = 1000
CHUNK = 500_000
START_S = 1_700_000_000
WRONG = 0.001

CARDS = {
    "fixes": """
name: many-fixes
kind: trajectory
table: fixes.{form}
object: object
time: {{column: time, unit: s}}
x: x
y: y
harmonise: [{{max_speed: 50}}]
freq: 10s
""",
    "events": """
name: many-events
kind: event
table: events.{form}
time: time
x: x
y: y
mark: mark
magnitude: magnitude
blank: drop
""",
}
TASKS = {"fixes": st2llm.tasks.forecast(8, 12), "events": st2llm.tasks.next_event(20)}


def fixes(rows: int) -> Iterator[pa.Table]:
    """Walks of a thousand fixes ten seconds apart; one fix in a thousand is 100 km off."""
    rng = np.random.default_rng(0)
    for first in range(0, rows, CHUNK):
        count = min(CHUNK, rows - first)
        row = np.arange(first, first + count)
        step = rng.normal(0, 10, (count, 2))
        xy = np.cumsum(step, axis=0) + 1e5 * (rng.random((count, 1)) < WRONG)
        yield pa.table(
            {
                "object": pa.array(np.char.mod("o%05d", row // PER_OBJECT)),
                "time": START_S + 10 * (row % PER_OBJECT),
                "x": xy[:, 0].round(2),
                "y": xy[:, 1].round(2),
            }
        )


def events(rows: int) -> Iterator[pa.Table]:
    """Events of five sorts, three seconds apart on average; one in a thousand has no coordinates."""
    rng = np.random.default_rng(1)
    now = START_S * 1000
    for first in range(0, rows, CHUNK):
        count = min(CHUNK, rows - first)
        stamps = now + np.cumsum(rng.exponential(3000, count)).astype(np.int64)
        now = int(stamps[-1])
        xy = rng.uniform(-1e4, 1e4, (count, 2)).round(1)
        xy[rng.random(count) < WRONG] = np.nan
        yield pa.table(
            {
                "time": pa.array(stamps, pa.timestamp("ms")),
                "x": pa.array(xy[:, 0], from_pandas=True),
                "y": pa.array(xy[:, 1], from_pandas=True),
                "mark": pa.array(np.array(["a", "b", "c", "d", "e"])[rng.integers(0, 5, count)]),
                "magnitude": rng.gamma(2, 1, count).round(2),
            }
        )


def write(folder: Path, rows: int, form: str, what: str) -> Path:
    """The data and their card; the path of the card."""
    blocks = {"fixes": fixes, "events": events}[what](rows)
    first = next(blocks)
    path = folder / f"{what}.{form}"
    writer = (
        pq.ParquetWriter(path, first.schema) if form == "parquet" else pacsv.CSVWriter(path, first.schema)
    )
    with writer:
        writer.write_table(first)
        for block in blocks:
            writer.write_table(block)
    card = folder / f"{what}-{form}.yaml"
    card.write_text(CARDS[what].format(form=form), encoding="utf-8")
    return card


def measure(card: Path, what: str) -> dict[str, float | int | list[str]]:
    """Reads, filters and windows in this process."""
    load, split = st2llm.load_data, st2llm.split  # imported before the clock starts
    began = time.perf_counter()
    data = load(card)
    read_s = time.perf_counter() - began
    began = time.perf_counter()
    splits = split(data, TASKS[what])
    window_s = time.perf_counter() - began
    began = time.perf_counter()
    for index in np.linspace(0, len(splits.test) - 1, 200).astype(int):
        splits.test[int(index)]
    some = data[0] if isinstance(data, list) else data
    return {
        "kept": sum(len(one.time) for one in data) if isinstance(data, list) else len(data.time),
        "samples": len(splits.train) + len(splits.validation) + len(splits.test),
        "read_and_filter_s": round(read_s, 1),
        "window_s": round(window_s, 1),
        "ms_per_sample": round((time.perf_counter() - began) * 5, 2),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "steps": list(some.provenance.steps),
    }


def run(rows: int, forms: list[str]) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for form in forms:
        for what in ("fixes", "events"):
            with tempfile.TemporaryDirectory() as folder:
                card = write(Path(folder), rows, form, what)
                size = (Path(folder) / f"{what}.{form}").stat().st_size
                command = [sys.executable, __file__, "--measure", str(card), what]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr)
            found.append(
                {
                    "what": what,
                    "form": form,
                    "rows": rows,
                    "file_mib": round(size / 2**20),
                    **json.loads(done.stdout),
                }
            )
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--forms", default="csv,parquet")
    parser.add_argument("--measure", nargs=2, metavar=("CARD", "WHAT"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measure(Path(asked.measure[0]), asked.measure[1])))
        sys.exit()
    results = run(asked.rows, asked.forms.split(","))
    if asked.json:
        print(json.dumps({"limit_gib": LIMIT_GIB, "runs": results}, indent=2))
    else:
        for one in results:
            print(", ".join(f"{key} {value}" for key, value in one.items()))
