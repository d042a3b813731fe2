"""The report of a calibration: calibration.md and a figure of the earlier interval beside the present one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from st2llm.evaluate.calibration.figure import coverage_figure
from st2llm.evaluate.report.formats import format_gain_size
from st2llm.evaluate.run_folder.reading import read_json
from st2llm.files import write_text
from st2llm.metrics import is_higher_better

_VERDICTS = ("helped", "hurt", "equivalent", "unclear")


def write_page(folder: Path) -> None:
    """Writes calibration.md, and coverage.svg where errors were simulated, from calibration.json."""
    content = read_json(folder / "calibration.json")
    text = markdown(content)
    write_text(folder / "calibration.md", text)
    if content["simulated"]:
        figure = coverage_figure(content["simulated"]["coverage"])
        write_text(folder / "coverage.svg", figure)


def markdown(content: Mapping[str, Any]) -> str:
    """The page as Markdown."""
    suite, relative = content["suite"], not is_higher_better(content["suite"]["metric"])
    dirty = " with uncommitted changes" if content["dirty"] else ""
    parts = [
        f"# Calibration of the gain: {suite['data']}",
        f"Suite `{suite['id']}`, kind {suite['kind']}, metric {suite['metric']}, {content['seeds']} seeds, "
        f"{content['trials']} comparisons of each setting, commit {content['commit']}{dirty}. Shares in %, with exact "
        f"95 % binomial intervals.",
    ]
    if content["real"] or content["resampled"]:
        parts += _same_arm(content, relative=relative)
    if content["exchanged"]:
        parts += [
            "Two arms whose labels are exchanged at random for each seed:",
            _table(
                ("arms", "seeds", "blocks", "comparisons", "interval covers zero", *_VERDICTS),
                [
                    (
                        " and ".join(row["arms"]),
                        row["seeds"],
                        row["blocks"],
                        row["trials"],
                        _share(row["coverage"]),
                        *(_share(row[verdict]) for verdict in _VERDICTS),
                    )
                    for row in content["exchanged"]
                ],
            ),
        ]
    parts += [
        "## Power",
        "The true gain that is found in 80 % of runs, from the variation of these arms between seeds and blocks.",
        _table(
            ("arm", "seed deviation", "seeds", "blocks", "gain found in 80 %"),
            [
                (
                    row["arm"],
                    format_gain_size(row["seed_sd"], relative=relative),
                    row["seeds"],
                    row["blocks"],
                    format_gain_size(row["detectable"], relative=relative),
                )
                for row in content["power"]
            ],
        ),
    ]
    return "\n\n".join([*parts, *_simulation(content)]) + "\n"


def _same_arm(content: Mapping[str, Any], *, relative: bool) -> list[str]:
    return [
        "## The same arm against itself",
        "Trained arms compared with themselves under other seeds. Real: two sets of seeds on the test blocks as they "
        "are. Resampled: seeds and blocks drawn anew in each comparison, with a gain planted into one side.",
        _table(
            (
                "arm",
                "seeds a side",
                "blocks",
                "comparisons",
                "planted gain",
                "95 % interval covers it",
                *_VERDICTS,
            ),
            [
                (
                    f"{row['arm']} ({label})",
                    row["seeds"],
                    row["blocks"],
                    row["trials"],
                    format_gain_size(row["truth"], relative=relative),
                    _share(row["coverage"]),
                    *(_share(row[verdict]) for verdict in _VERDICTS),
                )
                for label, key in (("real", "real"), ("resampled", "resampled"))
                for row in content[key]
            ],
        ),
    ]


def _simulation(content: Mapping[str, Any]) -> list[str]:
    rows = content["simulated"]
    if not rows:
        return []
    worst = content["worst"]
    header = (
        "blocks",
        "autocorrelation",
        "seed deviation",
        "seeds",
        "covers",
        "helped",
        "hurt",
        "earlier: covers",
    )
    return [
        "## Simulated errors",
        "A relative gain with a standard deviation of 4.2 % from block to block, and no true gain. With three seeds "
        f"or more, coverage is {100 * worst['coverage_low']:.1f} to {100 * worst['coverage_high']:.1f} % (median "
        f"{100 * worst['coverage_median']:.1f} %), the rate of a false *helped* at most {100 * worst['helped']:.1f} %, "
        f"of a false *hurt* {100 * worst['hurt']:.1f} %, and of a false *equivalent* at the margin "
        f"{100 * worst['equivalent_at_margin']:.1f} %. *Earlier* is the percentile bootstrap. One seed gives no "
        "verdict.",
        "![Coverage of the earlier and the present interval](coverage.svg)",
        _table(header, [_coverage_row(row) for row in rows["coverage"]]),
        "Arms and references of equal error, chosen on validation:",
        _table(
            ("LLM arms", "references", "seeds", "covers", "helped", "hurt"),
            [
                (
                    *row["setting"]["candidates"],
                    row["setting"]["seeds"],
                    *(_share(row[key]) for key in ("coverage", "helped", "hurt")),
                )
                for row in rows["choice"]
            ],
        ),
        "True gains:",
        _table(
            ("gain", "seeds", "blocks", "covers", *_VERDICTS),
            [
                (
                    f"{100 * row['setting']['gain']:+.1f} %",
                    row["setting"]["seeds"],
                    row["setting"]["blocks"],
                    *(_share(row[key]) for key in ("coverage", *_VERDICTS)),
                )
                for row in rows["power"]
            ],
        ),
    ]


def _coverage_row(row: Mapping[str, Any]) -> tuple[object, ...]:
    setting = row["setting"]
    verdicts = (
        ("no verdict", "no verdict") if setting["seeds"] < 3 else (_share(row["helped"]), _share(row["hurt"]))
    )
    return (
        setting["blocks"],
        setting["autocorrelation"],
        f"{100 * setting['seed_sd']:g} %",
        setting["seeds"],
        _share(row["coverage"]),
        *verdicts,
        _share(row["earlier"]["coverage"]),
    )


def _share(share: Mapping[str, float]) -> str:
    return f"{100 * share['value']:.1f} [{100 * share['low']:.1f}, {100 * share['high']:.1f}]"


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
