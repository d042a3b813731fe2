"""An OpenAI-compatible server around a tiny language model that misbehaves by a seeded schedule.

python tests/llm/fake_endpoint.py MODEL_FOLDER KEY      prints its port, then serves until it is killed

POST /schedule sets a `Schedule` and forgets what was counted; GET /counts gives what happened since then.
"""

import hashlib
import json
import random
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from st2llm.llm import load_llm
from st2llm.types import Answer, Numbers, Prompt, TemplateId

TROUBLES = [
    "429",
    "429-after",
    "429-date",
    "500",
    "503",
    "reset",
    "stall",
    "drip",
    "truncated",
    "cut-body",
    "html",
    "empty-choices",
    "no-message",
    "aborted",
    "echo",
]
"""What can come instead of an answer, and passes."""
DOUBLES = ["sent-twice", "choice-twice", "joined"]
"""What comes twice: the whole reply (the client should see one), its choice, or two replies in one body (garbage)."""


@dataclass
class Schedule:
    """share: of the requests that go wrong, at most `most` for one question in a row.

    refused, filtered, lost, too_long: words of prompts that meet this fate. slow_s: before each answer. together:
    none is answered before so many were in flight at once. usage: whether tokens are told. plain: takes `max_tokens`
    alone, and else `max_completion_tokens` alone.
    """

    seed: int = 0
    share: float = 0.0
    kinds: list[str] = field(default_factory=list)
    most: int = 3
    refused: str = "\0"
    filtered: str = "\0"
    lost: str = "\0"
    too_long: str = "\0"
    slow_s: float = 0.0
    together: int = 1
    usage: bool = True
    plain: bool = True


class Run:
    """What the server does and has done since its schedule was set."""

    def __init__(self, schedule: Schedule) -> None:
        self.lock = threading.Lock()
        self.schedule = schedule
        self.asked: Counter[str] = Counter()
        self.delivered: Counter[str] = Counter()
        self.troubles: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.flying = self.most_flying = 0

    def trouble(self, question: str) -> str | None:
        """What goes wrong with this request: a matter of the seed, the question and how often it was asked."""
        with self.lock:
            self.asked[question] += 1
            attempt, plan = self.asked[question], self.schedule
        chance = random.Random(f"{plan.seed}:{question}:{attempt}")
        if attempt > plan.most or chance.random() >= plan.share:
            return None
        kind = chance.choice(plan.kinds)
        with self.lock:
            self.troubles[kind] += 1
        return kind

    def wait_for_company(self, together: int) -> None:
        late = time.monotonic() + 20
        while self.most_flying < together and time.monotonic() < late:
            time.sleep(0.01)

    def counts(self) -> dict[str, Any]:
        with self.lock:
            return {
                "delivered": dict(self.delivered),
                "asked": dict(self.asked),
                "troubles": dict(self.troubles),
                "bodies": self.bodies,
                "times": self.times,
                "most_flying": self.most_flying,
            }


class Words:
    """What the tiny model says; each question is put to it once."""

    def __init__(self, folder: str) -> None:
        self.llm = load_llm(folder, dtype="fp32")
        self.lock = threading.Lock()
        self.said: dict[str, Answer] = {}

    def answer(self, text: str, messages: list[dict[str, str]]) -> Answer:
        key = json.dumps([text, messages])
        with self.lock:
            if key not in self.said:
                parts = () if messages else (text,)
                prompt = Prompt(tuple(messages), parts, "", TemplateId("fake", 1, ""), Numbers(4, 3))
                (self.said[key],) = self.llm.complete([prompt])
            return self.said[key]


