"""Runs a coroutine in a background thread, whether or not the caller has an event loop (a notebook has one)."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def run_in_background(
    coroutine: Callable[[], Coroutine[None, None, None]], on_end: Callable[[], None]
) -> Iterator[Callable[[], None]]:
    """Runs `coroutine` on an event loop in a thread of its own, and cancels it where the block is left early.

    on_end: called in that thread when the coroutine ends, successfully or not. Yields a function that re-raises
    the coroutine's exception, if any.
    """
    loop = asyncio.new_event_loop()
    task = loop.create_task(coroutine())

    def run() -> None:
        try:
            with suppress(BaseException):  # stored in the task, and raised by the caller
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
        with suppress(RuntimeError):  # the loop is already closed
            loop.call_soon_threadsafe(task.cancel)
        thread.join()
