"""The generated pages of the reference are those of the code, and nothing that a user can write or read is left out."""

import runpy
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs/reference"
MAKE = runpy.run_path(str(REFERENCE / "make.py"))


@pytest.mark.parametrize("page", ["settings.md", "cards.md"])
def test_a_page_of_keys_is_what_make_figures_writes(page):
    assert (REFERENCE / page).read_text(encoding="utf-8") == MAKE["PAGES"][page](), "run `make figures`"


@pytest.mark.slow
def test_the_examples_of_template_variables_are_those_of_real_samples():
    written = (REFERENCE / "template-variables.md").read_text(encoding="utf-8")
    assert written == MAKE["PAGES"]["template-variables.md"](), "run `make figures`"


def test_every_key_has_a_description_or_a_class_that_has_one():
    classes = MAKE["closure"]([*MAKE["SETTINGS_CLASSES"], *MAKE["CARDS"].values()])
    missing = {
        f"{settings.__name__}.{key}"
        for settings in classes
        for key, text in MAKE["descriptions"](settings).items()
        if not text and not list(MAKE["nested"](MAKE["keys"](settings)[key].annotation))
    }
    assert missing == set()


@pytest.mark.slow
def test_every_column_that_a_run_writes_is_in_the_page_of_files(finished):
    page = (REFERENCE / "files.md").read_text(encoding="utf-8")
    files = [path for path in finished.rglob("*.parquet") if "controls" not in path.parts]
    columns = {name for path in files for name in pd.read_parquet(path).columns}
    assert len(columns) > 15 and {name for name in columns if f"`{name}`" not in page} == set()
