"""A restricted Jinja for untrusted templates: a small subset that always terminates and sees only its variables."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, meta, nodes, pass_context
from jinja2.environment import Template as JinjaTemplate
from jinja2.exceptions import SecurityError
from jinja2.filters import make_attrgetter
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from st2llm.errors import ConfigError, nearest

MAX_BODY = 64_000
MAX_TEXT = 1_000_000
MAX_ITERATIONS = 20_000
"""The most items that the loops, ranges and joins of one rendering go through together."""
MAX_FILTERED_CHARACTERS = 20 * MAX_TEXT
"""The most characters that the filters of one rendering read and write together."""

_ALLOWED_NODES = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.List, nodes.Tuple,
    nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.For, nodes.If, nodes.CondExpr, nodes.Compare,
    nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Neg, nodes.Filter, nodes.Test, nodes.Call, nodes.Keyword,
)  # fmt: skip
_ALLOWED_FILTERS = frozenset(
    {"capitalize", "first", "join", "last", "length", "lower", "title", "trim", "upper"}
)
_ALLOWED_CALLS = frozenset({"range"})
_PLAIN = (str, int, float)
_COUNTER_NAME = "_counted"
# Exceptions that the code of a template can cause in Jinja and Python.
_RENDER_ERRORS = (
    TemplateError, TypeError, ValueError, ArithmeticError, AttributeError, LookupError, RecursionError,
    SyntaxError, MemoryError,
)  # fmt: skip


@dataclass(frozen=True)
class TemplateBody:
    """A checked template body. attributes: those of variables that it shows. literals: its text and constants."""

    where: str
    variables: frozenset[str]
    attributes: frozenset[str]
    literals: str
    compiled: JinjaTemplate

    def render(self, variables: Mapping[str, Any]) -> str:
        """Renders the body. Raises ConfigError if rendering fails or exceeds a limit."""
        pieces, size = [], 0
        try:
            for piece in self.compiled.generate({**variables, _COUNTER_NAME: _WorkCounter()}):
                pieces.append(piece)
                size += len(piece)
                if size > MAX_TEXT:
                    raise SecurityError(f"it writes more than {MAX_TEXT} characters")
        except _RENDER_ERRORS as error:
            raise ConfigError(
                f"{self.where} could not be rendered: {error}. Lines of history and neighbours have .label "
                f"and .numbers; see prompts/README.md for the variables."
            ) from error
        return "".join(pieces)


def compile_body(source: str, where: str, declared: Iterable[str]) -> TemplateBody:
    """Parses and checks a body.

    Templates consist of text, variables, `if`, `for` and a few filters. Everything that could run long or access more
    than the variables (macros, assignments, calls, arithmetic, private attributes) is rejected, so that rendering
    always terminates. Raises ConfigError with the line and the nearest name.
    """
    if len(source) > MAX_BODY:
        raise ConfigError(f"{where} has {len(source)} characters, but a template has at most {MAX_BODY}.")
    environment = _environment()
    try:
        tree = environment.parse(source)
        for node in tree.find_all(nodes.Node):
            _reject_node(node, where)
        used = frozenset(meta.find_undeclared_variables(tree)) - _ALLOWED_CALLS
        literals = _literals(tree)
        _count_loops(tree)
        compiled = environment.from_string(tree)
    except TemplateSyntaxError as error:
        raise ConfigError(f"{where}, line {error.lineno} of the body: {error.message}. Mend it.") from error
    except _RENDER_ERRORS as error:
        raise ConfigError(f"{where} is not a template that can be compiled: {error}. Simplify it.") from error
    declared_names = frozenset(declared)
    for name in sorted(used - declared_names):
        raise ConfigError(
            f"{where} uses {name!r}, which `variables` does not list. {nearest(name, declared_names)}"
        )
    attributes = frozenset(node.attr for node in tree.find_all(nodes.Getattr))
    return TemplateBody(where, used, attributes, literals, compiled)


def _reject_node(node: nodes.Node, where: str) -> None:
    name = type(node).__name__.lower()
    named = node.node.name if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) else None
    fault = ""
    if not isinstance(node, _ALLOWED_NODES):
        fault = f"{name!r} has no place in a template"
    elif isinstance(node, nodes.Call) and named not in _ALLOWED_CALLS:
        fault = f"only {', '.join(sorted(_ALLOWED_CALLS))} may be called"
    elif isinstance(node, nodes.Filter) and node.name not in _ALLOWED_FILTERS:
        fault = f"there is no filter {node.name!r}. {nearest(node.name, _ALLOWED_FILTERS)}"
    elif isinstance(node, nodes.For) and node.recursive:
        fault = "loops may not be recursive"
    elif isinstance(node, nodes.Getattr) and node.attr.startswith("_"):
        fault = f"the attribute {node.attr!r} is private"
    if fault:
        raise ConfigError(
            f"{where}, line {node.lineno} of the body: {fault}. A body holds text, variables, if, for and "
            f"the filters {', '.join(sorted(_ALLOWED_FILTERS))}."
        )


def _count_loops(tree: nodes.Template) -> None:
    """Passes the iterable of each loop through a counter, so that nested loops terminate as well."""
    for loop in list(tree.find_all(nodes.For)):
        counter = nodes.Name(_COUNTER_NAME, "load", lineno=loop.lineno)
        loop.iter = nodes.Call(counter, [loop.iter], [], None, None, lineno=loop.lineno)


class _WorkCounter:
    """Counts what one rendering goes through. Raises SecurityError beyond the limits, before the work is done."""

    def __init__(self) -> None:
        self.items = self.characters = 0

    def __call__(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self.add_items(1)
            yield item

    def add_items(self, count: int) -> None:
        self.items += count
        if self.items > MAX_ITERATIONS:
            raise SecurityError(f"its loops, ranges and joins take more than {MAX_ITERATIONS} iterations")

    def add_characters(self, count: int) -> None:
        self.characters += count
        if self.characters > MAX_FILTERED_CHARACTERS:
            raise SecurityError(f"its filters go through more than {MAX_FILTERED_CHARACTERS} characters")


@pass_context
def _range(context: Context, *bounds: int) -> range:
    numbers = range(*bounds)
    if len(numbers) > MAX_ITERATIONS:
        raise SecurityError(f"a range of {len(numbers)} numbers is longer than {MAX_ITERATIONS}")
    context[_COUNTER_NAME].add_items(len(numbers))
    return numbers


@pass_context
def _join(context: Context, value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    """Jinja's `join`, piece by piece, so that a text beyond MAX_TEXT is refused before it is made."""
    counter: _WorkCounter = context[_COUNTER_NAME]
    read = None if attribute is None else make_attrgetter(context.environment, attribute)
    pieces: list[str] = []
    size = 0
    for item in counter(value):
        piece = str(_text_only(item if read is None else read(item)))
        pieces.append(piece)
        size += len(piece) + len(d)
        if size > MAX_TEXT:
            raise SecurityError(f"a join writes more than {MAX_TEXT} characters")
    counter.add_characters(size)
    return str(d).join(pieces)


