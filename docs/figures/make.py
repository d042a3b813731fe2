"""Draw the figures of the documentation as SVG files.

    python docs/figures/make.py [FOLDER]

`gains.svg` is drawn from the committed reports, `packages.svg` from the import contract in pyproject.toml. The figures
of ladders are those of their reports.
"""

import shutil
import sys
import tomllib
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from st2llm.evaluate.publication.committed import newest_report, read_report
from st2llm.evaluate.publication.tables import task_gains
from st2llm.evaluate.run_folder.record import Gain

ROOT = Path(__file__).resolve().parents[2]
REPORTS = ROOT / "evaluation" / "reports"
HEADLINE = ("five-kinds",)
LADDERS = ("ladder-outages", "ladder-strikes")
BLUE, ORANGE, GREY, PALE = "#1f5fa8", "#c2571a", "#5b6470", "#eef2f7"


def draw_gains(path: Path) -> None:
    """A forest plot of both gains of each task of the headline."""
    rows = task_gains(*(read_report(REPORTS, suite) for suite in HEADLINE))
    figure, axes = plt.subplots(figsize=(6.2, 0.75 * len(rows) + 0.5))
    axes.axvline(0, color=GREY, linewidth=1)
    for row, task in enumerate(rows):
        _draw_gain(axes, task.best, row - 0.1, BLUE)
        _draw_gain(axes, task.pretraining, row + 0.18, ORANGE)
        unit = "%" if task.relative else "points"
        across = axes.get_yaxis_transform()
        axes.text(
            0,
            row - 0.36,
            f"{task.label} ({unit}): {task.verdict}",
            va="center",
            fontsize=11,
            transform=across,
        )
    axes.plot(
        [], [], "o-", color=BLUE, label="LLM gain: best LLM arm over best arm without pretrained weights"
    )
    axes.plot(
        [],
        [],
        "o-",
        color=ORANGE,
        label="gain of pretraining: the same arm over its twin with random weights",
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False, fontsize=10)
    for note, offset, side in (("← LLM worse", -4, "right"), ("LLM better →", 4, "left")):
        axes.annotate(
            note,
            (0, -0.75),
            (offset, 0),
            textcoords="offset points",
            ha=side,
            color=GREY,
            annotation_clip=False,
        )
    axes.set(ylim=(len(rows) - 0.5, -0.6), yticks=[])
    axes.margins(x=0.1)
    axes.set_xlabel("gain, % or percentage points", fontsize=11)
    axes.spines[["top", "right", "left"]].set_visible(False)
    _save(figure, path)


def _draw_gain(axes: Axes, gain: Gain | None, row: float, colour: str) -> None:
    if gain is None:
        return
    if gain.low is None or gain.high is None:  # too few blocks for an interval
        axes.plot(100 * gain.value, row, "o", color=colour, markerfacecolor="white", markersize=6)
        note = f"{gain.n_blocks} blocks: no interval"
        side = "right" if gain.value < 0 else "left"
        offset = (-8 if gain.value < 0 else 8, 0)
        at = (100 * gain.value, row)
        axes.annotate(note, at, offset, textcoords="offset points", ha=side, va="center", color=GREY)
        return
    axes.plot([100 * gain.low, 100 * gain.high], [row, row], color=colour, linewidth=2, solid_capstyle="butt")
    axes.plot(100 * gain.value, row, "o", color=colour, markersize=6)


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
        "errors": "one class for each cause; other libraries",
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
    for name in LADDERS:
        shutil.copyfile(newest_report(REPORTS, name) / "ladder.svg", folder / f"{name}.svg")
