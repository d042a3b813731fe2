"""Zip archives (wheels) and gzip: unpacked within limits, never to a path that the archive names."""

import contextlib
import gzip
import io
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from st2llm.data.safe_open import limits
from st2llm.data.safe_open.limits import MAX_BYTES, checked_file
from st2llm.errors import DataError, nearest


def unpack_member(archive: Path, member: str, target: Path, *, limit: int = MAX_BYTES) -> None:
    """Writes one member of a zip or wheel to the file `target`, whatever path the archive gives it.

    Raises DataError where the archive is damaged, has no such member, or the member would unpack beyond
    the limits.
    """
    try:
        with zipfile.ZipFile(checked_file(archive)) as bundle:
            info = checked_member(bundle, member, archive, limit)
            with bundle.open(info) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise DataError(f"{archive.name} is damaged ({error}). Download it again.") from error


@contextlib.contextmanager
def unpacked_stream(path: Path, member: str | None = None, *, limit: int = MAX_BYTES) -> Iterator[IO[bytes]]:
    """A stream of the bytes of a file, unpacked if it is gzip, or of a `member` of a zip. Its name does not matter.

    Raises DataError where the file is damaged, or unpacks beyond the limits.
    """
    try:
        with checked_file(path, limit=limit).open("rb") as raw:
            magic = raw.read(4)
            raw.seek(0)
            if magic == b"PK\x03\x04":
                with zipfile.ZipFile(raw) as bundle:
                    name = member or _only_member(bundle, path)
                    with bundle.open(checked_member(bundle, name, path, limit)) as packed:
                        yield packed
            elif member is not None:
                raise DataError(
                    f"{path.name} is not a zip archive, so it holds no {member!r}. Correct its name in the card."
                )
            elif magic[:2] == b"\x1f\x8b":
                most = min(limit, max(limits.FREE_BYTES, limits.MAX_RATIO * path.stat().st_size))
                with gzip.GzipFile(fileobj=raw) as packed:
                    yield io.BufferedReader(_LimitedStream(packed, most, path.name), 1 << 20)
            else:
                yield raw
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError, zlib.error) as error:
        raise DataError(f"{path.name} is damaged ({error}). Download it again.") from error


class _LimitedStream(io.RawIOBase):
    """A decompressed stream with a limit on its length, which gzip does not state beforehand."""

    def __init__(self, packed: gzip.GzipFile, limit: int, name: str) -> None:
        super().__init__()
        self._packed, self._left, self._limit, self._name = packed, limit, limit, name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._packed.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise DataError(
                f"{self._name} unpacks to more than {self._limit:,} bytes, the limit. It is not unpacked."
            )
        buffer[: len(data)] = data
        return len(data)


def _only_member(bundle: zipfile.ZipFile, path: Path) -> str:
    names = [info.filename for info in bundle.infolist() if not info.is_dir()]
    if len(names) != 1:
        raise DataError(
            f"{path.name} holds {len(names)} files. Name one of them: {path.name}:"
            f"{(names or ['file.csv'])[0]}"
        )
    return names[0]


def checked_member(bundle: zipfile.ZipFile, member: str, archive: Path, limit: int) -> zipfile.ZipInfo:
    try:
        info = bundle.getinfo(member)
    except KeyError as error:
        hint = nearest(member, bundle.namelist()[:1000])
        raise DataError(f"{archive.name} holds no {member!r}. {hint}") from error
    ratio = info.file_size / max(info.compress_size, 1)
    if info.file_size > limit or (info.file_size > limits.FREE_BYTES and ratio > limits.MAX_RATIO):
        raise DataError(
            f"{member!r} in {archive.name} would unpack to {info.file_size:,} bytes ({ratio:.0f} times its "
            f"packed size), over the limit of {limit:,} bytes or {limits.MAX_RATIO} times. It is not unpacked."
        )
    return info
