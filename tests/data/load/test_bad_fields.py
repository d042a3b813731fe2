"""Bad files of graphs and grids through the command line: one message each, nothing executed, nothing half-written."""

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from support.rasters import dataset, values

GRID = {"kind": "grid", "freq": "1D", "start": "2024-01-01T00:00:00", "dims": ["time", "row", "col"]}
GRAPH = {"kind": "graph", "freq": "1h", "time": "stamp", "timezone": "America/Chicago"}
PLACES = {"nodes": {"file": "places.csv", "id": "name", "lon": "lon", "lat": "lat"}}
WIDE = "stamp,a,b\n" + "".join(f"2024-01-01 {i:02d}:00,{i},{i}\n" for i in range(24))


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.target,)


def _claiming_40_gb() -> bytes:
    header = io.BytesIO()
    claim = {"descr": "<f8", "fortran_order": False, "shape": (5_000, 1_000, 1_000)}
    np.lib.format.write_array_header_1_0(header, claim)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as bundle:
        bundle.writestr("data.npy", header.getvalue() + bytes(64))
    return packed.getvalue()


def _bomb() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("data.npy", bytes(100 << 20))
    return packed.getvalue()


def _cases(folder: Path) -> dict[str, tuple[dict[str, Any], dict[str, bytes], str]]:
    """By name: the card's keys, its files, and what the message must say."""
    dataset().to_netcdf(folder / "whole.nc", engine="h5netcdf")
    dataset().drop_vars("time").to_netcdf(folder / "timeless.nc", engine="h5netcdf")
    with h5py.File(folder / "linked.h5", "w") as file:
        file["x"] = h5py.ExternalLink("/etc/passwd", "/x")
    whole, timeless, linked = (
        (folder / name).read_bytes() for name in ("whole.nc", "timeless.nc", "linked.h5")
    )
    np.save(folder / "good.npy", values())
    good = (folder / "good.npy").read_bytes()
    folds = WIDE.replace("2024-01-01", "2024-11-03").replace("02:00", "01:00", 1)
    swapped = b"name,lon,lat\na,41.8,-187.6\nb,41.9,-187.7\n"
    return {
        "truncated-nc": (
            {**GRID, "dims": None, "values": "a.nc"},
            {"a.nc": whole[:2000]},
            "cannot be read as",
        ),
        "empty-nc": ({**GRID, "dims": None, "values": "a.nc"}, {"a.nc": b""}, "is empty"),
        "timeless-nc": (
            {"kind": "grid", "freq": "1D", "values": "a.nc"},
            {"a.nc": timeless},
            "has no times",
        ),
        "truncated-npy": ({**GRID, "values": "a.npy"}, {"a.npy": good[: len(good) // 2]}, "claims shape"),
        "forty-gb": ({**GRID, "values": "a.npz:data"}, {"a.npz": _claiming_40_gb()}, "claims shape"),
        "bomb": ({**GRID, "values": "a.npz:data"}, {"a.npz": _bomb()}, "times its packed size"),
        "payload": (
            {**GRID, "values": "a.pkl"},
            {"a.pkl": pickle.dumps(Bomb(folder / "ran"))},
            "holds a pickle of",
        ),
        "climbing": ({**GRID, "values": "../../etc/passwd"}, {}, "leads out of"),
        "linked-h5": ({**GRAPH, "values": "a.h5:x"}, {"a.h5": linked}, "another file"),
        "empty-csv": ({**GRAPH, "values": "a.csv"}, {"a.csv": b""}, "is empty"),
        "head-alone": ({**GRAPH, "values": "a.csv"}, {"a.csv": b"stamp,a,b\n"}, "has no rows"),
        "truncated-csv": (
            {**GRAPH, "values": "a.csv"},
            {"a.csv": WIDE.encode() + b"2024-0"},
            "row 25 has 1 cells, but 3 columns are expected: column 'a' has no cell",
        ),
        "wrong-column": (
            {**GRAPH, "values": "a.csv", "time": "stmp"},
            {"a.csv": WIDE.encode()},
            "Did you mean 'stamp'",
        ),
        "mixed-zones": (
            {**GRAPH, "values": "a.csv"},
            {"a.csv": WIDE.replace("05:00,", "05:00+02:00,").encode()},
            "mixes timestamps with and without an offset",
        ),
        "swapped": (
            {**GRAPH, **PLACES, "values": "a.csv"},
            {"a.csv": WIDE.encode(), "places.csv": swapped},
            "swapped?",
        ),
        "folded": ({**GRAPH, "values": "a.csv"}, {"a.csv": folds.encode()}, ""),
    }


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, str, list[str]]]:
    """Exit code, words, what the message must say and what was left behind, for each case; one process for them all."""
    folder = tmp_path_factory.mktemp("bad")
    cases = _cases(folder)
    for name, (card, files, _) in cases.items():
        (folder / name).mkdir()
        for file, content in files.items():
            (folder / name / file).write_bytes(content)
        keys = {"name": name, **{key: value for key, value in card.items() if value is not None}}
        (folder / name / "card.yaml").write_text(yaml.safe_dump(keys))
    code = (
        "import contextlib, io, json, sys; from st2llm import cli; found = {}\n"
        "for card in sys.argv[1:]:\n"
        "    stderr = io.StringIO()\n"
        "    with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(io.StringIO()):\n"
        "        try: cli.main(['data', 'show', card])\n"
        "        except SystemExit as leaving: found[card] = (leaving.code or 0, stderr.getvalue())\n"
        "print(json.dumps(found))\n"
    )
    cards = [str(folder / name / "card.yaml") for name in cases]
    environment = {**os.environ, "ST2LLM_CACHE": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code, *cards],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        timeout=300,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    left = {name: sorted(one.name for one in (folder / name).iterdir()) for name in cases}
    assert not (folder / "ran").exists()
    return {
        name: (*found[str(folder / name / "card.yaml")], message, left[name])
        for name, (_, _, message) in cases.items()
    }


NAMES = [
    *("truncated-nc", "empty-nc", "timeless-nc", "truncated-npy", "forty-gb", "bomb", "payload", "climbing"),
    *("linked-h5", "empty-csv", "head-alone", "truncated-csv", "wrong-column", "mixed-zones", "swapped"),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_bad_file_is_one_clear_message(
    outcomes: dict[str, tuple[int, str, str, list[str]]], name: str
) -> None:
    code, stderr, message, left = outcomes[name]
    assert code == 1
    assert message in " ".join(stderr.split())
    assert stderr.startswith("error: ")
    assert "Traceback" not in stderr
    assert set(left) <= {"card.yaml", "a.nc", "a.npy", "a.npz", "a.pkl", "a.h5", "a.csv", "places.csv"}


@pytest.mark.slow
def test_an_hour_that_happens_twice_is_shown_not_refused(
    outcomes: dict[str, tuple[int, str, str, list[str]]],
) -> None:
    code, stderr, _, _ = outcomes["folded"]
    assert (code, stderr) == (0, "")
