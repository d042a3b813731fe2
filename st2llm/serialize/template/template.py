"""Prompt templates: Markdown files with a YAML head and a Jinja body, which a person may edit."""

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from st2llm import config, hub, recipes
from st2llm.display import Displayed, Overview
from st2llm.errors import ConfigError, DataError, nearest
from st2llm.files import write_atomically
from st2llm.serialize import KINDS
from st2llm.serialize.answer import formats as answer
from st2llm.serialize.answer.unread import Unread
from st2llm.serialize.template import budget, sandbox
from st2llm.serialize.template.head import TemplateHead, check_head, parse_head
from st2llm.serialize.template.interface import KindSerializer, SerializerOptions
from st2llm.serialize.text.documents import document_texts
from st2llm.serialize.text.told import count_told
from st2llm.types import Grammar, Prediction, Prompt, Sample, Slot, TemplateId, Tokenizer

# A private character marks tags, so that data which looks like a tag is not one. Variables never contain it.
_TAG_MARK = "\ue000"
TEMPLATE_FILE = "template.md"
_TAG = re.compile(r"<(?=soft\b|system>|user>)")
_SLOT = re.compile(_TAG_MARK + r"soft\s+name=([\w-]+)\s+tokens=([1-9][0-9]{0,5})\s*>")
_DATA_SET_VARIABLES = frozenset({"dataset", "description", "quantity", "unit", "soft"})
"""Variables whose values are those of the data set, the same for all samples of it; `soft` may be given."""
_ROLE = re.compile(rf"^{_TAG_MARK}(system|user)>[ \t]*$", re.MULTILINE)


@dataclass(frozen=True)
class _ExpectedAnswer:
    """The correct answer and the grammar of answers, which truncation does not change."""

    truth: str
    grammar: Grammar | None


