"""Rewrite tables of README and docs, the leaderboard and the knowledge base from the committed reports: `make figures`.

python evaluation/figures.py [--check]

With --check nothing is written, and the exit status is 1 if a page differs from the reports.
"""

import sys
from pathlib import Path

from st2llm.evaluate.leaderboard.write import render_leaderboard, write_leaderboard
from st2llm.evaluate.publication.generated import generate, rewrite
from st2llm.evaluate.recommend import build
from st2llm.evaluate.recommend.knowledge import KNOWLEDGE, is_current

ROOT = Path(__file__).resolve().parents[1]
REPORTS = ROOT / "evaluation" / "reports"
LEADERBOARD = REPORTS / "leaderboard.html"
KNOWLEDGE_BASE = ROOT / KNOWLEDGE
FOLDERS = ("docs", "alignment", "benchmarks", "evaluation", "examples", "prompts")
PAGES = [ROOT / "README.md", *(page for folder in FOLDERS for page in sorted((ROOT / folder).rglob("*.md")))]
PAGES = [page for page in PAGES if REPORTS not in page.parents]


def stale_pages() -> list[Path]:
    """The pages that differ from the committed reports."""
    stale = [page for page in PAGES if generate(text := page.read_text("utf-8"), REPORTS) != text]
    written = LEADERBOARD.read_text("utf-8") if LEADERBOARD.is_file() else ""
    if render_leaderboard([REPORTS], LEADERBOARD).text != written:
        stale.append(LEADERBOARD)
    return stale if is_current([REPORTS], KNOWLEDGE_BASE) else [*stale, KNOWLEDGE_BASE]


if __name__ == "__main__":
    check = "--check" in sys.argv[1:]
    if not check:
        build([REPORTS], KNOWLEDGE_BASE)
        write_leaderboard([REPORTS], LEADERBOARD)
    stale = stale_pages() if check else rewrite(PAGES, REPORTS)
    for page in stale:
        print(page.relative_to(ROOT))
    sys.exit(bool(stale) and check)
