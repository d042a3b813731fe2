"""Keeps freed memory in the process between training steps, where the C library is glibc."""

import ctypes
import sys
from collections.abc import Callable

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tells glibc not to return freed memory to the system, for the rest of the process; False where it cannot.

    A step on the CPU frees all of its activations and allocates them again in the next step. The system clears the
    pages each time, which took longer than the arithmetic for wide graphs (benchmarks/scale.py).
    """
    mallopt = _glibc("mallopt")
    return mallopt is not None and bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _NEVER))


def release_freed_memory() -> bool:
    """Returns memory that was freed so far to the system, before memory is measured; False where it cannot."""
    malloc_trim = _glibc("malloc_trim")
    if malloc_trim is None:
        return False
    malloc_trim(0)
    return True


def _glibc(name: str) -> Callable[..., int] | None:
    """A function of the C library; None where it does not exist."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), name, None)
