"""Answers of language models kept in one file: what was asked once is not asked again, whatever stops a run."""

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
from st2llm.llm.endpoint.client import Streamer
from st2llm.types import GREEDY, Answer, Completer, Decoding, Prompt

_MOST_KEYS = 500
_HINT = (
    "Free space, set ST2LLM_CACHE to a folder that can be written, or keep no answers: ST2LLM_ANSWERS=off."
)


class AnswerStore:
    """One SQLite file of answers by key; several processes may read and write it at the same time.

    An answer whose `put` has returned survives a kill of the process at any moment. (A loss of power may cost the
    last ones, but never the file.) The first answer of a key stays. A file that is damaged is set aside under
    another name with a warning, and what can still be read in it is taken over.

    Raises StorageError where the file cannot be opened or written, or belongs to another program.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{path}.lock"):
                self._file = answer_database.open_file(path)

    def __enter__(self) -> "AnswerStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def __len__(self) -> int:
        with self._explained():
            return int(self._file.execute("SELECT count(*) FROM answer").fetchone()[0])

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Answer]:
        """The answers that are there, by key, each with `cached` set and the seconds it took when it was asked."""
        found: dict[bytes, Answer] = {}
        with self._explained():
            for start in range(0, len(keys), _MOST_KEYS):
                part = keys[start : start + _MOST_KEYS]
                marks = ",".join("?" * len(part))
                rows = self._file.execute(
                    f"SELECT key, body, digest FROM answer WHERE key IN ({marks})", part
                )
                for row in rows.fetchall():
                    if answer_database.is_sound(row):
                        found[row[0]] = _read(row[1])
                    else:
                        self._drop(row[0])
        return found

    def put(self, answers: Iterable[tuple[bytes, Answer]]) -> None:
        """Keeps answers by key, all of them or (where it raises or is killed) none."""
        bodies = [(key, _write(answer)) for key, answer in answers]
        with self._explained(), answer_database.transaction(self._file):
            answer_database.insert(
                self._file, [(key, body, answer_database.digest(key, body)) for key, body in bodies]
            )

    def _drop(self, key: bytes) -> None:
        warnings.warn(
            f"An answer in {self.path} is not as it was written, so it is asked again. Check the disk.",
            stacklevel=3,
        )
        self._file.execute("DELETE FROM answer WHERE key = ?", (key,))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """What SQLite and the disk say, as a StorageError that names the file and says what to do."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            hint = (
                "Run again: the damaged file is then set aside."
                if answer_database.is_damage(error)
                else _HINT
            )
            raise StorageError(f"Answers could not be kept in {self.path}: {error}. {hint}") from error
        except OSError as error:
            raise StorageError(f"Answers could not be kept in {self.path}: {error}. {_HINT}") from error


