"""GPX: the points of recorded tracks. The text is read event by event, and a document type is refused."""

from dataclasses import dataclass, field
from typing import IO
from xml.etree import ElementTree

from st2llm.errors import DataError

PIECE_BYTES = 1 << 20
GPX_COLUMNS = ("track", "segment", "time", "lon", "lat", "ele")
"""The columns of a GPX file: name of the track (else its number), number of the segment, ISO time, degrees, metres."""

Cell = str | float | int | bool | None


def gpx_columns(stream: IO[bytes], where: str) -> dict[str, list[Cell]]:
    """The points of all tracks of a GPX 1.0 or 1.1 file by column, in order; None where a point lacks one.

    Raises DataError for other XML, for a document type, and for a file without track points.
    """
    points = _Points(where)
    parser = ElementTree.XMLParser(target=points)
    try:
        while piece := stream.read(PIECE_BYTES):
            parser.feed(piece)
        parser.close()
    except ElementTree.ParseError as error:
        raise DataError(f"{where} is not XML: {error}. Export the track as GPX again.") from error
    if not points.columns["lat"]:
        raise DataError(
            f"{where} has no track point (trkpt). Routes and waypoints have no recorded times: export the recorded "
            "track."
        )
    return points.named()


@dataclass
class _Points:
    """Collects track points while the parser reads. path: the names of the open elements."""

    where: str
    path: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    segment: int = 0
    columns: dict[str, list[Cell]] = field(default_factory=lambda: {name: [] for name in GPX_COLUMNS})

    def doctype(self, name: str, public_id: str, system: str) -> None:
        raise DataError(
            f"{self.where} declares a document type, which a GPX file has no use for. Remove the line <!DOCTYPE ...>."
        )

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition("}")[2]
        if not self.path and name != "gpx":
            raise DataError(
                f"{self.where} should be GPX, but its first element is {name[:40]!r}. Export it as GPX."
            )
        self.path.append(name)
        self.text = []
        if name == "trk":
            self.names.append("")
            self.segment = 0
        elif name == "trkseg":
            self.segment += 1
        elif name == "trkpt":
            position = [self._degrees(attributes, key) for key in ("lon", "lat")]
            row = [len(self.names) - 1, str(self.segment), None, *position, None]
            for column, cell in zip(self.columns.values(), row, strict=True):
                column.append(cell)

    def data(self, text: str) -> None:
        self.text.append(text)

    def end(self, tag: str) -> None:
        name = self.path.pop()
        parent, text = (self.path[-1] if self.path else ""), "".join(self.text).strip()
        if (parent, name) == ("trk", "name"):
            self.names[-1] = text
        elif parent == "trkpt" and name in ("time", "ele"):
            self.columns[name][-1] = text or None

    def close(self) -> None:
        """Nothing is left to do."""

    def named(self) -> dict[str, list[Cell]]:
        """The columns, with tracks by their names; by their numbers from 1, where a name is missing or repeated."""
        unique = all(self.names) and len(set(self.names)) == len(self.names)
        ids = self.names if unique else [str(i + 1) for i in range(len(self.names))]
        return {**self.columns, "track": [ids[int(number or 0)] for number in self.columns["track"]]}

    def _degrees(self, attributes: dict[str, str], key: str) -> float:
        try:
            return float(attributes[key])
        except (KeyError, ValueError) as error:
            raise DataError(
                f"{self.where}: track point {len(self.columns['lat']) + 1} should have {key} in degrees, but it is "
                f"{attributes.get(key, 'missing')[:40]!r}. Correct the point."
            ) from error
