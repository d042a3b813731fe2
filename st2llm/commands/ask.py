"""`st2llm ask`: the answer of a language model to the prompt of one test sample, and what is read from it."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float64

from st2llm.commands.predict.table import prediction_table
from st2llm.commands.prompt import PromptRequest, RenderedPrompt, render_prompt
from st2llm.data.describe.sample_plot import plot_predictions
from st2llm.errors import ConfigError
from st2llm.llm import load_llm
from st2llm.llm.answer_cache import with_answer_cache
from st2llm.model.checkpoint_folder import is_checkpoint
from st2llm.tasks import TASKS
from st2llm.types import Answer, Prediction, Sample, Slot

if TYPE_CHECKING:
    from st2llm.llm.endpoint.client import RemoteModel
    from st2llm.llm.local import LanguageModel


@dataclass(frozen=True)
class Asked:
    """A prompt, its answer, and the prediction that was read from it; None for a template that reads no answer."""

    rendered: RenderedPrompt
    answer: Answer
    prediction: Prediction | None

    @property
    def table(self) -> pd.DataFrame | None:
        """What was read: a row for each wanted entry or ranked option, with the true value or label beside it.

        None where nothing is read, or a text, such as the answer to a question.
        """
        sample, prediction = self.rendered.sample, self.prediction
        if prediction is None or self.rendered.template.head.task not in TASKS:
            return None
        table = prediction_table([sample], [prediction], top=max(1, len(prediction.ranking or ())))
        if "answer" in table:
            names = ["place", "channel_name", "timestamp", "rank", "answer", "label"]
        else:
            names = ["place", "channel_name", "timestamp", "value", "truth"]
            table = table.assign(truth=_wanted_values(sample))
        return table[names].rename(columns={"channel_name": "channel", "label": "true_label"})

    def record(self) -> dict[str, Any]:
        """What `st2llm ask --json` prints: the record of the prompt, the answer, and what was read from it."""
        prediction, table = self.prediction, self.table
        values = None
        if table is not None:
            values = table.astype(object).where(table.notna(), None).to_dict("records")
        return {
            **self.rendered.record(),
            "answer": self.answer.text,
            "finish": self.answer.finish,
            "read": None if prediction is None or prediction.unread_reason else (prediction.label or values),
            "unread_reason": None if prediction is None else prediction.unread_reason,
        }

    def lines(self) -> list[str]:
        """The prompt, the answer and what was read, as people read them."""
        cost = f"{self.answer.tokens_in} tokens"
        lines = [f"Prompt ({cost}):", str(self.rendered.prompt), "", "Answer:", self.answer.text, ""]
        return [*lines, *self._read_lines()]

    def _read_lines(self) -> Sequence[str]:
        prediction, prompt = self.prediction, self.rendered.prompt
        if prediction is None:
            return ["The template has no `answer` in its head, so nothing is read from the answer."]
        if prediction.unread_reason is not None:
            return [f"The answer could not be read: {prediction.unread_reason}"]
        if self.table is not None:
            return ["Read:", self.table.to_string(index=False, na_rep="", float_format=lambda v: f"{v:g}")]
        read = prediction.label if prediction.label is not None else prediction.raw.strip()
        return [f"Read: {read}", *([f"True answer: {prompt.truth}"] if prompt.truth else [])]


def ask(request: PromptRequest) -> Asked:
    """Asks the language model `request.llm`; an answer that was given before comes from the answer cache.

    llm: a name that `load_llm` takes, or the checkpoint of a run of `finetune` on instructions, as a folder or as
    `hub:owner/name`. Raises ConfigError without
    a model, and for a template whose prompt has slots for soft tokens, and as `render_prompt` does.
    """
    if request.llm is None:
        raise ConfigError("ask needs a language model. Name it with --llm, for instance smollm2-135m.")
    rendered = render_prompt(replace(request, llm=_tokenizer_name(request)))
    if any(isinstance(part, Slot) for part in rendered.prompt.parts):
        raise ConfigError(
            f"Template {rendered.template.id} has slots for soft tokens, which only a trained checkpoint fills "
            f"(`st2llm predict`). Take a template without slots, for instance "
            f"{rendered.template.head.kind}/{rendered.template.head.task}."
        )
    model = load_answering_llm(request.llm)
    with with_answer_cache(model, model.identity) as completer:
        (answer,) = completer.complete([rendered.prompt])
    readable = rendered.template.head.answer is not None
    prediction = rendered.template.read(answer.text, rendered.sample) if readable else None
    return Asked(rendered, answer, prediction)


def load_answering_llm(name: str) -> "LanguageModel | RemoteModel":
    """The language model of that name, or of a checkpoint with its trained weights.

    Raises ConfigError for a checkpoint without a language model, and as `load_llm` does.
    """
    if not is_checkpoint(name):
        return load_llm(name)
    tuned: LanguageModel = importlib.import_module("st2llm.model.checkpoint").load_finetuned_llm(Path(name))
    return tuned


def _tokenizer_name(request: PromptRequest) -> str | None:
    """The model whose tokenizer keeps the prompt within its budget; None without a budget.

    Raises ConfigError for a budget of a model behind an endpoint.
    """
    name = str(request.llm)
    if request.budget is None:
        return None
    if name.startswith("openai:"):
        raise ConfigError(
            f"--budget counts tokens, but those of {name} are known to its server alone. Leave --budget out."
        )
    if not is_checkpoint(name):
        return name
    base: str = importlib.import_module("st2llm.model.checkpoint").base_model_id(Path(name))
    return base


def plot_answer(asked: Asked, file: Path) -> None:
    """Plots what was known and what was read from the answer as PNG. Raises ConfigError where there is no value."""
    if asked.table is None or asked.prediction is None:
        raise ConfigError(
            f"The answer to {asked.rendered.template.id} is no value at a place or time, so there is nothing to plot. "
            f"Leave --plot out."
        )
    plot_predictions([asked.rendered.sample], [asked.prediction], file)


def _wanted_values(sample: Sample) -> Float64[np.ndarray, " entry"]:
    """The true values of the wanted entries, in the order of the table; NaN where they are unknown."""
    step, node, channel = np.nonzero(sample.wanted)
    order = np.lexsort((step, channel, node))
    truth = np.full(sample.values.shape, np.nan) if sample.truth is None else sample.truth
    return np.asarray(truth[step[order], node[order], channel[order]], dtype=np.float64)
