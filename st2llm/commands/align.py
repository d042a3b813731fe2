"""`st2llm align` from end to end, and its report: alignment metrics against random weights and random pairs."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from st2llm.align import geometry
from st2llm.commands.finetune import run_clip_prompts, run_finetune
from st2llm.config.training import SoftTokenRecipe, VideoQARecipe, VideoTextRecipe
from st2llm.errors import ConfigError
from st2llm.evaluate.run.progress import NO_PROGRESS, ProgressReporter
from st2llm.evaluate.run.run_card import commit_text
from st2llm.evaluate.run_folder.store import write_json
from st2llm.files import write_atomically, write_text
from st2llm.model import checkpoint
from st2llm.model.objectives.alignment import mean_soft_state, mean_text_states
from st2llm.train.align import AlignedModel, align
from st2llm.train.checkpointing import is_main
from st2llm.train.loop.budget import OUTCOME_LABELS, FitResult

_BATCH = 16
_TOPS = (1, 5, 10)
_WORDS = 8
_CLAUSE = re.compile(r"(?:^|; )([a-z][a-z ]*?)(?: \([^)]*\))?: ([^;]+?)(?=;|\.$)")
mpl.use("agg")


@dataclass(frozen=True)
class AlignmentMeasures:
    """Alignment of soft tokens and texts in one language model: metrics, nearest words, and both sets of embeddings."""

    name: str
    measures: dict[str, geometry.Estimate]
    facts: dict[str, float]
    words: list[list[str]]
    probe: tuple[str, float, float] | None
    soft: np.ndarray
    text: np.ndarray


def align_and_report(
    recipe: SoftTokenRecipe | VideoQARecipe | VideoTextRecipe,
    out: Path,
    *,
    resume: bool = False,
    reporter: ProgressReporter = NO_PROGRESS,
) -> FitResult:
    """Aligns, repeats this with random LLM weights where the recipe sets `control`, and writes alignment.md into `out`.

    For questions about clips, the report is report.md of the evaluation. Raises ConfigError where the
    recipe trains part of the model.
    """
    if isinstance(recipe, VideoTextRecipe):
        return run_clip_prompts(recipe, out, resume=resume, reporter=reporter)
    if isinstance(recipe, VideoQARecipe):
        if not recipe.adapt.frozen:
            raise ConfigError(
                f"{recipe.id}: adapt.method is {recipe.adapt.method}, so this is `st2llm finetune`."
            )
        return run_finetune(recipe, out, resume=resume, reporter=reporter)
    reporter.start(recipe.id, recipe.budget.steps)
    trained = align(recipe, out, resume=resume, on_step=reporter.update)
    results = [measure_alignment(trained)]
    if recipe.control and not recipe.llm.name.startswith("random:"):
        llm = recipe.llm.model_copy(update={"name": f"random:{recipe.llm.name}"})
        twin = recipe.model_copy(update={"llm": llm, "control": False})
        again = resume and (out / "random" / "run.json").exists()
        reporter.start(f"{recipe.id}, random weights", recipe.budget.steps)
        aligned = align(
            twin, out / "random", resume=again, on_step=reporter.update, encoder=out / checkpoint.ENCODER
        )
        results.append(measure_alignment(aligned))
    if is_main():
        write(recipe, trained, results, out)
    return trained.fit


def measure_alignment(aligned: AlignedModel) -> AlignmentMeasures:
    """Measures the alignment of soft tokens and descriptions of the validation samples."""
    soft, tokens = _soft(aligned)
    text = mean_text_states(aligned.llm, aligned.captions).cpu().numpy().astype(np.float64)
    measures = {
        "linear CKA": geometry.estimate(geometry.cka, soft, text),
        "RSA": geometry.estimate(geometry.rsa, soft, text),
    }
    for k in _TOPS:
        if k < len(soft):
            measures[f"data finds text @{k}"] = geometry.estimate(_finds(k), soft, text)
            measures[f"text finds data @{k}"] = geometry.estimate(_finds(k), text, soft)
    facts = {
        "modality gap (0 to 2)": geometry.modality_gap(soft, text),
        "effective rank of soft tokens": geometry.effective_rank(soft),
        "effective rank of texts": geometry.effective_rank(text),
    }
    nearest_words = _nearest_words(aligned, tokens)
    return AlignmentMeasures(
        aligned.llm.name, measures, facts, nearest_words, _probe(soft, text, aligned.captions), soft, text
    )


def _finds(k: int) -> geometry.Measure:
    return lambda x, y: float(geometry.retrieval_hits(x, y, k).mean())


@torch.inference_mode()
def _soft(aligned: AlignedModel) -> tuple[np.ndarray, np.ndarray]:
    """The embedding of the soft tokens of each sample, and the first of the tokens themselves."""
    aligned.arm.eval()
    device = next(aligned.arm.parameters()).device
    means, first = [], []
    for start in range(0, len(aligned.validation), _BATCH):
        part = list(aligned.validation[start : start + _BATCH])
        soft = aligned.arm.soft_tokens(aligned.preprocessor.collate(part, with_instructions=False).to(device))
        # A sample whose places are rows of their own is the mean of its places.
        of_samples = mean_soft_state(aligned.arm, soft).reshape(len(part), -1, soft.shape[-1]).mean(dim=1)
        means.append(of_samples.float().cpu().numpy())
        first.append(soft[:, 0].reshape(len(part), -1, soft.shape[-1])[:, 0].float().cpu().numpy())
    return np.concatenate(means).astype(np.float64), np.concatenate(first).astype(np.float64)


def _nearest_words(aligned: AlignedModel, tokens: np.ndarray) -> list[list[str]]:
    """The nearest words to the first soft token of a few samples, then to the prototypes of a reprogramming head."""
    table = aligned.llm.model.get_input_embeddings().weight.detach().float().cpu().numpy().astype(np.float64)
    rows = [tokens[np.linspace(0, len(tokens) - 1, min(_WORDS, len(tokens))).round().astype(int)]]
    prototypes = getattr(aligned.arm.up, "prototypes", None)
    if prototypes is not None:
        rows.append(prototypes().detach().float().cpu().numpy().astype(np.float64)[:_WORDS])
    nearest = geometry.nearest_words(np.concatenate(rows), table)
    return [[aligned.llm.tokenizer.decode([int(i)]).strip() or "(blank)" for i in row] for row in nearest]


def _probe(soft: np.ndarray, text: np.ndarray, captions: Sequence[str]) -> tuple[str, float, float] | None:
    """Probe transfer on the clause with the most balanced answers; None where no clause has two answers."""
    answers: dict[str, dict[int, str]] = {}
    for i, caption in enumerate(captions):
        for topic, answer in _CLAUSE.findall(caption):
            answers.setdefault(topic, {})[i] = answer
    best: tuple[float, str] | None = None
    for topic, answers_of in answers.items():
        counts = Counter(answers_of.values())
        if not 2 <= len(counts) <= 8 or len(answers_of) < 20:
            continue
        most = max(counts.values()) / len(answers_of)
        if best is None or most < best[0]:
            best = (most, topic)
    if best is None:
        return None
    rows = sorted(answers[best[1]])
    labels = [answers[best[1]][i] for i in rows]
    if len(set(labels[::2])) < 2:
        return None
    return (best[1], *geometry.probe_transfer(soft[rows], text[rows], labels))


def write(
    recipe: SoftTokenRecipe, aligned: AlignedModel, results: Sequence[AlignmentMeasures], out: Path
) -> None:
    """Writes alignment.md, alignment.json and alignment.png."""
    content = [
        {
            "llm": each.name,
            "measures": {name: asdict(value) for name, value in each.measures.items()},
            "facts": each.facts,
            "probe": each.probe,
            "words": each.words,
        }
        for each in results
    ]
    write_json(out / "alignment.json", content)
    figure = _figure(results)
    write_atomically(out / "alignment.png", lambda file: figure.savefig(file, dpi=110, format="png"))
    text = _page(recipe, aligned, results)
    write_text(out / "alignment.md", text)


def _page(recipe: SoftTokenRecipe, aligned: AlignedModel, results: Sequence[AlignmentMeasures]) -> str:
    r, first, curve = recipe, results[0], aligned.fit.curve
    lines = [f"# What alignment did: {r.title or r.id}", "", "## Verdict", "", f"**{_verdict(results)}**", ""]
    names = ["pretrained", "random weights"][: len(results)]
    lines += [
        "## Measures",
        "",
        f"{len(aligned.validation)} validation samples, each with its description.",
        "",
    ]
    lines.append("| measure | " + " | ".join(f"{n} (95 %) | {n}, pairs at random" for n in names) + " |")
    lines.append("|---|" + "---:|---:|" * len(names))
    for name in first.measures:
        cells = []
        for each in results:
            m = each.measures[name]
            cells.append(
                f"{m.value:.3f} ({m.low:.3f} to {m.high:.3f}) | {m.permuted:.3f}, below {m.permuted_high:.3f}"
            )
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for name in first.facts:
        lines.append(f"| {name} | " + " | ".join(f"{each.facts[name]:.2f} | –" for each in results) + " |")
    for each, name in zip(results, names, strict=True):
        if each.probe is not None:
            topic, got, most_common = each.probe
            lines += [
                "",
                f"Probe transfer, {name}: `{topic}`, fitted on texts and asked about data, is right in "
                f"{100 * got:.0f} % (the most common answer: {100 * most_common:.0f} %).",
            ]
    lines += ["", "![Measures, and both clouds](alignment.png)", "", "## Nearest words", ""]
    lines += ["Of the first soft token of samples, then of prototypes where the head has them:", ""]
    lines += [f"- {', '.join(f'`{_plain(word)}`' for word in row)}" for row in first.words]
    lines += [
        "",
        "## How",
        "",
        f"- language model: {r.llm.name}, depth {aligned.llm.depth}, bit-identical afterwards",
        f"- data and task: {r.data}, {r.task}",
        f"- head: {r.up.head}; objectives: {', '.join(r.objectives.given)}",
        f"- steps {curve.step[-1]}, batch {r.budget.batch}, rate {r.budget.lr:g}, seed {r.seed}; best "
        f"validation value {curve.best:.5g} ({OUTCOME_LABELS[curve.outcome]})",
        f"- commit: {commit_text()}",
        "",
        "Data: the mean of the model's last states over the soft tokens. Text: the same over the tokens of the "
        "description, which was computed from what is visible. Intervals: delete-d jackknife over samples. Pairs at "
        "random: mean and highest 2.5 % of 200 permutations. Random weights: a twin of the same architecture, head and "
        "budget whose language model was drawn at random.",
        "",
    ]
    return "\n".join(lines)


def _plain(word: str) -> str:
    return word.replace("`", "'").replace("|", "/").replace("\n", " ")


def _verdict(results: Sequence[AlignmentMeasures]) -> str:
    """Which metrics are above chance, and whether pretrained weights make the difference."""
    first = results[0]
    above = [name for name, m in first.measures.items() if m.low > m.permuted_high]
    summary = f"{len(above)} of {len(first.measures)} measures are above pairs at random"
    if len(results) == 1:
        return f"{summary}. No twin on random weights was trained."
    twin = results[1].measures
    better = [n for n, m in first.measures.items() if m.low > twin[n].high]
    worse = [n for n, m in first.measures.items() if m.high < twin[n].low]
    comparison = (
        f"{len(better)} are higher than on random weights, {len(worse)} are lower, with intervals apart"
    )
    return f"{summary}; {comparison}."


def _figure(results: Sequence[AlignmentMeasures]) -> Figure:
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, *clouds = figure.subplots(
        1, 1 + len(results), width_ratios=[1.5, *([1] * len(results))], squeeze=False
    )[0]
    names = list(results[0].measures)
    colours = ["#1f5fa8", "#b8860b"]
    for i, each in enumerate(results):
        at = np.arange(len(names)) + 0.28 * i
        values = np.array([each.measures[n].value for n in names])
        spans = np.array([[each.measures[n].value - each.measures[n].low for n in names]] * 2)
        label = "pretrained weights" if i == 0 else "random weights"
        left.errorbar(values, at, xerr=spans, fmt="o", ms=5, color=colours[i], label=label, capsize=2)
        chance = [each.measures[n].permuted_high for n in names]
        left.scatter(
            chance, at, marker="|", s=80, color="0.45", label="97.5 % of pairs at random" if i == 0 else None
        )
    left.set_yticks(np.arange(len(names)) + 0.14, names)
    left.invert_yaxis()
    left.set_xlabel("value")
    left.grid(axis="x", color="0.9")
    left.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    for axes, each, name in zip(clouds, results, ("pretrained weights", "random weights"), strict=False):
        rows = [geometry.normalise_rows(z) for z in (each.soft, each.text)]
        flat = PCA(2, random_state=0).fit_transform(np.concatenate(rows))
        cut = len(each.soft)
        axes.scatter(*flat[:cut].T, s=10, color="#1f5fa8", label="data", alpha=0.7)
        axes.scatter(*flat[cut:].T, s=10, color="#c0392b", label="text", alpha=0.7, marker="^")
        axes.set_title(name, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel("first principal component", fontsize=8)
        axes.set_ylabel("second", fontsize=8)
        axes.legend(frameon=False, fontsize=8)
    return figure
