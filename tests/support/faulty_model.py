"""A model that a comparison runs on workers, where it ends its process, raises or waits the first time it is asked."""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from st2llm.evaluate.run.compare import PassedObjects, Request
from st2llm.evaluate.run.plan import Overrides
from st2llm.predict.external.wrapper import as_predictors
from st2llm.types import Sample


@dataclass(frozen=True)
class FaultyModel:
    """Forecasts zeros. what: kill, raise or wait; done once, when `met` does not exist, which then holds its id."""

    met: Path
    what: str

    def predict(self, samples: Sequence[Sample]) -> list[np.ndarray]:
        if not self.met.exists():
            self.met.write_text(str(os.getpid()))
            if self.what == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.what == "raise":
                raise ValueError("there is no forecast today")
            time.sleep(600)
        return [np.zeros(sample.values.shape) for sample in samples]


def request(suite: Path, out: Path, model: FaultyModel, *, resume: bool = False) -> Request:
    """A comparison of a suite with the model."""
    passed = PassedObjects(as_predictors([model]))
    return Request(suite, Overrides(custom=("faulty-model",)), passed, out, resume=resume, progress=False)
