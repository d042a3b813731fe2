"""A coroutine run beside the caller, who may have an event loop already (a notebook) or none."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def run_in_background(
    coroutine: Callable[[], Coroutine[None, None, None]], on_end: Callable[[], None]
) -> Iterator[Callable[[], None]]:
    """Runs `work` on an event loop in a thread of its own, and cancels it where the block is left early.

    ended: called in that thread when the work is over, however it went. Gives a function that then raises what went
    wrong, if anything did.
    """
    loop = asyncio.new_event_loop()
    task = loop.create_task(coroutine())

    def run() -> None:
        try:
            with suppress(BaseException):  # the task holds it, for the caller to raise
                loop.run_until_complete(task)
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
        finally:
            on_end()

    thread = threading.Thread(target=run, name="st2llm-background", daemon=True)
    thread.start()
    try:
        yield lambda: task.result()
    finally:
        with suppress(RuntimeError):  # the loop is closed: there is nothing to cancel
            loop.call_soon_threadsafe(task.cancel)
        thread.join()
