"""Licences of language models that must be accepted before the model is used: their terms, and who accepted them.

An acceptance is recorded in `licences/` of the cache folder, once for each model and each wording of the terms.
"""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

from st2llm.data.fetch import Source, cache_dir, fetch
from st2llm.errors import ArtefactError
from st2llm.files import write_text


@dataclass(frozen=True)
class LicenceTerms:
    """Terms that a user must accept. source: the files that hold them, of which `page` is the HTML page of the terms
    and `notice` a text that goes with the model.
    """

    name: str
    url: str
    source: Source
    page: str
    notice: str

    @property
    def sha256(self) -> str:
        return str(self.source.files[self.page])


def accepted_path(model: str, terms: LicenceTerms) -> Path:
    """The record of the acceptance of these terms for a model."""
    return cache_dir() / "licences" / f"{model}-{terms.sha256[:12]}.json"


def is_accepted(model: str, terms: LicenceTerms) -> bool:
    """Whether these very terms were accepted for the model on this machine. A damaged record is none."""
    try:
        record = json.loads(accepted_path(model, terms).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and record.get("terms_sha256") == terms.sha256


def record_acceptance(model: str, terms: LicenceTerms, *, by: str) -> None:
    """Writes that the terms were accepted. by: how, such as `--accept-license`. Raises StorageError where it cannot."""
    record = {
        "model": model,
        "licence": terms.name,
        "url": terms.url,
        "terms_sha256": terms.sha256,
        "accepted_by": by,
        "accepted_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    text = json.dumps(record, indent=1) + "\n"
    write_text(accepted_path(model, terms), text)


def require_accepted(model: str, terms: LicenceTerms) -> None:
    """Raises ArtefactError, with the command to read and accept them, where the terms were not accepted."""
    if not is_accepted(model, terms):
        raise ArtefactError(
            f"{model} may be used under the {terms.name} ({terms.url}), which have not been accepted on this machine. "
            f"Read and accept them once: st2llm data fetch {model} (where there is no terminal, add --accept-license)."
        )


def read_terms(model: str, terms: LicenceTerms) -> str:
    """The terms and the notice as plain text. Raises ArtefactError where they cannot be downloaded."""
    files = fetch(terms.source, hint=f"st2llm data fetch {model}")
    page = _Article()
    page.feed(files[terms.page].read_text(encoding="utf-8"))
    notice = files[terms.notice].read_text(encoding="utf-8").strip()
    return f"{page.text()}\n\n{notice}"


_BLOCKS = {"p", "li", "h1", "h2", "h3", "h4", "div", "section", "br", "tr"}
_SKIPPED = {"style", "script", "button", "svg"}


class _Article(HTMLParser):
    """The words of a page's <article>, or of the whole page where it has none, a line for each paragraph."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[str] = []
        self._article: int | None = None
        self._skipped = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "article" and self._article is None:
            self._pieces, self._article = [], 1
        self._skipped += tag in _SKIPPED
        if tag in _BLOCKS:
            self._pieces.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._skipped -= tag in _SKIPPED and self._skipped > 0
        if tag == "article":
            self._article = 0

    def handle_data(self, data: str) -> None:
        if not self._skipped and self._article != 0:
            self._pieces.append(re.sub(r"\s+", " ", data))

    def text(self) -> str:
        lines = (line.strip() for line in "".join(self._pieces).split("\n"))
        return "\n".join(line for line in lines if line)
