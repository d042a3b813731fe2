"""A language model behind an OpenAI-compatible endpoint (vLLM, TGI, llama.cpp, OpenAI). Imports no torch.

Besides `complete`, a completer MAY offer

    stream(prompts, decoding, skip=()) -> Iterator[tuple[int, Answer]]     # see `StreamingCompleter`

which yields each answer with its index in the flat list of `complete` (`prompt * draws + draw`), in the order
of arrival, each index once and none of `skip`. Where some answers cannot be obtained, it yields all others
before it raises. A caller that stores each answer as it arrives loses none of them to a failure or a kill, and
can skip stored draws in the next call, so that no received answer is requested twice. `identity` names the
endpoint and its model, without any key, for the keys of such a store.

Every draw is a request of its own with a seed of its own, never `n` choices of one request: servers that return
fewer than n choices lose nothing, and an answer does not depend on the number of other requests. A connection
is used once: after a server that sends a reply twice, the second copy could be taken for the answer to the next
request.

The key is read from the environment when a request is signed, and is stored nowhere.
"""

from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import httpx

from st2llm.errors import ConfigError
from st2llm.llm.endpoint import api_key, protocol
from st2llm.llm.endpoint.background import run_in_background
from st2llm.llm.endpoint.retry import DEFAULT_RETRY, RetryPolicy
from st2llm.llm.endpoint.stream_run import Servers, StreamRun
from st2llm.types import GREEDY, Answer, Decoding, Prompt, PromptLike, as_prompts

PREFIX = "openai:"


@runtime_checkable
class StreamingCompleter(Protocol):
    """A Completer that can yield its answers as they arrive, each once, with its index in the flat list.

    skip: indices that are not requested.
    """

    def stream(
        self, prompts: Sequence[Prompt], decoding: Decoding = ..., skip: Collection[int] = ...
    ) -> Iterator[tuple[int, Answer]]: ...


@dataclass(frozen=True)
class RemoteModel:
    """A Completer for one or several OpenAI-compatible endpoints. concurrency: requests in flight at once at each.

    base_url: everything before `/chat/completions`, for instance `http://127.0.0.1:8000/v1`; of several servers of the
    same model, all of them with commas between. Each takes the next prompt when it has answered one, so a faster
    server answers more; what a failing server leaves is asked of the others (see `StreamRun`).

    Grammars are not enforced: an endpoint receives the JSON schema of `types.Json` and nothing of the other
    grammars, and its text is taken as it is (free text without an answer line ends at its first line break).
    `logprob` is None. Token counts are those of the server's `usage`, and 0 where it gives none. seconds: from
    request to reply of the successful attempt, divided by the number of requests in flight. A refusal is an
    answer whose finish is 'refused'.

    Raises ConfigError for an invalid base url, or one that contains a password or a query.
    """

    base_url: str
    model: str
    concurrency: int = 8
    retry: RetryPolicy = DEFAULT_RETRY

    def __post_init__(self) -> None:
        urls = dict.fromkeys(_checked_url(url.strip()) for url in self.base_url.split(","))
        object.__setattr__(self, "base_url", ",".join(urls))
        if not self.model or self.concurrency < 1:
            raise ConfigError(
                f"An endpoint needs the name of its model and a concurrency of at least 1, but has "
                f"{self.model!r} and {self.concurrency}."
            )

    @property
    def base_urls(self) -> tuple[str, ...]:
        """The address of each server."""
        return tuple(self.base_url.split(","))

    @property
    def name(self) -> str:
        return f"{PREFIX}{self.base_url}#{self.model}"

    @property
    def identity(self) -> str:
        """The endpoint and its model, without any key: the same as `name`."""
        return self.name

    def complete(
        self, prompts: PromptLike | Sequence[PromptLike], decoding: Decoding = GREEDY
    ) -> list[Answer]:
        """An answer for each draw of each prompt or plain string; raises as `stream` does."""
        given = as_prompts(prompts)
        answers = dict(self.stream(given, decoding))
        return [answers[i] for i in range(len(given) * decoding.draws)]

    def stream(
        self,
        prompts: PromptLike | Sequence[PromptLike],
        decoding: Decoding = GREEDY,
        skip: Collection[int] = (),
    ) -> Generator[tuple[int, Answer], None, None]:
        """Yields answers in the order of arrival, each once, with its index in the list that `complete` returns.

        Closing the iterator cancels requests in flight. After all answers that could be obtained it raises
        ArtefactError for answers that failed in all attempts, ConfigError for permanent errors (a wrong key, an
        unknown model, a prompt that is too long). AlignmentError and ConfigError for invalid prompts are raised
        before the first request.
        """
        api_key.check_key()
        requests = [protocol.build_request(prompt, decoding, self.model) for prompt in as_prompts(prompts)]
        skipped = frozenset(skip)
        indices = [i for i in range(len(requests) * decoding.draws) if i not in skipped]
        servers = Servers(self.base_urls, self.model, self.concurrency, self.retry)
        run = StreamRun(servers, requests, decoding, indices)
        with run_in_background(run.run_workers, lambda: run.arrived.put(None)) as check_outcome:
            while (arrival := run.arrived.get()) is not None:
                yield arrival
            check_outcome()
        run.raise_failures()


def parse_endpoint(name: str) -> RemoteModel:
    """The endpoint that `openai:<base_url>#<model>` names, or the endpoints, with commas between their base urls.

    Raises ConfigError for a name of another form.
    """
    base_url, _, model = name.removeprefix(PREFIX).partition("#")
    if not name.startswith(PREFIX) or not base_url or not model:
        shown = name if "@" not in name and "?" not in name else PREFIX + "..."
        raise ConfigError(
            f"An endpoint's name should read {PREFIX}<base_url>#<model>, for instance "
            f"{PREFIX}http://127.0.0.1:8000/v1#my-model, but it is {shown!r}."
        )
    return RemoteModel(base_url, model)


def _checked_url(base_url: str) -> str:
    """The base url without trailing slash. A url that may contain a secret is refused without printing it."""
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.userinfo or url.query or "@" in base_url or "?" in base_url:
        raise ConfigError(
            f"An endpoint's base url must hold no user, password or query, since it is written to files. Put the "
            f"key into ${api_key.KEY_VARIABLES[0]}."
        )
    if url.scheme not in ("http", "https") or not url.host or url.fragment:
        raise ConfigError(
            f"An endpoint's base url should read like http://127.0.0.1:8000/v1, but it is {base_url!r}."
        )
    return base_url.rstrip("/")
