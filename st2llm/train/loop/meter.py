"""Measures seconds and peak memory of a block of code."""

import threading
import time

import psutil

from st2llm.train.loop.memory import release_freed_memory


class Meter:
    """Wall-clock seconds and the highest resident memory (MB) of this process inside a `with` block."""

    def __enter__(self) -> "Meter":
        release_freed_memory()  # memory of earlier training does not count
        self._process = psutil.Process()
        self._stop = threading.Event()
        self.peak_mb = self._resident_mb()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._began = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._began
        self._stop.set()
        self._thread.join()
        self.peak_mb = max(self.peak_mb, self._resident_mb())

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self.peak_mb = max(self.peak_mb, self._resident_mb())

    def _resident_mb(self) -> float:
        return float(self._process.memory_info().rss) / 1e6
