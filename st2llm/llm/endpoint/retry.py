"""When a request to an endpoint is repeated: attempts, waits, and the wait that a server asks for."""

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from st2llm.errors import ConfigError


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


DEFAULT_RETRY = RetryPolicy()


def retry_after(response: httpx.Response) -> float | None:
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
