"""A whole comparison in miniature: a made-up data set, a two-layer language model, a suite of every family."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM

from support.tiny_llm import save_tokenizer, train_tokenizer

PLACES = ("Queen St", "High St", "Quay St")
DAYS, HISTORY, HORIZON = 80, 48, 24
TEST_DAYS = 22
"""Windows of the test part: 24 days, the first two of which are history."""


def write_llama(folder: Path) -> Path:
    """Two layers and a context long enough for a prompt of two days."""
    tokenizer = train_tokenizer("single")
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        bos_token_id=1,
        eos_token_id=2,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        initializer_range=0.3,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    return folder


def write_card(folder: Path, *, timezone: str = "UTC", start: str = "2024-01-01", days: int = DAYS) -> Path:
    """Hourly counts with a daily wave; one reading in twenty is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    stamps = pd.date_range(start, periods=24 * days, freq="h", tz="UTC")
    wave = 60 + 40 * np.sin(2 * np.pi * np.arange(len(stamps)) / 24)[:, None] * [1.0, 0.7, 1.3]
    values = np.maximum(np.rint(wave + rng.normal(0, 8, wave.shape)), 0)
    values[rng.random(values.shape) < 0.05] = np.nan
    table = pd.DataFrame(values, columns=PLACES)
    table.insert(0, "stamp", stamps.strftime("%Y-%m-%dT%H:%M:%S+00:00"))
    table.to_csv(folder / "values.csv", index=False)
    (folder / "places.csv").write_text(
        "name,lon,lat\n" + "".join(f"{name},174.76{i},-36.848\n" for i, name in enumerate(PLACES))
    )
    card = {
        "name": "tiny-town",
        "kind": "graph",
        "values": "values.csv",
        "time": "stamp",
        "freq": "1h",
        "timezone": timezone,
        "nodes": {"file": "places.csv", "id": "name", "lon": "lon", "lat": "lat"},
        "edges": {"distance": {"sigma_km": 0.3, "threshold": 0.1}},
        "unit": "people",
        "quantity": "people an hour",
        "split": {"train": 0.5, "validation": 0.2, "test": 0.3, "align": "day"},
    }
    path = folder / "tiny-town.yaml"
    path.write_text(yaml.safe_dump(card, sort_keys=False))
    return path


def rules(card: Path | str, **changes: Any) -> dict[str, Any]:
    """A suite of two null rules and the ridge."""
    names = ("last-value", "hour-of-week", "ridge-deviation")
    return {
        "id": "rules",
        "version": 1,
        "kind": "graph",
        "data": str(card),
        "split": {"stride": 24},
        "task": {"forecast": {"history": HISTORY, "horizon": HORIZON}},
        "predictors": [{"name": name, "family": "baseline"} for name in names],
        "bootstrap": {"draws": 200},
    } | changes


def everything(card: Path | str, llm: Path | str, **changes: Any) -> dict[str, Any]:
    """A suite of all four families, two seeds, two learning rates, a warmed-up encoder and both controls."""
    soft = ("llm-random", "llm-frozen", "llm-lora")
    suite = rules(card)
    predictors = [
        *suite["predictors"],
        {"name": "none", "family": "primitive", "backbone": "none"},
        {"name": "matched", "family": "primitive", "backbone": "matched"},
        *({"name": name, "family": "soft", "backbone": name} for name in soft),
        {"name": "random-lora", "family": "soft", "backbone": "llm-random", "set": {"train_adapters": True}},
        {
            "name": "text",
            "family": "text",
            "backbone": "llm-frozen",
            "template": "graph/forecast",
            "set": {"windows": 3},
        },
    ]
    return (
        suite
        | {
            "id": "everything",
            "llm": {"name": str(llm), "dtype": "fp32"},
            "encoder": {"d_st": 16, "patch": 24, "layers": 1, "warmup": {"steps": 2, "batch": 4}},
            "skip": "last",
            "predictors": predictors,
            "seeds": [0, 1],
            "budget": {"steps": 4, "batch": 4, "lr": [1.0e-2, 1.0e-5]},
            "validation": {"select": "even", "count": 5},
            "controls": {
                "predictors": ["none", "llm-random", "llm-frozen"],
                "strengths": [0, 0.3],
                "windows": 20,
            },
        }
        | changes
    )


def write_suite(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def small(card: Path | str, **changes: Any) -> dict[str, Any]:
    """A suite of rules and one trained arm with a warmed-up encoder: every stage of a run, in a second."""
    predictors = [
        *rules(card)["predictors"],
        {"name": "none", "family": "primitive", "backbone": "none"},
    ]
    return (
        rules(card, predictors=predictors)
        | {
            "id": "small",
            "encoder": {"d_st": 16, "layers": 1, "warmup": {"steps": 2, "batch": 4}},
            "seeds": [0, 1],
            "budget": {"steps": 2, "batch": 4, "lr": [1e-3]},
        }
        | changes
    )


ENVIRONMENT = {"OMP_NUM_THREADS": "1", "ST2LLM_OFFLINE": "1"}


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "results.jsonl").read_text(encoding="utf-8").splitlines()]


TIMED = ("train_s", "predict_s_per_sample", "peak_mb")


def untimed(run: Path) -> list[dict[str, Any]]:
    """The records without what a clock or the machine's memory says."""
    found = records(run)
    for record in found:
        for name in ("cost", "validation_cost"):
            if name in record:
                record[name] = {key: value for key, value in record[name].items() if key not in TIMED}
    return found


def leftovers(run: Path) -> list[Path]:
    """Temporary files that nobody put in place."""
    return [path for path in run.rglob("*") if path.name.startswith(".") and path.is_file()]


def assert_same_numbers(run: Path, other: Path) -> None:
    """Checks that two run folders hold the same results, scores and controls, apart from times."""
    assert untimed(run) == untimed(other)
    scores = [pd.read_parquet(folder / "scores.parquet") for folder in (run, other)]
    pd.testing.assert_frame_equal(*scores, check_exact=True)
    controls = [folder / "controls.json" for folder in (run, other)]
    assert [path.exists() for path in controls].count(True) in (0, 2)
    if controls[0].exists():
        assert controls[0].read_text() == controls[1].read_text()
