"""A fake endpoint in a process of its own, as tests of the client use it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from st2llm.llm.endpoint.client import RemoteModel
from st2llm.llm.endpoint.retry import RetryPolicy
from st2llm.types import Decoding, Numbers
from support import fake_endpoint

KEY = "sk-test-0123456789abcdef"
QUICK = RetryPolicy(connect_s=5, read_s=2, total_s=3, attempts=5, wait_s=0.01, longest_wait_s=2)
DRAWS = Decoding(draws=2, temperature=0.8, seed=5)
GRAMMAR = Numbers(4, 3)


@dataclass(frozen=True)
class Endpoint:
    """A running fake server: its address, and a client that sets its behaviour."""

    url: str
    client: httpx.Client

    def llm(self, patience: RetryPolicy = QUICK, concurrency: int = 8, model: str = "tiny") -> RemoteModel:
        return RemoteModel(f"{self.url}/v1", model, concurrency, patience)

    def plan(self, **settings: Any) -> None:
        """Sets its behaviour from now on, and resets its counts."""
        self.client.post("/schedule", json=fake_endpoint.schedule(**settings))

    def counts(self) -> Any:
        return self.client.get("/counts").json()


@contextmanager
def serving(folder: str) -> Iterator[Endpoint]:
    """A context in which a fake server answers with the model of a folder."""
    command = [sys.executable, fake_endpoint.__file__, folder, KEY]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            port = int(process.stdout.readline() if process.stdout else 0)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                yield Endpoint(f"http://127.0.0.1:{port}", client)
        finally:
            process.kill()
