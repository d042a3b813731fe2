"""A cache of language model answers in one SQLite file, so that an interrupted run does not repeat requests."""

import hashlib
import json
import os
import sqlite3
import warnings
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from filelock import FileLock

from st2llm.data.fetch import cache_dir
from st2llm.errors import ConfigError, DataError, StorageError
from st2llm.llm import answer_database
from st2llm.llm.endpoint.client import StreamingCompleter
from st2llm.types import GREEDY, Answer, Completer, Decoding, Prompt, PromptLike, as_prompts

_MAX_KEYS_PER_QUERY = 500
_HINT = (
    "Free space, set ST2LLM_CACHE to a folder that can be written, or keep no answers: ST2LLM_ANSWERS=off."
)


class AnswerStore:
    """One SQLite file of answers by key; several processes may read and write it at the same time.

    An answer whose `put` has returned survives a kill of the process at any moment. (A power failure may lose
    the last answers, but does not damage the file.) The first answer of a key is kept. A damaged file is moved
    aside under another name with a warning, and every answer in it that can still be read is copied to the new
    file.

    Raises StorageError where the file cannot be opened or written, or belongs to another program.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._storage_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{path}.lock"):
                self._database = answer_database.open_database(path)

    def __enter__(self) -> "AnswerStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()

    def __len__(self) -> int:
        with self._storage_errors():
            return int(self._database.execute("SELECT count(*) FROM answer").fetchone()[0])

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Answer]:
        """The stored answers by key, each with `cached` set and with the seconds that the original request took."""
        answers: dict[bytes, Answer] = {}
        with self._storage_errors():
            for start in range(0, len(keys), _MAX_KEYS_PER_QUERY):
                batch = keys[start : start + _MAX_KEYS_PER_QUERY]
                placeholders = ",".join("?" * len(batch))
                rows = self._database.execute(
                    f"SELECT key, body, digest FROM answer WHERE key IN ({placeholders})", batch
                )
                for row in rows.fetchall():
                    if answer_database.has_valid_digest(row):
                        answers[row[0]] = _decode(row[1])
                    else:
                        self._delete(row[0])
        return answers

    def put(self, answers: Iterable[tuple[bytes, Answer]]) -> None:
        """Stores answers by key in one transaction: all of them, or none where it raises or is killed."""
        encoded = [(key, _encode(answer)) for key, answer in answers]
        with self._storage_errors(), answer_database.transaction(self._database):
            answer_database.insert(
                self._database, [(key, body, answer_database.digest(key, body)) for key, body in encoded]
            )

    def _delete(self, key: bytes) -> None:
        warnings.warn(
            f"An answer in {self.path} is damaged, so it is requested again. Check the disk.",
            stacklevel=3,
        )
        self._database.execute("DELETE FROM answer WHERE key = ?", (key,))

    @contextmanager
    def _storage_errors(self) -> Iterator[None]:
        """Converts errors of SQLite and of the disk to a StorageError that names the file and a remedy."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            hint = (
                "Run again: the damaged file is then set aside."
                if answer_database.is_corruption(error)
                else _HINT
            )
            raise StorageError(f"Answers could not be kept in {self.path}: {error}. {hint}") from error
        except OSError as error:
            raise StorageError(f"Answers could not be kept in {self.path}: {error}. {_HINT}") from error