class Handler(BaseHTTPRequestHandler):
    """Answers, or misbehaves."""

    protocol_version = "HTTP/1.1"  # connections stay open, as those of real servers do
    run = Run(Schedule())
    words: Words
    key: str

    def do_GET(self) -> None:
        self.send(200, Handler.run.counts())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/schedule":
            Handler.run = Run(Schedule(**body))
            self.send(200, {})
        elif self.headers.get("Authorization") != f"Bearer {self.key}":
            self.send(401, error("Incorrect API key provided", "invalid_api_key"))
        elif body["model"] != "tiny" or self.path not in ("/v1/completions", "/v1/chat/completions"):
            self.send(404, error(f"The model `{body['model']}` does not exist", "model_not_found"))
        else:
            self.run = Handler.run  # a request that a client gave up counts where it began
            with self.run.lock:
                self.run.bodies.append(body)
                self.run.times.append(time.monotonic())
                self.run.flying += 1
                self.run.most_flying = max(self.run.most_flying, self.run.flying)
            self.landed = False
            with suppress(ConnectionError):
                self.complete(body)
            self.land()

    def land(self) -> None:
        """The request is over as soon as the client can know it."""
        if not self.landed:
            self.landed = True
            with self.run.lock:
                self.run.flying -= 1

    def complete(self, body: dict[str, Any]) -> None:
        text = body.get("prompt") or body["messages"][-1]["content"]
        question = name_of(text, body["seed"])
        plan = self.run.schedule
        self.run.wait_for_company(plan.together)
        time.sleep(plan.slow_s)
        unknown = "max_tokens" if not plan.plain else "max_completion_tokens"
        if unknown in body:
            other = "max_completion_tokens" if not plan.plain else "max_tokens"
            message = f"Unsupported parameter: '{unknown}'. Use '{other}' instead."
            self.send(400, error(message, "unsupported_parameter"))
        elif plan.too_long in text:
            self.send(
                400, error("This model's maximum context length is 256 tokens.", "context_length_exceeded")
            )
        elif plan.filtered in text:
            self.deliver(question, 400, error("The prompt was filtered.", "content_filter"))
        elif plan.lost in text:
            self.send(503, error("Overloaded.", "overloaded"))
        elif (kind := self.run.trouble(question)) is None:
            self.deliver(question, 200, self.reply(body, text))
        else:
            self.misbehave(kind, question, body, text)

    def reply(self, body: dict[str, Any], text: str) -> dict[str, Any]:
        """The model's answer; its seed stands in for sampling where the temperature is above 0."""
        drawn = f"{body['seed'] % 1000}," if body["temperature"] else ""
        messages = [*body.get("messages", [])]
        if messages:
            messages[-1] = {**messages[-1], "content": messages[-1]["content"] + drawn}
        said = self.words.answer(text + drawn, messages)
        limit = body.get("max_tokens") or body.get("max_completion_tokens")
        words, finish = said.text, "stop"
        if said.tokens_out > limit:
            words, finish = words[:limit], "length"
        refused = self.run.schedule.refused in text
        if messages:
            content = {"content": None, "refusal": "I cannot."} if refused else {"content": words}
            choice = {"message": {"role": "assistant", **content}}
        else:
            choice = {"text": "" if refused else words}
            finish = "content_filter" if refused else finish
        usage = {"prompt_tokens": said.tokens_in, "completion_tokens": said.tokens_out}
        more = {"usage": usage} if self.run.schedule.usage else {}
        return {"id": "same", "choices": [{"index": 0, "finish_reason": finish, **choice}], **more}

    def misbehave(self, kind: str, question: str, body: dict[str, Any], text: str) -> None:
        reply = self.reply(body, text)
        whole = json.dumps(reply).encode()
        failures = {
            "429": (429, {}),
            "429-after": (429, {"Retry-After": "0.2"}),
            "429-date": (429, {"Retry-After": formatdate(time.time() + 1, usegmt=True)}),
            "500": (500, {}),
            "429-long": (429, {"Retry-After": "3600"}),
            "429-quota": (429, {}),
            "503": (503, {"Retry-After": "0"}),
        }
        if kind in failures:
            status, headers = failures[kind]
            code = "insufficient_quota" if kind == "429-quota" else "busy"
            self.send(status, error("Too busy.", code), headers)
        elif kind == "reset":
            linger = struct.pack("ii", 1, 0)  # closing then sends RST
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.drop()
        elif kind == "stall":
            self.connection.settimeout(30)
            self.connection.recv(1)  # nothing comes; it returns when the client hangs up
            self.drop()
        elif kind == "drip":
            self.head(200, 10_000)
            for _ in range(200):
                self.connection.sendall(b" ")
                time.sleep(0.1)
        elif kind == "cut-body":
            self.head(200, len(whole))
            self.connection.sendall(whole[: len(whole) // 2])
            self.drop()
        elif kind == "echo":
            self.send_bytes(500, f"<pre>Debug page. {self.headers.as_string()}</pre>".encode())
        elif kind in DOUBLES:
            self.double(kind, question, reply)
        else:
            empty = {**reply, "choices": []}
            nameless = {**reply, "choices": [{"index": 0, "finish_reason": "stop"}]}
            aborted = {**reply, "choices": [{**reply["choices"][0], "finish_reason": "abort"}]}
            garbage = {
                "truncated": whole[: len(whole) // 2],
                "html": b"<html><body>502 Bad Gateway</body></html>",
                "empty-choices": json.dumps(empty).encode(),
                "no-message": json.dumps(nameless).encode(),
                "aborted": json.dumps(aborted).encode(),
            }
            self.send_bytes(200, garbage[kind])

    def double(self, kind: str, question: str, reply: dict[str, Any]) -> None:
        if kind == "choice-twice":
            self.deliver(question, 200, {**reply, "choices": reply["choices"] * 2})
        elif kind == "joined":
            self.send_bytes(200, json.dumps(reply).encode() * 2)
        else:
            content = json.dumps(reply).encode()
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n".encode()
            self.land()
            with self.counted(question):
                self.connection.sendall((head + content) * 2)

    def deliver(self, question: str, status: int, content: dict[str, Any]) -> None:
        with self.counted(question):
            self.send(status, content)

    @contextmanager
    def counted(self, question: str) -> Iterator[None]:
        """An answer counts before the client can have it, and not where it cannot be sent."""
        with self.run.lock:
            self.run.delivered[question] += 1
        try:
            yield
        except ConnectionError:
            with self.run.lock:
                self.run.delivered[question] -= 1
            raise

    def send(self, status: int, content: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self.send_bytes(status, json.dumps(content).encode(), headers)

    def send_bytes(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        if self.path.startswith("/v1") and hasattr(self, "landed"):
            self.land()
        self.head(status, len(content), headers)
        self.wfile.write(content)
        self.wfile.flush()

    def head(self, status: int, length: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.flush()

    def drop(self) -> None:
        """Ends the connection without a further word."""
        self.close_connection = True
        self.land()
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


def name_of(text: str, seed: int) -> str:
    """Names a question: its words and the seed of its draw."""
    return hashlib.sha256(f"{seed}:{text}".encode()).hexdigest()[:16]


def error(message: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "code": code}}


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is none of its troubles; anything else is seen."""
        if not isinstance(sys.exception(), ConnectionError | ValueError):
            super().handle_error(request, client_address)


def schedule(**settings: Any) -> dict[str, Any]:
    """The body of POST /schedule."""
    return asdict(Schedule(**settings))


if __name__ == "__main__":
    Handler.words, Handler.key = Words(sys.argv[1]), sys.argv[2]
    server = Server(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()
