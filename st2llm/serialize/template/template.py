"""Prompt templates: Markdown files with a YAML head and a Jinja body, which a person may edit."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from st2llm import config, recipes
from st2llm.errors import ConfigError, DataError, nearest
from st2llm.serialize import KINDS
from st2llm.serialize.answer import formats as answer
from st2llm.serialize.answer.unread import Unread
from st2llm.serialize.template import budget, sandbox
from st2llm.serialize.template.head import TemplateHead, check_head, parse_head
from st2llm.serialize.template.interface import KindSerializer, SerializerOptions
from st2llm.types import Grammar, Prediction, Prompt, Sample, Slot, TemplateId, Tokenizer

# Tags are told from data that looks like them by a private character, which no variable may hold.
_TAG_MARK = "\ue000"
_TAG = re.compile(r"<(?=soft\b|system>|user>)")
_SLOT = re.compile(_TAG_MARK + r"soft\s+name=([\w-]+)\s+tokens=([1-9][0-9]{0,5})\s*>")
_ROLE = re.compile(rf"^{_TAG_MARK}(system|user)>[ \t]*$", re.MULTILINE)


@dataclass(frozen=True)
class _ExpectedAnswer:
    """What is asked of a sample, however much of it the words tell: a perfect answer and the grammar of answers."""

    truth: str
    grammar: Grammar | None


@dataclass(frozen=True)
class Template:
    """A prompt that a person wrote, ready to be filled from a sample. Made by `load_prompt` or `parse`."""

    head: TemplateHead
    body: sandbox.TemplateBody
    serializer: KindSerializer
    spec: TemplateId

    @property
    def id(self) -> str:
        return self.spec.id

    @property
    def version(self) -> int:
        return self.spec.version

    @property
    def sha256(self) -> str:
        return self.spec.sha256

    def render(
        self,
        sample: Sample,
        *,
        budget: int | None = None,
        tokenizer: Tokenizer | None = None,
        examples: Sequence[Sample] = (),
        soft: int | None = None,
    ) -> Prompt:
        """The prompt for a sample; with a tokenizer its tokens are counted, with a budget it is made to fit.

        budget: tokens that the prompt may take, soft tokens and the words of chat messages included, the chat
        template's own marks not. To fit, examples go first (from the first on), then what the kind says in
        `drop_order`; `Prompt.dropped` says what went. examples: solved samples, the best last; for a template of one
        place they are narrowed to the place that is asked for. soft: how many soft tokens there will be; without it a
        place of a field counts as one, and of a sequence a step that is seen. Raises DataError where it cannot fit,
        where the template is for one place and the sample asks for several, or where the sample itself is among the
        examples.
        """
        if budget is not None and tokenizer is None:
            raise ConfigError("A budget counts tokens, so render(budget=...) needs tokenizer=... as well.")
        words, reply = self._words(sample, examples), self._reply(sample)
        words["soft"] = soft if soft is not None else _default_soft_tokens(sample)
        if budget is None:
            return self._prompt(words, reply, (), tokenizer)
        return self._fitted(sample, words, reply, budget, tokenizer)

    def read(self, text: str, sample: Sample) -> Prediction:
        """The answer as a Prediction; value None and a reason where it cannot be read.

        Where the model was asked to think first, the answer is what follows the last cue at the start of a line.
        Raises ConfigError for a template without `answer`, DataError for a sample of another task.
        """
        if self.head.answer is None:
            raise ConfigError(
                f"Template {self.id} has no `answer` in its head, so no answer of it can be read."
            )
        self._refuse_several(sample)
        found = self.head.answer.extract(text)
        if found is None:
            reason = Unread(f"no line that begins with the cue {self.head.answer.cue!r}")
            return Prediction(value=None, raw=text, unread_reason=reason)
        return replace(self.serializer.read(found, sample), raw=text)

    def with_answer(self, settings: Mapping[str, Any]) -> "Template":
        """The same template with some settings of its answer changed, such as {"strategy": "deltas", "decimals": 1}.

        Its sha256 is another, made of the file's and of the settings. Raises ConfigError as a wrong head does.
        """
        where = f"`answer` as set for {self.id}"
        if self.head.answer is None:
            raise ConfigError(f"{where}: the head of the template has no `answer` that could be changed.")
        own = self.head.answer.model_dump(exclude_unset=True, by_alias=True)
        changed = answer.parse_format({**own, "grammar": self.head.answer.grammar, **settings}, where=where)
        head = self.head.model_copy(update={"answer": changed})
        check_head(head, where)
        named = f"{self.sha256}\n{json.dumps(dict(settings), sort_keys=True)}"
        spec = replace(self.spec, sha256=hashlib.sha256(named.encode()).hexdigest())
        return replace(self, head=head, serializer=_make_serializer(head), spec=spec)

    def _words(self, sample: Sample, examples: Sequence[Sample]) -> dict[str, Any]:
        if sample.kind != self.head.kind:
            raise DataError(
                f"Template {self.id} is for kind {self.head.kind}, but {sample.id} is {sample.kind}."
            )
        self._refuse_several(sample)
        if examples and "examples" not in self.body.variables:
            raise ConfigError(
                f"Template {self.id} has no use for examples. Take one that lists `examples`, or leave them out."
            )
        solved = [self.serializer.example(self._solved(one, sample), sample) for one in examples]
        return {**self.serializer.variables(sample), "examples": tuple(solved)}

    def _solved(self, example: Sample, sample: Sample) -> Sample:
        """An example for this sample: of the same place, not the same problem, and with its answer."""
        if example.id == sample.id:
            raise DataError(
                f"{sample.id} is among its own examples, which tells its answer. Take train samples."
            )
        if example.truth is None and example.label is None:
            raise DataError(f"The example {example.id} has no answer. Take samples whose truth is known.")
        if self.head.per == "place" and len(example.wanted_nodes) > 1:
            place = sample.place[sample.wanted_nodes[0]]
            return example.at(place if place in example.place else example.place[example.wanted_nodes[0]])
        return example

    def _refuse_several(self, sample: Sample) -> None:
        if self.head.per == "place" and len(sample.wanted_nodes) != 1:
            cure = (
                f" Narrow it first: sample.at({sample.place[sample.wanted_nodes[0]]!r})."
                if sample.wanted_nodes
                else ""
            )
            raise DataError(
                f"Template {self.id} is for one place, but {sample.id} asks for {len(sample.wanted_nodes)}.{cure}"
            )

    def _reply(self, sample: Sample) -> _ExpectedAnswer:
        head = self.head.answer
        if head is None:
            return _ExpectedAnswer("", None)
        return _ExpectedAnswer(
            head.with_cue(self.serializer.truth(sample)), head.with_reasoning(self.serializer.grammar(sample))
        )

    def _fitted(
        self,
        sample: Sample,
        words: dict[str, Any],
        reply: _ExpectedAnswer,
        limit: int,
        tokenizer: Tokenizer | None,
    ) -> Prompt:
        shown = {name: value for name, value in words.items() if name in self.body.variables}
        unused = {name: value for name, value in words.items() if name not in shown}
        steps = list(budget.truncation_steps(shown, self.serializer.drop_order))
        return budget.fit_to_budget(
            steps,
            lambda dropped, left: self._prompt(unused | dict(left), reply, dropped, tokenizer),
            limit,
            where=f"{self.id} for {sample.id}",
        )

    def _prompt(
        self,
        words: dict[str, Any],
        reply: _ExpectedAnswer,
        dropped: tuple[str, ...],
        tokenizer: Tokenizer | None,
    ) -> Prompt:
        text = self.body.render(words)
        messages = self._messages(text) if self.head.format == "chat" else ()
        parts = self._parts("\n\n".join(m["content"] for m in messages) if messages else text)
        return Prompt(
            messages=messages,
            parts=parts,
            truth=reply.truth,
            template=self.spec,
            grammar=reply.grammar,
            dropped=dropped,
            tokens=_count_tokens(parts, tokenizer) if tokenizer is not None else None,
        )

    def _parts(self, text: str) -> tuple[str | Slot, ...]:
        parts: list[str | Slot] = []
        end = 0
        for slot in _SLOT.finditer(text):
            parts += [text[end : slot.start()], Slot(slot.group(1), int(slot.group(2)))]
            end = slot.end()
        parts.append(text[end:].rstrip())
        if isinstance(parts[0], str):
            parts[0] = parts[0].lstrip()
        if any(isinstance(part, str) and _TAG_MARK in part for part in parts):
            raise ConfigError(
                f"{self.body.where}: a slot reads <soft name=NAME tokens=NUMBER> with a number above 0, "
                f"and <system> and <user>, a line each, belong to `format: chat`."
            )
        return tuple(part for part in parts if part != "")

    def _messages(self, text: str) -> tuple[dict[str, str], ...]:
        before, *rest = _ROLE.split(text)
        messages = tuple(
            {"role": role, "content": _SLOT.sub(_slot_tag, content.strip())}
            for role, content in zip(rest[::2], rest[1::2], strict=True)
        )
        if before.strip() or not messages or messages[-1]["role"] != "user":
            raise ConfigError(
                f"{self.body.where}: a chat body holds a line <system> (or none) and a line <user>, each "
                f"followed by its words."
            )
        return messages


def _slot_tag(found: re.Match[str]) -> str:
    return Slot(found.group(1), int(found.group(2))).tag


def load_prompt(name: str, root: Path | None = None) -> Template:
    """The template `prompts/<name>.md`, for instance `graph/forecast`; or a file of one's own, named `*.md`.

    Looked for in `root/prompts` where root is given, else in `$ST2LLM_RECIPES`, beside the package, and in
    the package. Raises ConfigError with the nearest name, or with what is wrong in the file.
    """
    if name.endswith(".md"):
        path = recipes.locate(name)
    elif root is not None:
        path = recipes.locate((root / "prompts" / f"{name}.md").absolute())
    else:
        path = _find_template(name)
    return parse_template(_read_source(path), where=str(path))


def parse_template(source: str, where: str) -> Template:
    """A template from its source. Raises ConfigError that says what is wrong, where, and what is right."""
    head_text, body_text = _split_source(source, where)
    content = config.load_yaml(head_text, f"the head of {where}")
    head = parse_head(content, where=f"the head of {where}")
    check_head(head, where)
    body = sandbox.compile_body(_TAG.sub(_TAG_MARK, body_text), where, head.variables)
    try:
        words = _make_serializer(head)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    sha256 = hashlib.sha256(source.encode()).hexdigest()
    return Template(head, body, words, TemplateId(head.id, head.version, sha256))


def _make_serializer(head: TemplateHead) -> KindSerializer:
    return KINDS[head.kind].make(SerializerOptions(head.task, head.per, head.answer, head.settings))


def _find_template(name: str) -> Path:
    """The first root that has the template; a name is no path, so the working folder has no say."""
    for root in recipes.roots():
        if (path := root / "prompts" / f"{name}.md").is_file():
            return path
    known = ["/".join(path.parts[-2:]).removesuffix(".md") for path in recipes.listing("prompts", "*/*.md")]
    raise ConfigError(f"There is no template {name!r}. {nearest(name, known)}")


def _read_source(path: Path) -> str:
    size = path.stat().st_size
    if size > 2 * sandbox.MAX_BODY:
        raise ConfigError(f"{path} has {size} bytes, but a template has at most {2 * sandbox.MAX_BODY}.")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error}. Save it as UTF-8.") from error


def _split_source(source: str, where: str) -> tuple[str, str]:
    found = re.match(r"\ufeff?---[ \t]*\r?\n(.*?\r?\n)---[ \t]*\r?\n(.*)", source, re.DOTALL)
    if found is None:
        raise ConfigError(
            f"{where} should begin with a YAML head between two lines `---`, then the prompt's words."
        )
    if _TAG_MARK in source:
        raise ConfigError(f"{where} holds the private character U+E000, which marks slots. Take it out.")
    return found.group(1), found.group(2)


def _default_soft_tokens(sample: Sample) -> int:
    """As many soft tokens as a sample has places or, of a sequence, steps that are seen."""
    places = len(sample.place)
    return places if places > 1 else max(1, len(sample.visible_steps))


def _count_tokens(parts: tuple[str | Slot, ...], tokenizer: Tokenizer) -> int:
    return sum(part.length if isinstance(part, Slot) else len(tokenizer.encode(part)) for part in parts)
