"""The words that a language model reads before soft tokens."""

from st2llm.errors import AlignmentError
from st2llm.types import Sample, Serializer, Slot


def instruction(template: Serializer | None, sample: Sample, slots: int) -> str:
    """The instruction of one sample, '' without a template.

    Raises AlignmentError unless its one slot comes last and holds as many tokens as the head makes: the states of the
    soft tokens are read, and words after them would change none of these. Slots amid words are for `model.prompted`.
    """
    if template is None:
        return ""
    prompt = template.render(sample.without_truth(), soft=slots)
    *words, last = prompt.parts
    if prompt.messages:
        raise AlignmentError(
            f"{prompt.template.id} is a chat, but what is read before soft tokens is no conversation: its states are "
            f"read, not an answer. Take a template with `format: completion`."
        )
    if not isinstance(last, Slot) or any(isinstance(part, Slot) for part in words):
        raise AlignmentError(
            f"A soft-token instruction holds one <soft> slot, as its last part, but {sample.id} rendered "
            f"{[type(part).__name__ for part in (*words, last)]}. Move the slot to the end of the template."
        )
    if last.length != slots:
        raise AlignmentError(
            f"Slot {last.name!r} holds {last.length} tokens, but the encoder makes {slots}. Write "
            f"`tokens={{{{ soft }}}}` in the template."
        )
    return "".join(str(word) for word in words)