@dataclass(frozen=True)
class Remembered:
    """A completer that asks `completer` only for what `store` does not hold yet, and keeps each answer at once.

    identity: names all that an answer depends on beside prompt and decoding: weights, depth, dtype, quantisation,
    tokenizer, engine. slice: prompts asked at a time; what they said is kept before the next are asked. Answers of
    a Streamer are kept one by one, as they come, and of it no answer is asked for that is there. Any other completer
    counts draws from 0, so it is asked for all draws of a prompt that lacks one; those that are there stay. A refusal
    is an answer and is kept as well.
    """

    completer: Completer
    store: AnswerStore
    identity: str
    slice: int = 64

    def complete(self, prompts: Sequence[Prompt], decoding: Decoding = GREEDY) -> list[Answer]:
        keys = [
            [answer_key(self.identity, prompt, decoding, draw) for draw in range(decoding.draws)]
            for prompt in prompts
        ]
        known = self.store.get([key for row in keys for key in row])
        missing = {
            row[0]: (prompt, row)
            for prompt, row in zip(prompts, keys, strict=True)
            if any(key not in known for key in row)
        }
        wanted = list(missing.values())
        size = max(1, len(wanted)) if isinstance(self.completer, Streamer) else self.slice
        fresh: dict[bytes, Answer] = {}
        for start in range(0, len(wanted), size):
            fresh.update(self._ask(wanted[start : start + size], decoding, known))
        found = []
        for key in (key for row in keys for key in row):
            found.append(known[key] if key in known else fresh[key])
            known.setdefault(key, replace(found[-1], cached=True))  # the same question once more is not asked
        return found

    def _ask(
        self, wanted: Sequence[tuple[Prompt, list[bytes]]], decoding: Decoding, known: Container[bytes]
    ) -> Iterator[tuple[bytes, Answer]]:
        """Answers by key, each kept before it is handed on."""
        prompts = [prompt for prompt, _ in wanted]
        keys = [key for _, row in wanted for key in row]
        named = [(prompt.sha256, draw) for prompt in prompts for draw in range(decoding.draws)]
        skip = frozenset(i for i, key in enumerate(keys) if key in known)
        for batch in self._batches(prompts, decoding, skip):
            pairs = [
                (keys[i], replace(answer, prompt_sha256=named[i][0], draw=named[i][1])) for i, answer in batch
            ]
            self.store.put(pairs)
            yield from pairs

    def _batches(
        self, prompts: Sequence[Prompt], decoding: Decoding, skip: frozenset[int]
    ) -> Iterator[Sequence[tuple[int, Answer]]]:
        """Each answer once with its index, as many at once as come at once. skip: those that a Streamer leaves out."""
        count = len(prompts) * decoding.draws
        if not isinstance(self.completer, Streamer):
            answers = self.completer.complete(prompts, decoding)
            if len(answers) != count:
                raise self._unfit(prompts, decoding, f"{len(answers)} answers")
            yield list(enumerate(answers))
            return
        missing = set(range(count)) - skip
        for index, answer in self.completer.stream(prompts, decoding, skip):
            if index not in missing:
                raise self._unfit(
                    prompts, decoding, f"an answer {index} that it gave before or was not asked"
                )
            missing.remove(index)
            yield [(index, answer)]
        if missing:
            raise self._unfit(prompts, decoding, f"no answer {min(missing)}")

    def _unfit(self, prompts: Sequence[Prompt], decoding: Decoding, came: str) -> DataError:
        return DataError(
            f"{type(self.completer).__name__} was given {len(prompts)} prompts of {decoding.draws} draws, but gave "
            f"{came}. A completer gives one answer for each draw of each prompt."
        )


def answer_key(identity: str, prompt: Prompt, decoding: Decoding, draw: int) -> bytes:
    """The SHA-256 of all that one answer depends on; the number of draws asked for beside it is not among it."""
    settings = {name: value for name, value in asdict(decoding).items() if name != "draws"}
    said = (identity, prompt.sha256, repr(prompt.grammar), sorted(settings.items()), draw)
    return hashlib.sha256(repr(said).encode()).digest()


def default_path() -> Path:
    """The file of this user's answers, in the cache folder."""
    return cache_dir() / "answers" / f"answers-{answer_database.VERSION}.sqlite3"


def switched_on() -> bool:
    """Whether answers are kept: always, unless `ST2LLM_ANSWERS=off`. Raises ConfigError for another word."""
    word = os.environ.get("ST2LLM_ANSWERS", "on").lower()
    if word not in ("on", "off", ""):
        raise ConfigError(f"ST2LLM_ANSWERS is 'on' or 'off', but it is {word!r}. Correct or unset it.")
    return word != "off"


@contextmanager
def remembering(completer: Completer, identity: str) -> Iterator[Completer]:
    """`completer` with the memory of this user's answers, or as it is where `ST2LLM_ANSWERS=off`."""
    if not switched_on():
        yield completer
        return
    with AnswerStore(default_path()) as store:
        yield Remembered(completer, store, identity)


def _write(answer: Answer) -> bytes:
    content = {name: value for name, value in asdict(answer).items() if name != "cached"}
    return json.dumps(content).encode()


def _read(body: bytes) -> Answer:
    """An answer as it was kept; what a later version wrote beside it is left aside."""
    known = {field.name for field in fields(Answer)}
    content = {name: value for name, value in json.loads(body).items() if name in known}
    return Answer(**content, cached=True)
