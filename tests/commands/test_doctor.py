import pytest

from st2llm.commands import doctor


@pytest.fixture(autouse=True)
def nothing_cached(tmp_path, monkeypatch):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/file").write_bytes(bytes(doctor.MIB))
    monkeypatch.setenv("ST2LLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ST2LLM_OFFLINE", "1")


def _facts():
    return {fact.name: fact for fact in doctor.examine()}


def test_every_dependency_has_its_version():
    facts = _facts()
    for name in (
        "torch",
        "transformers",
        "accelerate",
        "peft",
        "bitsandbytes",
        "torch-geometric",
        "datasets",
    ):
        assert facts[name].well
        assert facts[name].value[0].isdigit()


def test_a_missing_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(
        doctor.metadata, "requires", lambda name: ["no-such-package>=1.0", "pytest; extra == 'dev'"]
    )
    fact = _facts()["no-such-package"]
    assert not fact.well
    assert "pip install no-such-package" in fact.value
    assert "pytest" not in _facts()


def test_what_is_not_cached_says_which_command_gets_it():
    fact = _facts()["language model smollm2-135m"]
    assert not fact.well
    assert "st2llm data fetch smollm2-135m" in fact.value


def test_the_size_of_the_cache_and_the_offline_switch_are_told(tmp_path):
    facts = _facts()
    assert facts["folder"].value == f"{tmp_path / 'cache'} (1.0 MiB)"
    assert "off" in facts["network"].value
    assert "cpu" in facts["devices"].value


def test_it_says_how_much_room_kept_answers_take_or_that_none_are_kept(tmp_path, monkeypatch):
    assert _facts()["answers of language models"].value == "not kept (ST2LLM_ANSWERS=off)"
    monkeypatch.setenv("ST2LLM_ANSWERS", "on")
    assert _facts()["answers of language models"].value == "0.0 MiB"
    (tmp_path / "cache/answers").mkdir()
    (tmp_path / "cache/answers/kept").write_bytes(bytes(3 * doctor.MIB))
    assert _facts()["answers of language models"].value == "3.0 MiB"


def test_it_says_which_quantisations_work():
    assert _facts()["quantisation"].value == "int8, nf4"


def test_a_machine_where_none_works_is_not_well(monkeypatch):
    monkeypatch.setattr(doctor.quantise, "available_quantisations", lambda device: ())
    fact = _facts()["quantisation"]
    assert not fact.well
    assert "quant='none'" in fact.value
