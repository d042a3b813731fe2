"""The text arm of a comparison: what it was asked and said, what came of it, and what it cost."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from st2llm.evaluate.cost import Cost, count_parameters
from st2llm.evaluate.suite import PredictorSettings
from st2llm.llm.answers import remembering
from st2llm.llm.endpoint.remote import RemoteModel
from st2llm.llm.local import LanguageModel
from st2llm.predict.ledger import tally
from st2llm.predict.text import TextAnswer, TextPredictor, stitch
from st2llm.serialize.template import load_prompt
from st2llm.train.meter import Meter
from st2llm.types import Decoding, Prediction, Sample


@dataclass(frozen=True)
class TextRun:
    """All answers of a text arm, in order, and the predictions made of them."""

    decoding: Decoding
    answers: list[TextAnswer]
    predictions: list[Prediction]
    cost: Cost

    def facts(self) -> dict[str, Any]:
        """What the arm's facts hold beside those of every arm."""
        return {"decoding": asdict(self.decoding), "ledger": tally(a.category for a in self.answers)}

    def rows(self) -> list[dict[str, Any]]:
        """A line of the answers file for each answer."""
        return [_row(answer) for answer in self.answers]


def decoding_of(predictor: PredictorSettings, seed: int) -> Decoding:
    """How a suite's text predictor draws its answers."""
    own = predictor.set
    return Decoding(draws=own.draws, temperature=own.temperature, top_p=own.top_p, seed=seed)


def run_text(
    predictor: PredictorSettings,
    model: LanguageModel | RemoteModel,
    samples: Sequence[Sample],
    *,
    seed: int,
    reach: Callable[[int], None],
) -> TextRun:
    """Asks the model about all samples; what it was asked before is taken from the user's answers.

    reach: called with the number of answers that there are so far.
    """
    decoding = decoding_of(predictor, seed)
    template = load_prompt(str(predictor.template))
    with remembering(model, model.identity) as completer:
        text = TextPredictor(predictor.name, template, completer, decoding=decoding)
        with Meter() as meter:
            answers = text.answers(samples, done=reach)
    return TextRun(decoding, answers, stitch(samples, answers), _cost(model, answers, meter, len(samples)))


def _cost(
    model: LanguageModel | RemoteModel, answers: Sequence[TextAnswer], meter: Meter, samples: int
) -> Cost:
    """Tokens count as often as they were read. The weights of an endpoint's model are not known."""
    said = [answer.answer for answer in answers]
    tokens_in = sum(answer.tokens_in - answer.tokens_shared for answer in said)
    tokens_out = sum(answer.tokens_out for answer in said)
    total = count_parameters(model.model)[0] if isinstance(model, LanguageModel) else None
    # An answer that was kept from an earlier run costs the seconds that it took when it was asked.
    seconds = meter.seconds + sum(answer.seconds for answer in said if answer.cached)
    return Cost(
        params_total=total,
        params_trained=0,
        # Two operations a weight and token, the usual estimate for a decoder (Kaplan et al. 2020, section 2.1).
        flops=None if total is None else 2.0 * total * (tokens_in + tokens_out) / samples,
        train_s=0.0,
        predict_s_per_sample=seconds / samples,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        peak_mb=meter.peak_mb,
    )


def _row(answer: TextAnswer) -> dict[str, Any]:
    said = answer.answer
    return {
        "sample": answer.sample,
        "place": answer.place,
        "draw": said.draw,
        "prompt": answer.prompt.text,
        "prompt_sha256": answer.prompt.sha256,
        "template": asdict(answer.prompt.template),
        "answer": said.text,
        "category": answer.category,
        "unread_reason": answer.prediction.unread_reason,
        "finish": said.finish,
        "tokens_in": said.tokens_in,
        "tokens_shared": said.tokens_shared,
        "tokens_out": said.tokens_out,
        "logprob": said.logprob,
        "seconds": said.seconds,
        "cached": said.cached,
    }