@dataclass(frozen=True)
class CachedCompleter:
    """A completer that asks `completer` only for answers that `store` does not hold, and stores each answer at
    once.

    identity: names everything that an answer depends on besides prompt and decoding: weights, depth, dtype,
    quantisation, tokenizer, engine. batch_size: number of prompts per request batch; answers of a batch are
    stored before the next batch is requested. Answers of a StreamingCompleter are stored one by one as they
    arrive, and stored draws are not requested again. Any other completer numbers its draws from 0, so all draws
    of a prompt are requested if one is missing; stored draws are kept. A refusal is an answer and is stored as
    well.
    """

    completer: Completer
    store: AnswerStore
    identity: str
    batch_size: int = 64

    def complete(
        self, prompts: PromptLike | Sequence[PromptLike], decoding: Decoding = GREEDY
    ) -> list[Answer]:
        given = as_prompts(prompts)
        keys = [
            [answer_key(self.identity, prompt, decoding, draw) for draw in range(decoding.draws)]
            for prompt in given
        ]
        cached = self.store.get([key for row in keys for key in row])
        missing = {
            row[0]: (prompt, row)
            for prompt, row in zip(given, keys, strict=True)
            if any(key not in cached for key in row)
        }
        pending = list(missing.values())
        batch_size = (
            max(1, len(pending)) if isinstance(self.completer, StreamingCompleter) else self.batch_size
        )
        fresh: dict[bytes, Answer] = {}
        for start in range(0, len(pending), batch_size):
            fresh.update(self._ask(pending[start : start + batch_size], decoding, cached))
        answers = []
        for key in (key for row in keys for key in row):
            answers.append(cached[key] if key in cached else fresh[key])
            cached.setdefault(
                key, replace(answers[-1], cached=True)
            )  # a repeated prompt is answered from here
        return answers

    def _ask(
        self, pending: Sequence[tuple[Prompt, list[bytes]]], decoding: Decoding, cached: Container[bytes]
    ) -> Iterator[tuple[bytes, Answer]]:
        """Yields answers by key; each is stored before it is yielded."""
        prompts = [prompt for prompt, _ in pending]
        keys = [key for _, row in pending for key in row]
        identities = [(prompt.sha256, draw) for prompt in prompts for draw in range(decoding.draws)]
        skip = frozenset(i for i, key in enumerate(keys) if key in cached)
        for batch in self._batches(prompts, decoding, skip):
            pairs = [
                (keys[i], replace(answer, prompt_sha256=identities[i][0], draw=identities[i][1]))
                for i, answer in batch
            ]
            self.store.put(pairs)
            yield from pairs

    def _batches(
        self, prompts: Sequence[Prompt], decoding: Decoding, skip: frozenset[int]
    ) -> Iterator[Sequence[tuple[int, Answer]]]:
        """Yields each answer once with its index, in the batches in which they arrive. skip: indices that a
        StreamingCompleter leaves out.
        """
        count = len(prompts) * decoding.draws
        if not isinstance(self.completer, StreamingCompleter):
            answers = self.completer.complete(prompts, decoding)
            if len(answers) != count:
                raise self._wrong_count(prompts, decoding, f"{len(answers)} answers")
            yield list(enumerate(answers))
            return
        missing = set(range(count)) - skip
        for index, answer in self.completer.stream(prompts, decoding, skip):
            if index not in missing:
                raise self._wrong_count(prompts, decoding, f"answer {index} twice or without a request")
            missing.remove(index)
            yield [(index, answer)]
        if missing:
            raise self._wrong_count(prompts, decoding, f"no answer {min(missing)}")

    def _wrong_count(self, prompts: Sequence[Prompt], decoding: Decoding, received: str) -> DataError:
        return DataError(
            f"{type(self.completer).__name__} was given {len(prompts)} prompts of {decoding.draws} draws, but gave "
            f"{received}. A completer gives one answer for each draw of each prompt."
        )


def answer_key(identity: str, prompt: Prompt, decoding: Decoding, draw: int) -> bytes:
    """The SHA-256 of everything that one answer depends on. The number of draws is not part of it."""
    settings = {name: value for name, value in asdict(decoding).items() if name != "draws"}
    parts = (identity, prompt.sha256, repr(prompt.grammar), sorted(settings.items()), draw)
    return hashlib.sha256(repr(parts).encode()).digest()


def default_path() -> Path:
    """The path of the current user's answer cache."""
    return cache_dir() / "answers" / f"answers-{answer_database.VERSION}.sqlite3"


def is_enabled() -> bool:
    """Whether answers are cached: always, unless `ST2LLM_ANSWERS=off`. Raises ConfigError for another value."""
    value = os.environ.get("ST2LLM_ANSWERS", "on").lower()
    if value not in ("on", "off", ""):
        raise ConfigError(f"ST2LLM_ANSWERS is 'on' or 'off', but it is {value!r}. Correct or unset it.")
    return value != "off"


@contextmanager
def with_answer_cache(completer: Completer, identity: str) -> Iterator[Completer]:
    """Wraps `completer` with the current user's answer cache; yields it unchanged where `ST2LLM_ANSWERS=off`."""
    if not is_enabled():
        yield completer
        return
    with AnswerStore(default_path()) as store:
        yield CachedCompleter(completer, store, identity)


def _encode(answer: Answer) -> bytes:
    content = {name: value for name, value in asdict(answer).items() if name != "cached"}
    return json.dumps(content).encode()


def _decode(body: bytes) -> Answer:
    """A stored answer; fields written by a later version are ignored."""
    names = {field.name for field in fields(Answer)}
    content = {name: value for name, value in json.loads(body).items() if name in names}
    return Answer(**content, cached=True)
