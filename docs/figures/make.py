"""Draw the figures of the documentation as SVG files.

    python docs/figures/make.py [FOLDER]

`gains.svg` is drawn from the committed reports, `packages.svg` from the import contract in pyproject.toml.
"""

import json
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

ROOT = Path(__file__).resolve().parents[2]
REPORTS = ROOT / "evaluation" / "reports" / "2026-11-27-five-kinds"
TASKS = {  # folder of the report: the row's label, and whether a higher metric is better
    "five-kinds-graph": ("graph: pedestrians, 12 h", False),
    "five-kinds-grid": ("grid: crimes, next day", False),
    "five-kinds-video": ("video: brightness, 8 frames", False),
    "five-kinds-trajectory": ("trajectory: paths, 12 steps", False),
    "five-kinds-place": ("trajectory: next place", True),
    "five-kinds-event": ("event: hours to the next", False),
}
BLUE, ORANGE, GREY, PALE = "#1f5fa8", "#c2571a", "#5b6470", "#eef2f7"


@dataclass(frozen=True)
class Gain:
    """A gain in per cent (percentage points where the metric is an accuracy), with its 95 % interval."""

    value: float
    low: float | None
    high: float | None


def read_gains(folder: Path, *, higher_is_better: bool) -> tuple[Gain, Gain]:
    """The gain of the LLM arm that is best on validation, and the gain of pretraining of `llm-lora`."""
    with (folder / "results.jsonl").open(encoding="utf-8") as file:
        pooled = [record for record in map(json.loads, file) if record["seed"] is None]
    arms = [r for r in pooled if r["gain_best"] and r["validation"] is not None]
    best = (max if higher_is_better else min)(arms, key=lambda record: record["validation"])
    lora = next(record for record in pooled if record["predictor"] == "llm-lora")
    return _gain(best["gain_best"]), _gain(lora["gain_pretraining"])


def _gain(record: dict) -> Gain:
    return Gain(*(None if record[key] is None else 100 * record[key] for key in ("value", "low", "high")))


def draw_gains(path: Path) -> None:
    """A forest plot of both gains of six tasks on five kinds of data."""
    figure, axes = plt.subplots(figsize=(6.2, 5.0))
    axes.axvline(0, color=GREY, linewidth=1)
    for row, (name, (label, higher)) in enumerate(TASKS.items()):
        best, pretraining = read_gains(REPORTS / name, higher_is_better=higher)
        _draw_gain(axes, best, row - 0.1, BLUE)
        _draw_gain(axes, pretraining, row + 0.18, ORANGE)
        axes.text(-7.4, row - 0.36, label, va="center", fontsize=11)
    axes.plot(
        [], [], "o-", color=BLUE, label="LLM gain: best LLM arm over best arm without pretrained weights"
    )
    axes.plot([], [], "o-", color=ORANGE, label="gain of pretraining: LoRA over its twin with random weights")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False, fontsize=10)
    axes.text(-0.2, -0.75, "← LLM worse", ha="right", fontsize=11, color=GREY)
    axes.text(0.2, -0.75, "LLM better →", ha="left", fontsize=11, color=GREY)
    axes.set(xlim=(-7.5, 4.5), ylim=(5.5, -0.6), yticks=[])
    axes.set_xlabel("gain, % (next place: percentage points)", fontsize=11)
    axes.spines[["top", "right", "left"]].set_visible(False)
    _save(figure, path)


def _draw_gain(axes: Axes, gain: Gain, row: float, colour: str) -> None:
    if gain.low is None:  # too few blocks for an interval
        axes.plot(gain.value, row, "o", color=colour, markerfacecolor="white", markersize=6)
        left = gain.value < -1
        at, side = gain.value + (-0.25 if left else 0.25), "right" if left else "left"
        axes.text(at, row, "6 clips: no interval", ha=side, va="center", fontsize=10, color=GREY)
        return
    axes.plot([gain.low, gain.high], [row, row], color=colour, linewidth=2, solid_capstyle="butt")
    axes.plot(gain.value, row, "o", color=colour, markersize=6)


