"""One call of `RemoteModel.stream`: workers at each server take requests, and what one server fails, another gets."""

import asyncio
import logging
import queue
import time
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any

import httpx

from st2llm.errors import ArtefactError, ConfigError
from st2llm.llm.endpoint import api_key, protocol
from st2llm.llm.endpoint.retry import RetryPolicy, retry_after
from st2llm.types import Answer, Decoding

MAX_REPLY_BYTES = 16 * 2**20
"""Size beyond which a reply is rejected as invalid."""
_RETRY_STATUSES = (408, 409, 429)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Servers:
    """Servers of one model. concurrency: requests in flight at each."""

    urls: tuple[str, ...]
    model: str
    concurrency: int
    retry: RetryPolicy

    @property
    def identity(self) -> str:
        return f"openai:{','.join(self.urls)}#{self.model}"


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


class _Server:
    """One server during a call. failures_in_a_row: of attempts where there are other servers, else of answers."""

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self.url, self.client = url, client
        self.failures_in_a_row = 0
        self.stopped = False
        self.not_before = 0.0
        self.limit_name = "max_tokens"


class StreamRun:
    """Workers take the next request, complete it, and put its answer into `arrived`.

    A request whose attempt failed goes back to the others at once while there are other servers, and the server that
    failed it pauses (`RetryPolicy.wait_before`, and what it asks for); after `RetryPolicy.attempts` failures in a row,
    or one that affects all requests, it gets no more. The last server is asked again and again, as a single one is. A
    request that has an answer is never sent again.
    """

    def __init__(
        self,
        servers: Servers,
        requests: Sequence[protocol.EndpointRequest],
        decoding: Decoding,
        indices: Sequence[int],
    ) -> None:
        self.servers, self.retry = servers, servers.retry
        self.requests, self.decoding = requests, decoding
        self.total = len(indices)
        self.workers = min(servers.concurrency * len(servers.urls), self.total)
        self.waiting = deque(indices)
        self.attempts: dict[int, int] = {}
        self.in_flight = 0
        self.running: list[_Server] = []
        self.arrived: queue.SimpleQueue[tuple[int, Answer] | None] = queue.SimpleQueue()
        self.failures: dict[int, _FailedRequestError] = {}
        self.answered = 0

    async def run_workers(self) -> None:
        if not self.total:
            return
        self.changed = asyncio.Condition()
        timeout = httpx.Timeout(self.retry.read_s, connect=self.retry.connect_s)
        limits = httpx.Limits(max_connections=self.servers.concurrency, max_keepalive_connections=0)
        async with AsyncExitStack() as stack:
            for url in self.servers.urls:
                client = httpx.AsyncClient(
                    base_url=url, auth=api_key.BearerAuth(), timeout=timeout, limits=limits
                )
                self.running.append(_Server(url, await stack.enter_async_context(client)))
            async with asyncio.TaskGroup() as group:
                for server in list(self.running):
                    for _ in range(min(self.servers.concurrency, self.total)):
                        group.create_task(self._work(server))

    async def _work(self, server: _Server) -> None:
        while (index := await self._next(server)) is not None:
            try:
                answer = await self._request_with_retries(server, index)
            except _RetryableError as error:
                self._give_to_others(server, index, error)
            except _FailedRequestError as error:
                self._fail(server, index, error)
            else:
                self.answered += 1
                server.failures_in_a_row = 0
                self.arrived.put((index, answer))
            await self._settle()

    async def _next(self, server: _Server) -> int | None:
        """The next request for a server; None where there is none, and none in flight that could come back.

        A server that pauses takes no request that another one could be asked meanwhile.
        """
        async with self.changed:
            while not server.stopped and (self.waiting or self.in_flight):
                pause_s = server.not_before - time.monotonic() if self._has_others(server) else 0.0
                if self.waiting and pause_s <= 0:
                    self.in_flight += 1
                    return self.waiting.popleft()
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause_s if pause_s > 0 else None):
                        await self.changed.wait()
        return None

    async def _settle(self) -> None:
        async with self.changed:
            self.in_flight -= 1
            self.changed.notify_all()

    async def _request_with_retries(self, server: _Server, index: int) -> Answer:
        """Raises _RetryableError after the first failure where another server can be asked."""
        for attempt in range(1, self.retry.attempts + 1):
            if not self._has_others(server):
                await asyncio.sleep(server.not_before - time.monotonic())
            try:
                return await self._request(server, index)
            except _RetryableError as error:
                last_error = error
            _log.info(
                "%s: attempt %d of %d: %s", self._describe(index), attempt, self.retry.attempts, last_error
            )
            if self._has_others(server):
                raise last_error
            if attempt < self.retry.attempts:
                await self._wait(server, attempt + 1, last_error)
        raise _FailedRequestError(
            f"{self.retry.attempts} attempts were made, the last one came to: {last_error}"
        )

    async def _wait(self, server: _Server, attempt: int, reason: _RetryableError) -> None:
        """Waits before an attempt; a wait that the server asks for applies to all workers."""
        server_wait_s = reason.wait_s or 0.0
        if server_wait_s > self.retry.longest_wait_s:
            raise _FailedRequestError(f"{reason} (it asks for a wait of {server_wait_s:.0f} s)")
        server.not_before = max(server.not_before, time.monotonic() + server_wait_s)
        await asyncio.sleep(self.retry.wait_before(attempt))

    def _give_to_others(self, server: _Server, index: int, error: _RetryableError) -> None:
        """Puts a request back for other servers, and lets this one pause, or stops it after too many failures."""
        self.attempts[index] = self.attempts.get(index, 0) + 1
        server.failures_in_a_row += 1
        pause_s = max(error.wait_s or 0.0, self.retry.wait_before(server.failures_in_a_row + 1))
        server.not_before = max(server.not_before, time.monotonic() + pause_s)
        if self.attempts[index] >= self.retry.attempts * len(self.servers.urls):
            self.failures[index] = _FailedRequestError(
                f"{self.attempts[index]} attempts were made, the last one came to: {error}"
            )
        else:
            self.waiting.appendleft(index)
        if self._has_others(server) and (
            server.failures_in_a_row >= self.retry.attempts or pause_s > self.retry.longest_wait_s
        ):
            self._stop(server, str(error))

    def _fail(self, server: _Server, index: int, error: _FailedRequestError) -> None:
        """Notes a request without an answer; one that failed because of its server goes to the others."""
        if error.affects_all and self._has_others(server):
            self.waiting.appendleft(index)
            self._stop(server, str(error))
            return
        self.failures[index] = error
        server.failures_in_a_row += 1
        if error.affects_all or server.failures_in_a_row >= self.retry.give_up:
            self._stop(server, str(error))

    def _has_others(self, server: _Server) -> bool:
        return any(other is not server for other in self.running)

    def _stop(self, server: _Server, reason: str) -> None:
        """Gives no further request to a server."""
        if server.stopped:
            return
        server.stopped = True
        self.running.remove(server)
        if self.running:
            left = ", ".join(each.url for each in self.running)
            _log.warning("%s is not asked any more (%s); its prompts go to %s", server.url, reason, left)

    async def _request(self, server: _Server, index: int) -> Answer:
        """Sends one request. Raises _RetryableError or _FailedRequestError where it brings no answer."""
        request, draw = self.requests[index // self.decoding.draws], index % self.decoding.draws
        body = {**request.body, "seed": protocol.draw_seed(self.decoding.seed, request.sha256, draw)}
        body[server.limit_name] = body.pop("max_tokens")
        started = time.perf_counter()
        response, content = await self._post(server.client, request.path, body)
        seconds = (time.perf_counter() - started) / self.workers
        if not response.is_success:
            if _switch_limit_name(server, response, content, body):
                return await self._request(server, index)
            reply = self._reply_or_raise(server, response, content)
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

    def _reply_or_raise(
        self, server: _Server, response: httpx.Response, content: bytes
    ) -> protocol.EndpointReply:
        """A refusal with status 400 is a reply; any other error status is raised."""
        status = response.status_code
        code, message = protocol.parse_error(content)
        description = f"HTTP {status}: {message}"
        if status == 400 and code == "content_filter":
            return protocol.EndpointReply("", "refused", 0, 0)
        if (status in _RETRY_STATUSES and code != "insufficient_quota") or status >= 500:
            raise _RetryableError(description, retry_after(response))
        if status in (401, 403):
            raise _FailedRequestError(
                f"{description} {api_key.key_advice()}", permanent=True, affects_all=True
            )
        if status == 404:
            advice = f"Check the model's name {self.servers.model!r} and the base url {server.url}."
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
            f"{self.servers.identity} gave no answer to {self._describe(index)}: {first} In all {self.answered} of "
            f"{self.total} answers arrived; {len(self.failures)} requests failed, {unasked} were not sent. Fix the "
            f"cause and run again: where answers are stored, only the {missing} missing ones will be requested."
        )

    def _describe(self, index: int) -> str:
        prompt, draw = divmod(index, self.decoding.draws)
        sha256 = self.requests[prompt].sha256[:12]
        return f"prompt {prompt + 1} of {len(self.requests)} (sha256 {sha256}, draw {draw})"


def _switch_limit_name(
    server: _Server, response: httpx.Response, content: bytes, body: dict[str, Any]
) -> bool:
    """Whether to repeat the request with the name that newer OpenAI models use for `max_tokens`."""
    if response.status_code != 400 or "max_tokens" not in body:
        return False
    if b"max_completion_tokens" in content:
        server.limit_name = "max_completion_tokens"
    return server.limit_name not in body
