"""Small OpenAI-compatible servers in threads of the test, each with one fault."""

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Loopback(ThreadingHTTPServer):
    """Answers `echo <prompt>`, or with numbers that depend on the prompt, until its fault sets in after `good` answers.

    fault: '' for none; 'dies' closes connections without a reply; '500', '401'; '429' once, with a Retry-After of 1 s;
    'garbage' for a reply that is no JSON.
    """

    daemon_threads = True

    def __init__(self, fault: str = "", good: int = 0, *, numbers: bool = False, slow_s: float = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.fault, self.good, self.lock = fault, good, threading.Lock()
        self.numbers, self.slow_s = numbers, slow_s
        self.answered: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()

    def text(self, prompt: str) -> str:
        if not self.numbers:
            return f"echo {prompt}"
        return ",".join(str(byte) for byte in hashlib.sha512(prompt.encode()).digest())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves is no error."""


class _Handler(BaseHTTPRequestHandler):
    server: Loopback

    def do_POST(self) -> None:
        prompt = json.loads(self.rfile.read(int(self.headers["content-length"])))["prompt"]
        with self.server.lock:
            self.server.asked[prompt] += 1
            fault = self.server.fault if self.server.answered.total() >= self.server.good else ""
            if fault == "429":
                self.server.fault = ""
            if not fault:
                self.server.answered[prompt] += 1
        if fault == "dies":
            self.connection.close()
        elif fault == "garbage":
            self._send(200, b"<html>")
        elif fault:
            self._send(int(fault), b'{"error": {"message": "no"}}')
        else:
            usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": 2}
            choice = {"text": self.server.text(prompt), "finish_reason": "stop"}
            time.sleep(self.server.slow_s)
            self._send(200, json.dumps({"choices": [choice], "usage": usage}).encode())

    def _send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "1")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Prints nothing."""


@contextmanager
def loopback(*servers: Loopback) -> Iterator[None]:
    """A context in which the servers run."""
    with ExitStack() as stack:
        for server in servers:
            stack.enter_context(server)
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
            stack.callback(server.shutdown)
        yield