def draw_model(path: Path) -> None:
    """The parts of an arm: all arms share every part but the backbone."""
    figure, axes = _canvas(7.0, 2.5)
    parts = ["tokens", "encoder", "up", "backbone", "down", "head"]
    notes = [
        "patches, fixes,\nevents",
        "width d_st",
        "d_st → d_lm",
        "one of:",
        "d_lm → d_st",
        "numbers,\nranks, densities",
    ]
    for column, (part, note) in enumerate(zip(parts, notes, strict=True)):
        left = 0.05 + 1.17 * column
        _box(axes, (left, 1.45), (0.95, 0.55), part, strong=part == "backbone")
        axes.text(left + 0.475, 1.36, note, ha="center", va="top", fontsize=9.5, color=GREY)
        if column:
            _arrow(axes, (left - 0.22, 1.725), (left, 1.725))
    axes.text(4.04, 2.18, "the only part in which the arms differ", ha="center", fontsize=11, color=BLUE)
    choices = "none · attention · matched · llm-random · llm-frozen · llm-lora"
    axes.text(3.5, 0.62, choices, ha="center", fontsize=11, color=BLUE)
    text_path = "The text path has no such parts: write a prompt → complete it → read the answer."
    axes.text(3.5, 0.15, text_path, ha="center", fontsize=9.5, color=GREY)
    _save(figure, path)


def layers() -> list[list[str]]:
    """The layers of the import contract, lowest first; the modules of one layer stand together."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = settings["tool"]["importlinter"]["contracts"][0]
    named = [layer for layer in reversed(contract["layers"]) if not layer.startswith("_")]
    return [[module.strip() for module in layer.split("|")] for layer in named]


def draw_packages(path: Path) -> None:
    """The packages, lowest layer at the bottom: imports point down."""
    rows = layers()
    figure, axes = _canvas(7.4, 0.52 * len(rows) + 0.3)
    about = {
        "data": "read, describe and split data",
        "features": "frozen encoders; load and ask an LLM",
        "retrieve": "nearest windows and documents",
        "serialize": "data as words; data as embeddings",
        "align": "from embeddings into the LLM's space",
        "model": "arms, objectives, checkpoints",
        "predict": "baselines, text, soft, external models",
        "train": "the training loop",
        "evaluate": "run a suite, score, report",
        "commands": "what the command line calls",
        "cli": "the command line",
        "types": "containers, samples, prompts, protocols",
        "config": "every settings class",
        "tasks": "masks, recipe files, metrics",
        "errors": "one class for each cause",
    }
    for height, modules in enumerate(rows):
        width = 3.6 / len(modules)
        for column, module in enumerate(modules):
            left = 0.1 + column * width
            _box(axes, (left, 0.15 + 0.52 * height), (width - 0.08, 0.4), module)
        text = next((about[module] for module in modules if module in about), "")
        axes.text(3.8, 0.35 + 0.52 * height, text, va="center", fontsize=10.5, color=GREY)
    _save(figure, path)


def _canvas(width: float, height: float) -> tuple[plt.Figure, Axes]:
    figure = plt.figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return figure, axes


def _box(
    axes: Axes, corner: tuple[float, float], size: tuple[float, float], text: str, *, strong: bool = False
) -> None:
    style = {"facecolor": BLUE if strong else PALE, "edgecolor": BLUE, "linewidth": 1.2}
    axes.add_patch(FancyBboxPatch(corner, *size, boxstyle="round,pad=0,rounding_size=0.06", **style))
    centre = (corner[0] + size[0] / 2, corner[1] + size[1] / 2)
    axes.text(*centre, text, ha="center", va="center", fontsize=10, color="white" if strong else "black")


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=12, color=GREY))


def _save(figure: plt.Figure, path: Path) -> None:
    figure.savefig(path, bbox_inches="tight", facecolor="white", metadata={"Date": None, "Creator": None})
    plt.close(figure)


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    with matplotlib.rc_context({"svg.hashsalt": "st2llm", "font.family": "DejaVu Sans"}):
        draw_gains(folder / "gains.svg")
        draw_model(folder / "model.svg")
        draw_packages(folder / "packages.svg")
