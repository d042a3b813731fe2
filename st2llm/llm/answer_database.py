"""One SQLite file of answers: opened soundly or set aside, written whole or not at all."""

import hashlib
import sqlite3
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from st2llm.errors import StorageError

VERSION = 1
BUSY_S = 60.0
"""How long a writer waits for another one."""
_APPLICATION = 0x53543241
"""Tells our files from those of other programs (https://www.sqlite.org/fileformat.html, offset 68)."""
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def open_file(path: Path) -> sqlite3.Connection:
    """A connection to a sound file. The caller holds the lock, so that no other process opens it meanwhile."""
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        what = str(error)
    aside = _set_aside(path)
    file = _connect(path)
    rescued = _rescue(aside, file)
    warnings.warn(
        f"{path} is damaged ({what}). It was set aside as {aside.name}; {rescued} answers in it could be read and are "
        f"kept, others will be asked again. Delete {aside.name} when you do not need it.",
        stacklevel=2,
    )
    return file


def _connect(path: Path) -> sqlite3.Connection:
    """Raises sqlite3.DatabaseError where the file is damaged, StorageError where it is not one of ours."""
    file = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    try:
        if path.stat().st_size:
            _check(file, path)
        # Readers and one writer do not wait for each other, and a kill leaves nothing half-written.
        file.execute("PRAGMA journal_mode = WAL")
        file.execute("PRAGMA synchronous = NORMAL")
        with transaction(file):
            file.execute(
                "CREATE TABLE IF NOT EXISTS answer (key BLOB PRIMARY KEY, body BLOB NOT NULL, digest BLOB NOT NULL)"
            )
            file.execute(f"PRAGMA application_id = {_APPLICATION}")
            file.execute(f"PRAGMA user_version = {VERSION}")
    except BaseException:
        file.close()
        raise
    return file


def _check(file: sqlite3.Connection, path: Path) -> None:
    application, version, tables = (
        int(file.execute(question).fetchone()[0])
        for question in (
            "PRAGMA application_id",
            "PRAGMA user_version",
            "SELECT count(*) FROM sqlite_master",
        )
    )
    if tables and (application, version) != (_APPLICATION, VERSION):
        raise StorageError(
            f"{path} should hold answers of language models (version {VERSION}), but it is a database of another "
            f"program or version. Move it away, or set ST2LLM_CACHE to another folder."
        )
    verdict = str(file.execute("PRAGMA quick_check(1)").fetchone()[0])
    if verdict != "ok":
        raise _Damage(" ".join(verdict.split()))


class _Damage(sqlite3.DatabaseError):
    """What SQLite's own check found, raised as SQLite raises what it stumbles on."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


def is_damage(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


def _set_aside(path: Path) -> Path:
    """Gives a damaged file and its companions another name."""
    stem = f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}"
    taken = sum(1 for _ in path.parent.glob(f"{stem}*"))
    aside = path.with_name(f"{stem}.{taken}" if taken else stem)
    for suffix in ("-wal", "-shm", ""):
        part = Path(f"{path}{suffix}")
        if part.exists():
            part.replace(f"{aside}{suffix}")
    return aside


def _rescue(aside: Path, file: sqlite3.Connection) -> int:
    """Takes over every answer that is still as it was written: from the front and from the back, up to the damage."""
    before = file.total_changes
    with closing(sqlite3.connect(aside)) as damaged:
        for order in ("ASC", "DESC"):
            rows: list[tuple[bytes, bytes, bytes]] = []
            try:
                for row in damaged.execute(f"SELECT key, body, digest FROM answer ORDER BY rowid {order}"):
                    rows.append(row)
            except sqlite3.DatabaseError:
                pass  # the end of what can be read from this side; the caller tells how much that was
            with transaction(file):
                insert(file, [row for row in rows if is_sound(row)])
    return file.total_changes - before


def is_sound(row: tuple[object, object, object]) -> bool:
    key, body, checksum = row
    return isinstance(key, bytes) and isinstance(body, bytes) and checksum == digest(key, body)


def insert(file: sqlite3.Connection, rows: Sequence[tuple[bytes, bytes, bytes]]) -> None:
    file.executemany("INSERT OR IGNORE INTO answer (key, body, digest) VALUES (?, ?, ?)", rows)


@contextmanager
def transaction(file: sqlite3.Connection) -> Iterator[None]:
    file.execute("BEGIN IMMEDIATE")
    try:
        yield
        file.execute("COMMIT")
    except BaseException:
        if file.in_transaction:  # a full disk has undone it already
            file.execute("ROLLBACK")
        raise


def digest(key: bytes, body: bytes) -> bytes:
    return hashlib.blake2b(key + body, digest_size=16).digest()
