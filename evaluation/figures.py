"""Rewrite the tables of README and docs from the committed reports: `make figures`.

python evaluation/figures.py [--check]

With --check nothing is written, and the exit status is 1 if a page differs from the reports.
"""

import sys
from pathlib import Path

from st2llm.evaluate.publication.generated import generate, rewrite

ROOT = Path(__file__).resolve().parents[1]
REPORTS = ROOT / "evaluation" / "reports"
FOLDERS = ("docs", "alignment", "benchmarks", "evaluation", "examples", "prompts")
PAGES = [ROOT / "README.md", *(page for folder in FOLDERS for page in sorted((ROOT / folder).rglob("*.md")))]
PAGES = [page for page in PAGES if REPORTS not in page.parents]

if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        stale = [page for page in PAGES if generate(text := page.read_text("utf-8"), REPORTS) != text]
    else:
        stale = rewrite(PAGES, REPORTS)
    for page in stale:
        print(page.relative_to(ROOT))
    sys.exit(bool(stale) and "--check" in sys.argv[1:])
