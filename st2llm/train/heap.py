"""Memory that training frees is kept for its next step, where the C library is glibc."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tells glibc not to give freed memory back to the system, for the rest of the process; False where it cannot.

    A step on the CPU frees all of its activations and asks for them again in the next. Each time the system has to
    clear their pages: of wide graphs that took longer than the arithmetic (benchmarks/scale.py).
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _NEVER))
