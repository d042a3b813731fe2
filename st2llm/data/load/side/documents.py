"""Joins documents: texts with a period, a place and a time of publication, which is never set early."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from st2llm.data.card.documents import DocumentTable
from st2llm.data.card.side import SideRule
from st2llm.data.load.side import document_text
from st2llm.data.load.side.document_table import read_text_rows
from st2llm.data.load.side.document_times import Clock
from st2llm.errors import DataError, nearest
from st2llm.types import Document, DocumentLimits, DocumentSet, slug

_LEFT_OUT = {
    "empty": "hold no text",
    "undated": "have no time",
    "reversed": "end before they start",
    "elsewhere": "are about a place that the data do not have",
    "repeated": "repeat the text, the place and the time of another",
}
"""Why rows are left out, in the order in which they are told."""
_CHANGED = {
    "tags": "had HTML tags, which were taken out",
    "cut": "were cut to {characters} characters",
    "foreign": "seem not to be in English and stay as written",
}
"""What was done to documents that are kept."""


@dataclass(frozen=True)
class DocumentPlaces:
    """The places that documents may be about, or the objects or clips. ids: by id and by name, as slugs.

    relative: whether times are seconds since the first frame of a clip.
    """

    ids: Mapping[str, str] = field(default_factory=dict)
    relative: bool = False

    @classmethod
    def of(
        cls, ids: Iterable[str], labels: Iterable[str] = (), *, relative: bool = False
    ) -> "DocumentPlaces":
        """Places by id and, where there are labels in the same order, by label."""
        ids = tuple(ids)
        named = {slug(label): id for label, id in zip(labels, ids, strict=False)}
        return cls({**named, **{slug(id): id for id in ids}, **{id: id for id in ids}}, relative)

    def id_of(self, cell: str) -> str | None:
        """The id of a place; '' for all, None where there is no such place."""
        return "" if not cell else self.ids.get(cell, self.ids.get(slug(cell)))


def read_documents(
    rule: SideRule | None, files: Mapping[str, Path], timezone: str, places: DocumentPlaces
) -> tuple[DocumentSet, tuple[str, ...]]:
    """The documents of a card in order of publication, and what was done.

    timezone: of times without an offset. Rows without a text or a time, whose period ends before it starts, or about a
    place that the data do not have are left out and counted; so are repeated ones.

    Raises DataError where a table cannot be read, a time is no time, or no document is left.
    """
    if rule is None or not rule.documents:
        return DocumentSet(), ()
    documents: list[Document] = []
    limits: dict[str, DocumentLimits] = {}
    steps: list[str] = []
    for table in rule.documents:
        for name in table.table:
            reader = _Reader(table, name, table.source or _stem(name), timezone, places)
            documents += reader.read(files[name])
            steps.append(reader.step())
            limits[reader.source] = DocumentLimits(table.window_s, table.limit)
    if not documents:
        raise DataError(
            f"No document is left of {len(steps)} tables: {'; '.join(steps)}. Correct `side.documents`."
        )
    documents.sort(key=lambda document: document.published)
    return DocumentSet(tuple(documents), limits), tuple(steps)


def _stem(name: str) -> str:
    return PurePosixPath(name.partition(":")[0]).name.partition(".")[0]


class _Reader:
    """Reads one table and counts the rows that it leaves out or changes, with the first of each."""

    def __init__(
        self, rule: DocumentTable, name: str, source: str, timezone: str, places: DocumentPlaces
    ) -> None:
        self.rule, self.name, self.source = rule, name, source
        self.clock = Clock(name, rule.written_in or timezone, rule.format, places.relative)
        self.places = places
        self.count: Counter[str] = Counter()
        self.first: dict[str, str] = {}
        self.kept = 0

    def read(self, path: Path) -> list[Document]:
        rule = self.rule
        cells = read_text_rows(path, list(dict.fromkeys(rule.columns())), rule)
        texts = cells[rule.text]
        starts = self._times(cells, rule.start, end=False)
        ends = self._times(cells, rule.end, end=True)
        published = self._times(cells, rule.published, end=True)
        places = cells[rule.place] if rule.place else [""] * len(texts)
        rows = zip(texts, starts, ends, published, places, strict=True)
        documents = list(self._without_repeated(self._documents(rows)))
        self.kept = len(documents)
        if not documents and self.count["elsewhere"]:
            place = self.first["elsewhere"]
            raise DataError(
                f"{self.name}: no text is about a place that the data have; the first is about {place!r}. "
                f"{nearest(slug(place), set(self.places.ids.values()))} Correct `place` of the documents, or leave it "
                f"out where all texts are about all places."
            )
        return documents

    def step(self) -> str:
        """What was done, in words."""
        told = [
            f"{self.count[key]} {reason.format(characters=self.rule.characters)} (first: {self.first[key]})"
            for key, reason in _CHANGED.items()
            if self.count[key]
        ]
        left = [
            f"{self.count[key]} that {reason} (first: {self.first[key]})"
            for key, reason in _LEFT_OUT.items()
            if self.count[key]
        ]
        more = [f"left out {', '.join(left)}"] if left else []
        return "; ".join([f"{self.kept} documents of {self.name}", *more, *told])

    def _times(
        self, cells: Mapping[str, Sequence[str]], column: str | None, *, end: bool
    ) -> list[int | None]:
        if column is None:
            return [None] * len(cells[self.rule.text])
        return self.clock.seconds(cells[column], column, end=end)

    def _documents(
        self, rows: Iterable[tuple[str, int | None, int | None, int | None, str]]
    ) -> Iterator[tuple[int, Document]]:
        """The documents of rows, each with its row from 1."""
        for row, (text, start, end, published, place) in enumerate(rows, start=1):
            id = self.places.id_of(place)
            readable = published if published is not None else end
            if self._is_missing(text):
                self._note("empty", f"row {row}")
            elif readable is None:
                self._note("undated", f"row {row}")
            elif start is not None and end is not None and end < start:
                self._note("reversed", f"row {row}")
            elif id is None:
                self._note("elsewhere", place)
            else:
                last = end if end is not None else max(start or readable, readable)
                first = start if start is not None else min(last, readable)
                published_s = readable + self.rule.lag_s
                yield row, Document(self._cleaned(text, row), first, last, published_s, id, self.source)

    def _without_repeated(self, documents: Iterable[tuple[int, Document]]) -> Iterator[Document]:
        seen: set[tuple[str, str, int]] = set()
        for row, document in documents:
            key = (document.text, document.place, document.published)
            if key in seen:
                self._note("repeated", f"row {row}")
            elif not document.text:
                self._note("empty", f"row {row}")
            else:
                seen.add(key)
                yield document

    def _is_missing(self, text: str) -> bool:
        return not text.strip() or any(fnmatchcase(text.strip(), pattern) for pattern in self.rule.missing)

    def _cleaned(self, text: str, row: int) -> str:
        cleaned = document_text.clean(text, self.rule.characters)
        foreign = not document_text.seems_english(cleaned.text)
        for key, happened in (("tags", cleaned.had_tags), ("cut", cleaned.cut), ("foreign", foreign)):
            if happened:
                self._note(key, f"row {row}")
        return cleaned.text

    def _note(self, key: str, where: str) -> None:
        self.count[key] += 1
        self.first.setdefault(key, where)
