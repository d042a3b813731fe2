"""A language model on servers as the model of `st2llm predict`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from st2llm.commands.predict.model import TaskModel
from st2llm.commands.prompt import task_for
from st2llm.data.windows.fitted_on import FittedOn
from st2llm.errors import ConfigError
from st2llm.llm.answer_cache import with_answer_cache
from st2llm.llm.endpoint.client import PREFIX, RemoteModel, parse_endpoint
from st2llm.predict.text import TextPredictor
from st2llm.serialize.template.template import load_prompt
from st2llm.tasks import TASKS
from st2llm.types import Container, Prediction, Sample, first_object


def is_server(name: str) -> bool:
    """Whether a name is that of a model on servers: `openai:URL[,URL...]#MODEL`."""
    return name.startswith(PREFIX)


def load_server(name: str, concurrency: int) -> RemoteModel:
    """The model of that name. concurrency: requests in flight at each of its servers."""
    return replace(parse_endpoint(name), concurrency=concurrency)


def server_predictor(
    llm: RemoteModel, data: Container, template: str | None, *, chunk_size: int
) -> TaskModel:
    """The model of a task that is asked in prompts of a template, chunk_size of them at once.

    Answers that arrived are kept in the answer cache. Raises ConfigError without a template, and for one of another
    kind of data or that asks for no prediction.
    """
    first = first_object(data)
    if template is None:
        raise ConfigError(
            f"{llm.name} answers prompts. Name their template with --template, for instance {first.kind}/forecast."
        )
    loaded = load_prompt(template)
    if loaded.head.kind != first.kind or loaded.head.task not in TASKS:
        raise ConfigError(
            f"Template {loaded.id} asks for {loaded.head.task} of {loaded.head.kind} data, but a prediction of "
            f"{first.kind} data ({first.name}) is wanted. Choose a template of that kind and of one of the tasks "
            f"{', '.join(TASKS)}."
        )
    predictor = TextPredictor("server", loaded, llm, chunk_size)
    task = task_for(loaded.head.task, data)
    return TaskModel(
        task,
        _CachedPredictor(predictor, llm),
        FittedOn(unknown=(f"the weights {llm.name}",)),
        template=loaded,
    )


@dataclass(frozen=True)
class _CachedPredictor:
    """Predicts with the answer cache open, so that a worker that is killed loses no answer that arrived."""

    predictor: TextPredictor
    llm: RemoteModel

    def __call__(self, samples: Sequence[Sample]) -> list[Prediction]:
        with with_answer_cache(self.llm, self.llm.identity) as completer:
            return replace(self.predictor, completer=completer).predict(samples)