@dataclass(frozen=True, repr=False)
class Template(Displayed):
    """A prompt template, ready to render samples. Made by `load_prompt` or `parse_template`."""

    head: TemplateHead
    body: sandbox.TemplateBody
    serializer: KindSerializer
    spec: TemplateId
    source: str = ""
    """The text of its file; '' where settings were changed since."""

    @property
    def id(self) -> str:
        return self.spec.id

    @property
    def version(self) -> int:
        return self.spec.version

    @property
    def sha256(self) -> str:
        return self.spec.sha256

    def overview(self) -> Overview:
        """What it is for, the grammar of its answers, and its text."""
        head = self.head
        answer = head.answer.grammar if head.answer is not None else "none"
        names = (("kind", head.kind), ("task", head.task), ("per", head.per), ("format", head.format))
        rows = [("id", self.id), ("version", str(self.version)), *names, ("answer", answer)]
        return Overview(rows, self.source)

    @classmethod
    def from_pretrained(cls, source: str | Path, *, revision: str | None = None) -> "Template":
        """The template that `save_pretrained` wrote into a folder, or into a repository of the hub (`owner/name`).

        Raises ConfigError where there is none, ArtefactError where the repository cannot be had.
        """
        path = hub.local_folder(source, revision=revision) / TEMPLATE_FILE
        if not path.is_file():
            raise ConfigError(
                f"{source} holds no {TEMPLATE_FILE}. Give what `Template.save_pretrained` wrote; `load_prompt` reads "
                f"any other .md file."
            )
        return parse_template(_read_source(path), where=str(path))

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes the template into a folder, as template.md.

        Raises ConfigError for a template whose answer was changed by `with_answer`: no file holds that.
        """
        if not self.source:
            raise ConfigError(
                f"{self.id} was changed by `with_answer`, which its file does not say. Write the settings into "
                f"`answer` of a file of your own and load that."
            )
        write_atomically(
            Path(folder) / TEMPLATE_FILE, lambda file: file.write_bytes(self.source.encode("utf-8"))
        )

    def push_to_hub(self, repository: str) -> str:
        """Uploads the template to a repository of the hub (`owner/name`), by default a private one; its address."""
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return hub.upload(Path(folder), repository)

    def render(
        self,
        sample: Sample,
        *,
        budget: int | None = None,
        tokenizer: Tokenizer | None = None,
        examples: Sequence[Sample] = (),
        soft: int | None = None,
    ) -> Prompt:
        """Renders the prompt of a sample; counts its tokens if a tokenizer is given, and truncates it to a budget.

        budget: maximum number of tokens, including soft tokens and the text of chat messages, without the tokens of the
        chat template. Truncation drops the examples, the first one first, then the documents, the oldest first, then
        the parts in the `drop_order` of the kind; `Prompt.dropped` names them. A template that lists `notes` but not
        `documents` shows documents after the notes. examples: solved samples, the best last; for a template of one
        place they are narrowed to the target place. soft: number of soft tokens; by default one per place of a field,
        and one per visible step of a sequence. Raises DataError if the prompt cannot fit, if the template is for one
        place and the sample asks for several, or if the sample is among its own examples.
        """
        if budget is not None and tokenizer is None:
            raise ConfigError("A budget counts tokens, so render(budget=...) needs tokenizer=... as well.")
        variables, expected = self._variables(sample, examples), self._expected(sample)
        variables["soft"] = soft if soft is not None else _default_soft_tokens(sample)
        if budget is None:
            return self._prompt(sample, variables, expected, (), tokenizer)
        return self._render_within_budget(sample, variables, expected, budget, tokenizer)

    def data_set_of(self, sample: Sample) -> tuple[str, ...] | None:
        """What a text without an answer says of the sample, where that is its data set alone; None where it says more.

        Samples with the same data set have the same prompt, for the same number of soft tokens.
        """
        if (
            self.head.answer is not None
            or self.head.per == "place"
            or self.body.variables - _DATA_SET_VARIABLES
        ):
            return None
        side = sample.side
        return (sample.kind, sample.task, side.dataset, side.description, side.quantity, side.unit)

    def read(self, text: str, sample: Sample) -> Prediction:
        """Reads an answer as a Prediction; its value is None, with a reason, if the answer cannot be read.

        If the template asks for reasoning, the answer is what follows the last cue at the start of a line. Raises
        ConfigError for a template without `answer`, DataError for a sample of another task.
        """
        if self.head.answer is None:
            raise ConfigError(
                f"Template {self.id} has no `answer` in its head, so no answer of it can be read."
            )
        self._require_one_place(sample)
        answer_text = self.head.answer.extract(text)
        if answer_text is None:
            reason = Unread(f"no line that begins with the cue {self.head.answer.cue!r}")
            return Prediction(value=None, raw=text, unread_reason=reason)
        return replace(self.serializer.read(answer_text, sample), raw=text)

    def with_answer(self, settings: Mapping[str, Any]) -> "Template":
        """Returns the template with changed settings of its answer, such as {"strategy": "deltas", "decimals": 1}.

        Its sha256 is computed from that of the file and the settings. Raises ConfigError as for a wrong head.
        """
        where = f"`answer` as set for {self.id}"
        if self.head.answer is None:
            raise ConfigError(f"{where}: the head of the template has no `answer` that could be changed.")
        current = self.head.answer.model_dump(exclude_unset=True, by_alias=True)
        changed = answer.parse_format(
            {**current, "grammar": self.head.answer.grammar, **settings}, where=where
        )
        head = self.head.model_copy(update={"answer": changed})
        check_head(head, where)
        named = f"{self.sha256}\n{json.dumps(dict(settings), sort_keys=True)}"
        spec = replace(self.spec, sha256=hashlib.sha256(named.encode()).hexdigest())
        return replace(self, head=head, serializer=_make_serializer(head), spec=spec, source="")

    def _variables(self, sample: Sample, examples: Sequence[Sample]) -> dict[str, Any]:
        if sample.kind != self.head.kind:
            raise DataError(
                f"Template {self.id} is for kind {self.head.kind}, but {sample.id} is {sample.kind}."
            )
        self._require_one_place(sample)
        if examples and "examples" not in self.body.variables:
            raise ConfigError(
                f"Template {self.id} does not show examples. Take one that lists `examples`, or leave them out."
            )
        solved = [
            self.serializer.example(self._narrow_example(example, sample), sample) for example in examples
        ]
        shared = {"examples": tuple(solved), "documents": document_texts(sample)}
        return {**self.serializer.variables(sample), **shared}

    def _narrow_example(self, example: Sample, sample: Sample) -> Sample:
        """Narrows an example to the sample's place. Raises DataError if it is the sample or has no answer."""
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

    def _require_one_place(self, sample: Sample) -> None:
        if self.head.per == "place" and len(sample.wanted_nodes) != 1:
            cure = (
                f" Narrow it first: sample.at({sample.place[sample.wanted_nodes[0]]!r})."
                if sample.wanted_nodes
                else ""
            )
            raise DataError(
                f"Template {self.id} is for one place, but {sample.id} asks for {len(sample.wanted_nodes)}.{cure}"
            )

    def _expected(self, sample: Sample) -> _ExpectedAnswer:
        head = self.head.answer
        if head is None:
            return _ExpectedAnswer("", None)
        return _ExpectedAnswer(
            head.with_cue(self.serializer.truth(sample)), head.with_reasoning(self.serializer.grammar(sample))
        )

    def _render_within_budget(
        self,
        sample: Sample,
        variables: dict[str, Any],
        expected: _ExpectedAnswer,
        limit: int,
        tokenizer: Tokenizer | None,
    ) -> Prompt:
        named = self.body.variables | ({"documents"} if "notes" in self.body.variables else set())
        used = {name: value for name, value in variables.items() if name in named}
        unused = {name: value for name, value in variables.items() if name not in used}
        steps = list(budget.truncation_steps(used, self.serializer.drop_order))
        return budget.fit_to_budget(
            steps,
            lambda dropped, left: self._prompt(sample, unused | dict(left), expected, dropped, tokenizer),
            limit,
            where=f"{self.id} for {sample.id}",
        )

    def _prompt(
        self,
        sample: Sample,
        variables: dict[str, Any],
        expected: _ExpectedAnswer,
        dropped: tuple[str, ...],
        tokenizer: Tokenizer | None,
    ) -> Prompt:
        shown = variables
        if "documents" not in self.body.variables and variables["documents"]:
            shown = variables | {"notes": (*variables.get("notes", ()), *map(str, variables["documents"]))}
        text = self.body.render(shown)
        messages = self._messages(text) if self.head.format == "chat" else ()
        parts = self._parts("\n\n".join(m["content"] for m in messages) if messages else text)
        return Prompt(
            messages=messages,
            parts=parts,
            truth=expected.truth,
            template=self.spec,
            grammar=expected.grammar,
            dropped=dropped,
            tokens=_count_tokens(parts, tokenizer) if tokenizer is not None else None,
            told=count_told(
                sample,
                {name: variables[name] for name in self.body.variables & set(variables)},
                self.body.attributes,
            ),
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


def _slot_tag(match: re.Match[str]) -> str:
    return Slot(match.group(1), int(match.group(2))).tag


def load_prompt(name: str, root: Path | None = None) -> Template:
    """Loads the template `prompts/<name>.md`, for instance `graph/forecast`, or any other file named `*.md`.

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


def template_names(kind: str) -> list[str]:
    """The names of all templates for a kind of data, sorted."""
    paths = recipes.listing("prompts", f"{kind}/*.md") if kind in KINDS else []
    return sorted(f"{kind}/{path.stem}" for path in paths)


def parse_template(source: str, where: str) -> Template:
    """Parses the source of a template. Raises ConfigError where it is wrong."""
    head_text, body_text = _split_source(source, where)
    content = config.load_yaml(head_text, f"the head of {where}")
    head = parse_head(content, where=f"the head of {where}")
    check_head(head, where)
    body = sandbox.compile_body(_TAG.sub(_TAG_MARK, body_text), where, head.variables)
    try:
        serializer = _make_serializer(head)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    sha256 = hashlib.sha256(source.encode()).hexdigest()
    return Template(head, body, serializer, TemplateId(head.id, head.version, sha256), source)


def _make_serializer(head: TemplateHead) -> KindSerializer:
    return KINDS[head.kind].make(SerializerOptions(head.task, head.per, head.answer, head.settings))


def _find_template(name: str) -> Path:
    """The path of a template by name, in the first root that has it; the working folder is not searched."""
    for root in recipes.roots():
        if (path := root / "prompts" / f"{name}.md").is_file():
            return path
    kind = name.partition("/")[0]
    available = template_names(kind) or [each for known in KINDS for each in template_names(known)]
    raise ConfigError(f"There is no template {name!r}. {nearest(name, available)}")


def _read_source(path: Path) -> str:
    size = path.stat().st_size
    if size > 2 * sandbox.MAX_BODY:
        raise ConfigError(f"{path} has {size} bytes, but a template has at most {2 * sandbox.MAX_BODY}.")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error}. Save it as UTF-8.") from error


def _split_source(source: str, where: str) -> tuple[str, str]:
    match = re.match(r"\ufeff?---[ \t]*\r?\n(.*?\r?\n)---[ \t]*\r?\n(.*)", source, re.DOTALL)
    if match is None:
        raise ConfigError(
            f"{where} should begin with a YAML head between two lines `---`, then the text of the prompt."
        )
    if _TAG_MARK in source:
        raise ConfigError(f"{where} holds the private character U+E000, which marks slots. Take it out.")
    return match.group(1), match.group(2)


def _default_soft_tokens(sample: Sample) -> int:
    """The number of places or, for a sequence, of visible steps."""
    places = len(sample.place)
    return places if places > 1 else max(1, len(sample.visible_steps))


def _count_tokens(parts: tuple[str | Slot, ...], tokenizer: Tokenizer) -> int:
    return sum(part.length if isinstance(part, Slot) else len(tokenizer.encode(part)) for part in parts)
