"""The figure of a calibration: coverage of the earlier and of the present interval in every simulated setting."""

from collections.abc import Sequence
from typing import Any

from st2llm.evaluate.report.figures.charts import BETTER, FAINT, INK, WORSE, chart, svg


def coverage_figure(rows: Sequence[dict[str, Any]]) -> str:
    """Coverage against the number of seeds, one panel for each autocorrelation; a dot for each simulated setting."""
    values = sorted({row["setting"]["autocorrelation"] for row in rows})
    seeds = sorted({row["setting"]["seeds"] for row in rows})
    with chart(7.2, 2.9, columns=len(values)) as (figure, panels):
        for panel, value in zip(panels, values, strict=True):
            panel.axhspan(92, 97, color="#e6f2f1", lw=0)
            panel.axhline(95, color=FAINT, lw=0.8)
            for shift, colour, key in ((-0.14, WORSE, "earlier"), (0.14, BETTER, "present")):
                points = [
                    (
                        seeds.index(row["setting"]["seeds"]) + shift,
                        100 * (row["earlier"]["coverage"] if key == "earlier" else row["coverage"])["value"],
                    )
                    for row in rows
                    if row["setting"]["autocorrelation"] == value
                ]
                panel.plot(*zip(*points, strict=True), "o", ms=4, color=colour, alpha=0.6, mew=0, label=key)
            panel.set_title(f"autocorrelation {value:g}", fontsize=8.5, color=INK)
            panel.set_xticks(range(len(seeds)), [str(n) for n in seeds])
            panel.set_ylim(40, 100)
            panel.set_xlabel("seeds")
        panels[0].set_ylabel("coverage of the 95 % interval, %")
        handles, labels = panels[-1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower right", ncols=2, frameon=False)
        return svg(figure, "coverage", "Coverage of the earlier and the present interval by number of seeds")
