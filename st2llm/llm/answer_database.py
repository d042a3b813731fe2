"""The SQLite file of cached answers: opening with an integrity check, recovery after damage, and atomic writes."""

import hashlib
import sqlite3
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from st2llm.errors import StorageError

VERSION = 1
LOCK_TIMEOUT_S = 60.0
"""How long a writer waits for another one, in seconds."""
_APPLICATION_ID = 0x53543241
"""Identifies these files among SQLite files (https://www.sqlite.org/fileformat.html, offset 68)."""
_CORRUPTION_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def open_database(path: Path) -> sqlite3.Connection:
    """Opens the file, recovering what can be read if it is damaged. The caller holds the file lock."""
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        if not is_corruption(error):
            raise
        reason = str(error)
    backup = _move_aside(path)
    database = _connect(path)
    recovered = _recover(backup, database)
    warnings.warn(
        f"{path} is damaged ({reason}). It was moved to {backup.name}; {recovered} answers in it could be read and "
        f"are kept, the others will be requested again. Delete {backup.name} when you do not need it.",
        stacklevel=2,
    )
    return database


def _connect(path: Path) -> sqlite3.Connection:
    """Opens a connection. Raises sqlite3.DatabaseError for a damaged file, StorageError for another program's
    file.
    """
    database = sqlite3.connect(path, timeout=LOCK_TIMEOUT_S, isolation_level=None)
    try:
        if path.stat().st_size:
            _check_database(database, path)
        # Readers and one writer do not wait for each other, and a kill leaves nothing half-written.
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        with transaction(database):
            database.execute(
                "CREATE TABLE IF NOT EXISTS answer (key BLOB PRIMARY KEY, body BLOB NOT NULL, digest BLOB NOT NULL)"
            )
            database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            database.execute(f"PRAGMA user_version = {VERSION}")
    except BaseException:
        database.close()
        raise
    return database


def _check_database(database: sqlite3.Connection, path: Path) -> None:
    application_id, version, tables = (
        int(database.execute(query).fetchone()[0])
        for query in (
            "PRAGMA application_id",
            "PRAGMA user_version",
            "SELECT count(*) FROM sqlite_master",
        )
    )
    if tables and (application_id, version) != (_APPLICATION_ID, VERSION):
        raise StorageError(
            f"{path} should hold answers of language models (version {VERSION}), but it is a database of another "
            f"program or version. Move it away, or set ST2LLM_CACHE to another folder."
        )
    result = str(database.execute("PRAGMA quick_check(1)").fetchone()[0])
    if result != "ok":
        raise _CorruptionError(" ".join(result.split()))


class _CorruptionError(sqlite3.DatabaseError):
    """Corruption found by SQLite's own check, raised with the error code that SQLite uses for it."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


def is_corruption(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _CORRUPTION_CODES


def _move_aside(path: Path) -> Path:
    """Renames a damaged file and its -wal and -shm files."""
    stem = f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}"
    existing = sum(1 for _ in path.parent.glob(f"{stem}*"))
    backup = path.with_name(f"{stem}.{existing}" if existing else stem)
    for suffix in ("-wal", "-shm", ""):
        file = Path(f"{path}{suffix}")
        if file.exists():
            file.replace(f"{backup}{suffix}")
    return backup


def _recover(backup: Path, database: sqlite3.Connection) -> int:
    """Copies every intact answer, reading from both ends of the table up to the damage; returns how many."""
    before = database.total_changes
    with closing(sqlite3.connect(backup)) as damaged:
        for order in ("ASC", "DESC"):
            rows: list[tuple[bytes, bytes, bytes]] = []
            try:
                for row in damaged.execute(f"SELECT key, body, digest FROM answer ORDER BY rowid {order}"):
                    rows.append(row)
            except sqlite3.DatabaseError:
                pass  # nothing more can be read from this end; the caller reports the count
            with transaction(database):
                insert(database, [row for row in rows if has_valid_digest(row)])
    return database.total_changes - before


def has_valid_digest(row: tuple[object, object, object]) -> bool:
    key, body, checksum = row
    return isinstance(key, bytes) and isinstance(body, bytes) and checksum == digest(key, body)


def insert(database: sqlite3.Connection, rows: Sequence[tuple[bytes, bytes, bytes]]) -> None:
    database.executemany("INSERT OR IGNORE INTO answer (key, body, digest) VALUES (?, ?, ?)", rows)


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:  # SQLite rolls back by itself on a full disk
            database.execute("ROLLBACK")
        raise


def digest(key: bytes, body: bytes) -> bytes:
    return hashlib.blake2b(key + body, digest_size=16).digest()
