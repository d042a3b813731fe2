"""The answer of an instruction row: its grammar, the options it selects from, and what a template may ask for."""

from st2llm.serialize.answer.formats import RankingFormat
from st2llm.serialize.questions.question import QuestionAnswer
from st2llm.serialize.template.template import Template
from st2llm.serialize.text.plain_text import plain_text
from st2llm.serialize.trajectory.stays import visit_counts
from st2llm.types import Choice, Grammar, Ranking, Sample


def answer_options(grammar: Grammar | None, sample: Sample) -> tuple[str, ...]:
    """The options of a choice or the candidates of a ranking; of the next place those that the prompt lists."""
    options = grammar.options if isinstance(grammar, Choice) else ()
    if isinstance(grammar, Ranking):
        options = grammar.candidates
    if sample.task != "next-place":
        return options
    visited = {plain_text(place) for place in visit_counts(sample)}
    return tuple(option for option in options if option in visited)


def answer_grammar(template: Template, question: QuestionAnswer | None) -> str:
    """The grammar by which an answer is marked; a question in free text wants an option or a number."""
    if question is not None:
        return "choice" if question.answer_type == "choice" else "numbers"
    return "" if template.head.answer is None else template.head.answer.grammar


def asking_for_what_is_known(template: Template) -> Template:
    """The template; one of a ranking asks for a single id, because the data know the first alone."""
    if isinstance(template.head.answer, RankingFormat):
        return template.with_answer({"count": 1})
    return template


def fits(template: Template, question: QuestionAnswer) -> bool:
    """Whether the answer of a question fits the template's grammar."""
    grammar = "" if template.head.answer is None else template.head.answer.grammar
    return {"choice": question.answer_type == "choice", "numbers": question.answer_type == "number"}.get(
        grammar, grammar == "text"
    )
