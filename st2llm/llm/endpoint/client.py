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

import asyncio
import logging
import queue
import random
import time
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol, runtime_checkable

import httpx

from st2llm.errors import ArtefactError, ConfigError
from st2llm.llm.endpoint import api_key, protocol
from st2llm.llm.endpoint.background import run_in_background
from st2llm.types import GREEDY, Answer, Decoding, Prompt, PromptLike, as_prompts

PREFIX = "openai:"
MAX_REPLY_BYTES = 16 * 2**20
"""Size beyond which a reply is rejected as invalid."""
_RETRY_STATUSES = (408, 409, 429)
_log = logging.getLogger(__name__)


@runtime_checkable
class StreamingCompleter(Protocol):
    """A Completer that can yield its answers as they arrive, each once, with its index in the flat list.

    skip: indices that are not requested.
    """

    def stream(
        self, prompts: Sequence[Prompt], decoding: Decoding = ..., skip: Collection[int] = ...
    ) -> Iterator[tuple[int, Answer]]: ...


@dataclass(frozen=True)
class RetryPolicy:
    """Timeouts in seconds and number of attempts for requests to an endpoint.

    read_s: longest wait between two bytes. total_s: for one whole reply. attempts: requests for one answer.
    wait_s: wait before the second attempt; doubled before each further one up to longest_wait_s, less up to a
    half at random. If a server asks for a longer wait than longest_wait_s, the request fails. give_up: number
    of consecutive failed answers after which no new ones are requested.

    Raises ConfigError for values that are not positive.
    """

    connect_s: float = 10.0
    read_s: float = 120.0
    total_s: float = 600.0
    attempts: int = 6
    wait_s: float = 1.0
    longest_wait_s: float = 60.0
    give_up: int = 16

    def __post_init__(self) -> None:
        smallest = min(self.connect_s, self.read_s, self.total_s, self.attempts, self.give_up)
        if smallest <= 0 or min(self.wait_s, self.longest_wait_s) < 0:
            raise ConfigError(f"RetryPolicy needs times, attempts and give_up above 0, but has {self}.")

    def wait_before(self, attempt: int) -> float:
        """The wait before this attempt in seconds; the first attempt with a wait is the second."""
        longest = min(self.longest_wait_s, self.wait_s * 2.0 ** min(attempt - 2, 60))
        return longest * random.uniform(0.5, 1.0)