def _measured(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter of text whose characters count."""

    @pass_context
    def measured(context: Context, value: Any, *arguments: Any) -> Any:
        if isinstance(value, Sized):
            context[_COUNTER_NAME].add_characters(len(value))
        return function(_text_only(value), *arguments)

    return measured


def _text_only(value: Any) -> Any:
    """The value, if it is text, a number or has words of its own. Raises SecurityError for what prints as code."""
    if isinstance(value, _PLAIN) or any("__str__" in vars(base) for base in type(value).__mro__[:-1]):
        return value
    if isinstance(value, Iterable):
        raise SecurityError(
            "it prints a whole list. Loop over it, as in {% for line in history %}{{ line.label }}:{{ line.numbers }}"
            "{% endfor %}, or use join"
        )
    parts = ", ".join(f".{field.name}" for field in fields(value)) if is_dataclass(value) else "its parts"
    raise SecurityError(f"it prints a whole {type(value).__name__}. Print {parts} of it")


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, which checks the attributes of each class once: its checks ask for class and name alone."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._checked: dict[tuple[type, str], bool] = {}

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        key = (type(obj), attr)
        if key not in self._checked:
            self._checked[key] = super().is_safe_attribute(obj, attr, value)
        return self._checked[key]


def _environment() -> ImmutableSandboxedEnvironment:
    environment = _Environment(
        undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True, finalize=_text_only
    )
    environment.globals["range"] = _range
    environment.filters["join"] = _join
    for name in ("capitalize", "lower", "title", "trim", "upper"):
        environment.filters[name] = _measured(environment.filters[name])
    return environment


def _literals(node: nodes.Node) -> str:
    """Literal text and constants below a node, in order; a line break stands for each variable."""
    if isinstance(node, nodes.TemplateData):
        return str(node.data)
    if isinstance(node, nodes.Const):
        return f" {node.value} "
    if isinstance(node, nodes.Name):
        return "\n"
    children = node.iter_child_nodes()
    if isinstance(node, nodes.Output):
        return "".join(str(c.value) if isinstance(c, nodes.Const) else _literals(c) for c in children)
    return "".join(map(_literals, children))
