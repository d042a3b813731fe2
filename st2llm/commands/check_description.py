"""Checks a description of a test sample against the values that the sample shows."""

from dataclasses import dataclass

from st2llm.commands.prompt import PromptRequest, render_prompt
from st2llm.errors import DataError
from st2llm.serialize.lint import claims
from st2llm.serialize.lint.claims import Claim


@dataclass(frozen=True)
class CheckedDescription:
    """The claims of a description, in the order of its text."""

    claims: tuple[Claim, ...]

    @property
    def contradicted(self) -> bool:
        """Whether the data contradict any claim."""
        return any(claim.verdict == "contradicted" for claim in self.claims)

    def lines(self) -> list[str]:
        """One line per claim, then the number of claims with each verdict."""
        lines = [_line(claim) for claim in self.claims]
        counts = [
            f"{sum(claim.verdict == verdict for claim in self.claims)} {verdict}"
            for verdict in ("supported", "contradicted", "uncheckable")
        ]
        return [*lines, f"{len(self.claims)} claims: {', '.join(counts)}."]


def check_description(text: str, request: PromptRequest) -> CheckedDescription:
    """Checks a text against the sample that `st2llm prompt` shows for the same arguments.

    Raises DataError for an empty text, and what `commands.prompt.render_prompt` raises.
    """
    if not text.strip():
        raise DataError("The description is empty. Give a file with the text that a model wrote.")
    return CheckedDescription(tuple(claims.check(text, render_prompt(request).sample)))


def _line(claim: Claim) -> str:
    data = f" (data: {claim.measured})" if claim.measured else ""
    return f"{claim.verdict}: {claim.topic} {claim.claimed}{data} in {claim.clause!r}"