@dataclass(frozen=True)
class RemoteModel:
    """A Completer for an OpenAI-compatible endpoint. concurrency: requests in flight at once.

    base_url: everything before `/chat/completions`, for instance `http://127.0.0.1:8000/v1`.

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
    retry: RetryPolicy = RetryPolicy()

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_url", _checked_url(self.base_url))
        if not self.model or self.concurrency < 1:
            raise ConfigError(
                f"An endpoint needs the name of its model and a concurrency of at least 1, but has "
                f"{self.model!r} and {self.concurrency}."
            )

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
        run = _StreamRun(self, requests, decoding, indices)
        with run_in_background(run.run_workers, lambda: run.arrived.put(None)) as check_outcome:
            while (arrival := run.arrived.get()) is not None:
                yield arrival
            check_outcome()
        run.raise_failures()


def parse_endpoint(name: str) -> RemoteModel:
    """The endpoint that `openai:<base_url>#<model>` names; raises ConfigError for a name of another form."""
    base_url, _, model = name.removeprefix(PREFIX).partition("#")
    if not name.startswith(PREFIX) or not base_url or not model:
        shown = name if "@" not in name and "?" not in name else PREFIX + "..."
        raise ConfigError(
            f"An endpoint's name should read {PREFIX}<base_url>#<model>, for instance "
            f"{PREFIX}http://127.0.0.1:8000/v1#my-model, but it is {shown!r}."
        )
    return RemoteModel(base_url, model)


class _RetryableError(Exception):
    """A failed attempt that may be repeated. wait_s: the wait that the server asked for."""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class _FailedRequestError(Exception):
    """A request that got no answer. permanent: caused by settings or input, so that a retry cannot help.
    affects_all: other requests would fail too.
    """

    def __init__(self, message: str, *, permanent: bool = False, affects_all: bool = False) -> None:
        super().__init__(message)
        self.permanent, self.affects_all = permanent, affects_all


class _StreamRun:
    """One call of `stream`: workers take the next request, complete it, and put its answer into `arrived`."""

    def __init__(
        self,
        model: RemoteModel,
        requests: Sequence[protocol.EndpointRequest],
        decoding: Decoding,
        indices: Sequence[int],
    ) -> None:
        self.model, self.retry = model, model.retry
        self.requests, self.decoding = requests, decoding
        self.total = len(indices)
        self.workers = min(model.concurrency, self.total)
        self.remaining = iter(indices)
        self.arrived: queue.SimpleQueue[tuple[int, Answer] | None] = queue.SimpleQueue()
        self.failures: dict[int, _FailedRequestError] = {}
        self.answered = self.failures_in_a_row = 0
        self.stopped = False
        self.not_before = 0.0
        self.limit_name = "max_tokens"

    async def run_workers(self) -> None:
        if not self.total:
            return
        timeout = httpx.Timeout(self.retry.read_s, connect=self.retry.connect_s)
        limits = httpx.Limits(max_connections=self.workers, max_keepalive_connections=0)
        async with (
            httpx.AsyncClient(
                base_url=self.model.base_url, auth=api_key.BearerAuth(), timeout=timeout, limits=limits
            ) as client,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(self.workers):
                group.create_task(self._work(client))

    async def _work(self, client: httpx.AsyncClient) -> None:
        for index in self.remaining:
            if self.stopped:
                return
            try:
                answer = await self._request_with_retries(client, index)
            except _FailedRequestError as error:
                self.failures[index] = error
                self.failures_in_a_row += 1
                self.stopped |= error.affects_all or self.failures_in_a_row >= self.retry.give_up
            else:
                self.answered += 1
                self.failures_in_a_row = 0
                self.arrived.put((index, answer))

    async def _request_with_retries(self, client: httpx.AsyncClient, index: int) -> Answer:
        for attempt in range(1, self.retry.attempts + 1):
            await asyncio.sleep(self.not_before - time.monotonic())
            try:
                return await self._request(client, index)
            except _RetryableError as error:
                last_error = error
            _log.info(
                "%s: attempt %d of %d: %s", self._describe(index), attempt, self.retry.attempts, last_error
            )
            if attempt < self.retry.attempts:
                await self._wait(attempt + 1, last_error)
        raise _FailedRequestError(
            f"{self.retry.attempts} attempts were made, the last one came to: {last_error}"
        )

    async def _wait(self, attempt: int, reason: _RetryableError) -> None:
        """Waits before an attempt; a wait that the server asks for applies to all workers."""
        server_wait_s = reason.wait_s or 0.0
        if server_wait_s > self.retry.longest_wait_s:
            raise _FailedRequestError(f"{reason} (it asks for a wait of {server_wait_s:.0f} s)")
        self.not_before = max(self.not_before, time.monotonic() + server_wait_s)
        await asyncio.sleep(self.retry.wait_before(attempt))

    async def _request(self, client: httpx.AsyncClient, index: int) -> Answer:
        """Sends one request. Raises _RetryableError or _FailedRequestError where it brings no answer."""
        request, draw = self.requests[index // self.decoding.draws], index % self.decoding.draws
        body = {**request.body, "seed": protocol.draw_seed(self.decoding.seed, request.sha256, draw)}
        body[self.limit_name] = body.pop("max_tokens")
        started = time.perf_counter()
        response, content = await self._post(client, request.path, body)
        seconds = (time.perf_counter() - started) / self.workers
        if not response.is_success:
            if self._switch_limit_name(response, content, body):
                return await self._request(client, index)
            reply = self._reply_or_raise(response, content)
        else:
            try:
                reply = protocol.parse_reply(content, request)
            except protocol.InvalidReplyError as error:
                raise _RetryableError(str(error)) from None
        return Answer(
            text=reply.text,
            tokens_in=reply.tokens_in,
            tokens_out=reply.tokens_out,
            seconds=seconds,
            prompt_sha256=request.sha256,
            draw=draw,
            finish=reply.finish,
        )

    async def _post(
        self, client: httpx.AsyncClient, path: str, body: dict[str, Any]
    ) -> tuple[httpx.Response, bytes]:
        content = bytearray()
        try:
            async with (
                asyncio.timeout(self.retry.total_s),
                client.stream("POST", path, json=body) as response,
            ):
                async for part in response.aiter_bytes():
                    content += part
                    if len(content) > MAX_REPLY_BYTES:
                        raise _RetryableError(f"a reply of more than {MAX_REPLY_BYTES} bytes")
        except TimeoutError:
            raise _RetryableError(f"no whole reply within {self.retry.total_s:g} s") from None
        except httpx.ReadTimeout:
            raise _RetryableError(f"a stall: not a byte for {self.retry.read_s:g} s") from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise _RetryableError(f"{type(error).__name__} {error}".strip()) from None
        return response, api_key.redact(bytes(content))

    def _switch_limit_name(self, response: httpx.Response, content: bytes, body: dict[str, Any]) -> bool:
        """Whether to repeat the request with the name that newer OpenAI models use for `max_tokens`."""
        if response.status_code != 400 or "max_tokens" not in body:
            return False
        if b"max_completion_tokens" in content:
            self.limit_name = "max_completion_tokens"
        return self.limit_name not in body

    def _reply_or_raise(self, response: httpx.Response, content: bytes) -> protocol.EndpointReply:
        """A refusal with status 400 is a reply; any other error status is raised."""
        status = response.status_code
        code, message = protocol.parse_error(content)
        description = f"HTTP {status}: {message}"
        if status == 400 and code == "content_filter":
            return protocol.EndpointReply("", "refused", 0, 0)
        if (status in _RETRY_STATUSES and code != "insufficient_quota") or status >= 500:
            raise _RetryableError(description, _retry_after(response))
        if status in (401, 403):
            raise _FailedRequestError(
                f"{description} {api_key.key_advice()}", permanent=True, affects_all=True
            )
        if status == 404:
            advice = f"Check the model's name {self.model.model!r} and the base url {self.model.base_url}."
            description = f"{description} {advice}"
            raise _FailedRequestError(description, permanent=True, affects_all=True)
        raise _FailedRequestError(description, permanent=True, affects_all=status == 429)

    def raise_failures(self) -> None:
        if not self.failures:
            return
        index, first = next(iter(self.failures.items()))
        missing = self.total - self.answered
        unasked = missing - len(self.failures)
        raise (ConfigError if first.permanent else ArtefactError)(
            f"{self.model.identity} gave no answer to {self._describe(index)}: {first} In all {self.answered} of "
            f"{self.total} answers arrived; {len(self.failures)} requests failed, {unasked} were not sent. Fix the "
            f"cause and run again: where answers are stored, only the {missing} missing ones will be requested."
        )

    def _describe(self, index: int) -> str:
        prompt, draw = divmod(index, self.decoding.draws)
        sha256 = self.requests[prompt].sha256[:12]
        return f"prompt {prompt + 1} of {len(self.requests)} (sha256 {sha256}, draw {draw})"


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


def _retry_after(response: httpx.Response) -> float | None:
    """The wait in seconds that the server asks for, given in seconds or as a date."""
    header = response.headers.get("retry-after", "").strip()
    if header.isascii() and header.replace(".", "", 1).isdigit():
        return float(header)
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())
