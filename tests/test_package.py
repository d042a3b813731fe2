"""What a user gets who installs the package: exports, layers, and a wheel that finds its recipes."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import st2llm
from st2llm.data import card

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ["prompts", "alignment", "evaluation", "benchmarks"]


def _python(code, cwd, **environment):
    """What a fresh interpreter prints: no hook, and no recipes of the caller's own."""
    env = {key: value for key, value in os.environ.items() if key != "ST2LLM_RECIPES"} | environment
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("name", st2llm.__all__)
def test_every_export_can_be_had(name):
    assert getattr(st2llm, name) is not None
    assert name in dir(st2llm)


def test_no_exported_function_has_the_name_of_a_module_beside_it():
    modules = {path.stem for path in (ROOT / "st2llm").iterdir()}
    assert modules & set(st2llm.__all__) == {"tasks"}


def test_an_unknown_export_is_an_attribute_error_that_names_what_there_is():
    with pytest.raises(AttributeError, match="no attribute 'load_dat'.*load_data"):
        st2llm.load_dat  # noqa: B018 - reading it is the act


def test_the_version_is_that_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert st2llm.__version__ == project["version"]


def test_importing_the_package_imports_neither_torch_nor_numpy(tmp_path):
    code = "import st2llm, sys; print('torch' in sys.modules, 'numpy' in sys.modules)"
    assert _python(code, tmp_path) == ["False", "False"]


@pytest.mark.slow
def test_every_export_but_compare_and_checkpoints_leaves_torch_unimported(tmp_path):
    names = [name for name in st2llm.__all__ if name not in ("compare", "CheckpointPredictor")]
    code = f"import st2llm, sys\nfor name in {names}: getattr(st2llm, name)\nprint('torch' in sys.modules)"
    assert _python(code, tmp_path) == ["False"]


@pytest.mark.slow  # `make check` runs the same command
def test_imports_point_one_way():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_readme_of_a_root_folder_is_short_and_begins_with_a_table(folder):
    lines = (ROOT / folder / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 40
    assert any(line.startswith("|") for line in lines)


def test_the_links_and_suites_that_the_readme_names_are_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"\]\(([^)#:]+)\)", text) + re.findall(r"evaluation/suites/[\w/-]+\.yaml", text)
    assert len(named) >= 4
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_cards_in_the_docs_are_cards_that_are_read(tmp_path):
    text = (ROOT / "docs/data-cards.md").read_text(encoding="utf-8")
    path = tmp_path / "card.yaml"
    names = []
    for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
        path.write_text(block, encoding="utf-8")
        names.append(card.read_card(path).name)
    assert names == ["my-roads", "my-weather", "my-walks", "counts"]


@pytest.mark.slow
def test_the_demo_runs_from_python(tmp_path):
    code = "import st2llm\nreport = st2llm.compare('demo', out='runs/demo')\nprint(report.verdict)"
    assert _python(code, tmp_path, ST2LLM_RECIPES=str(_short_demo(tmp_path / "own")))
    assert (tmp_path / "runs/demo/report.html").is_file()


def _short_demo(folder):
    """The demo's suite with its baselines alone, and the shipped templates."""
    suite = yaml.safe_load((ROOT / "evaluation/suites/demo.yaml").read_text(encoding="utf-8"))
    rules = [predictor for predictor in suite["predictors"] if predictor["family"] == "baseline"]
    target = folder / "evaluation/suites/demo.yaml"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(yaml.safe_dump({**suite, "predictors": rules, "controls": None}), encoding="utf-8")
    return folder


@pytest.mark.slow
def test_the_quickstart_prints_a_forecast_and_its_error(tmp_path):
    words = _python((ROOT / "examples/quickstart.py").read_text(encoding="utf-8"), tmp_path)
    assert "Mean absolute error:" in " ".join(words)


@pytest.mark.slow
def test_a_wheel_in_an_empty_folder_finds_templates_configs_and_suites(tmp_path):
    wheels, site, elsewhere = tmp_path / "wheels", tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)

    code = """
import st2llm
from pathlib import Path
from st2llm import recipes
print(Path(st2llm.__file__).parent)
for folder, pattern in [("prompts", "**/*.md"), ("alignment", "**/*"), ("evaluation", "**/*")]:
    for path in recipes.listing(folder, pattern):
        print(path)
"""
    package, *found = _python(code, elsewhere, PYTHONPATH=str(site))
    assert package == str(site / "st2llm")
    assert all(path.startswith(f"{package}/_recipes/") for path in found)
    shipped = {Path(path).relative_to(f"{package}/_recipes").as_posix() for path in found}
    assert {"prompts/graph/forecast.md", "alignment/README.md", "evaluation/suites/demo.yaml"} <= shipped
    assert {"evaluation/suites/headline/graph-forecast.yaml", "evaluation/knowledge.parquet"} <= shipped
    assert not any("reports" in name for name in shipped)
