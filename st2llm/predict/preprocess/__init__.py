"""Preprocessors: from samples to tensors, and from an arm's output to predictions in raw units."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from st2llm.encode.field import FieldShape
from st2llm.encode.point_scaler import PointScaler
from st2llm.encode.scaler import FieldScaler
from st2llm.encode.sequence import SequenceShape
from st2llm.tasks import Task
from st2llm.types import Prediction, Sample, Serializer


@runtime_checkable
class Preprocessor(Protocol):
    """Fitted on training samples alone; then every arm of a comparison uses the same one.

    data_family: `field` or `sequence`. slots: number of soft tokens of a sample. template: writes the instructions, or
    None. scaler: means and standard deviations of the training values.
    """

    @property
    def data_family(self) -> str: ...

    @property
    def slots(self) -> int: ...

    @property
    def template(self) -> Serializer | None: ...

    @property
    def scaler(self) -> FieldScaler | PointScaler: ...

    def task_shape(self, sample: Sample, task: Task) -> FieldShape | SequenceShape:
        """The sizes of an encoder that answers this task; sample: one of training."""
        ...

    def window_shape(self, sample: Sample) -> FieldShape | SequenceShape:
        """The sizes of an encoder that is pre-trained on whole windows like this sample."""
        ...

    def config(self) -> dict[str, Any]:
        """What config.yaml of a checkpoint says of this preprocessor: its data family, note words and instruction."""
        ...

    def scaler_state(self) -> dict[str, Any]:
        """What scaler.json of a checkpoint holds: the scaler and, where they are used, slot means."""
        ...

    def error_scale(self, sample: Sample) -> Tensor:
        """The factors from standardised errors to those that training minimises; see `FieldScaler.error_scale`."""
        ...

    def collate(self, samples: Sequence[Sample], *, with_instructions: bool) -> Any:
        """Tensors of these samples; `with_instructions` adds the text read before the soft tokens."""
        ...

    def for_training(self, batch: Any) -> Any:
        """The windows of a batch with the targets that a module is trained on; those of the task for most modules."""
        ...

    def rows(self, samples: int, places: int) -> int:
        """Rows of the batch of so many samples, each with so many places."""
        ...

    def with_instructions(self, batch: Any, samples: Sequence[Sample]) -> Any:
        """The batch with the instruction of each sample."""
        ...

    def instruction(self, sample: Sample) -> str:
        """The text that a language model reads before the soft tokens of this sample; '' without a template."""
        ...

    def with_sampling_noise(self, batch: Any) -> Any:
        """The batch with the noise that forecasts are drawn from, where the head draws any."""
        ...

    def postprocess(self, samples: Sequence[Sample], outputs: Any) -> list[Prediction]:
        """An arm's output for these samples as predictions in raw units."""
        ...

    def postprocess_draws(self, samples: Sequence[Sample], draws: Tensor) -> list[Prediction]:
        """Draws of a diffusion model, [draw batch ...], as predictions in raw units."""
        ...
