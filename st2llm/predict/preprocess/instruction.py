"""The instruction that a language model reads before soft tokens."""

from collections.abc import Sequence

from st2llm.errors import AlignmentError
from st2llm.serialize.template.template import Template
from st2llm.types import Sample, Serializer, Slot


def render_instruction(template: Serializer | None, sample: Sample, slots: int) -> str:
    """The instruction of one sample, '' without a template.

    The predictions are read from the states of the soft tokens, so text after them would change nothing. Raises
    AlignmentError unless the template has one slot, as its last part, of as many tokens as the projection head makes.
    Prompts with slots amid their text are for `model.prompted`.
    """
    if template is None:
        return ""
    prompt = template.render(sample.without_truth(), soft=slots)
    *text, last = prompt.parts
    if prompt.messages:
        raise AlignmentError(
            f"{prompt.template.id} is a chat, but predictions are read from the states of soft tokens, not from an "
            f"answer. Take a template with `format: completion`."
        )
    if not isinstance(last, Slot) or any(isinstance(part, Slot) for part in text):
        raise AlignmentError(
            f"A soft-token instruction holds one <soft> slot, as its last part, but {sample.id} rendered "
            f"{[type(part).__name__ for part in (*text, last)]}. Move the slot to the end of the template."
        )
    if last.length != slots:
        raise AlignmentError(
            f"Slot {last.name!r} holds {last.length} tokens, but the encoder makes {slots}. Write "
            f"`tokens={{{{ soft }}}}` in the template."
        )
    return "".join(str(part) for part in text)


def render_instructions(
    template: Serializer | None, samples: Sequence[Sample], slots: int
) -> tuple[str, ...]:
    """The instruction of each sample; one that only names the data set is rendered once for all samples of it."""
    texts: dict[tuple[str, ...], str] = {}
    return tuple(_known_or_rendered(template, sample, slots, texts) for sample in samples)


def _known_or_rendered(
    template: Serializer | None, sample: Sample, slots: int, texts: dict[tuple[str, ...], str]
) -> str:
    key = template.data_set_of(sample) if isinstance(template, Template) else None
    if key is None:
        return render_instruction(template, sample, slots)
    if key not in texts:
        texts[key] = render_instruction(template, sample, slots)
    return texts[key]


def template_id(template: Serializer | None) -> str | None:
    """The id by which `load_prompt` finds the template; None for a serializer without one."""
    return getattr(template, "id", None)
