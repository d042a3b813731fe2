"""The README of a checkpoint opens its adapter in peft, and that of a merged model describes the merged folder."""

import json
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from st2llm.align.adapters import adapt
from st2llm.config.model import Adaptation
from st2llm.llm import load_llm
from st2llm.llm.model_files import ModelFiles
from st2llm.model import checkpoint
from st2llm.model.push import push_checkpoint

IDS = torch.tensor([[5, 6, 7, 8, 9]])


@pytest.fixture
def saved(tiny, tmp_path):
    """A function that saves a checkpoint with a drawn adapter: its folder, and what the model answers with it."""

    def save(architecture="llama", depth=None, target="q_proj"):
        llm = load_llm(tiny(architecture), depth=depth, dtype="fp32")
        how = Adaptation(method="lora", rank=2, target_modules=(target,))
        adapters = adapt(llm.model, how)
        with torch.no_grad():
            for parameter in adapters:
                parameter.normal_()
            logits = llm.model(input_ids=IDS).logits
        weights = {
            f"backbone.base.{name}": p
            for name, p in llm.model.base_model.named_parameters()
            if "lora_" in name
        }
        checkpoint.save_checkpoint(
            tmp_path / "run/best",
            weights,
            config={"recipe": {"id": "x"}},
            state={"step": 1, "best": 0.5},
            scaler={},
            card="---\nlibrary_name: peft\n---\n# Questions\n\nTuned by st2llm.\n",
            base_model=checkpoint.BaseModel(llm, how),
        )
        return tmp_path / "run/best", logits

    return save


def code_of(readme, folder):
    """The Python of a README, with its folder."""
    (code,) = re.findall(r"```python\n(.*?)```", readme.read_text(), re.DOTALL)
    return code.replace("FOLDER", str(folder))


@pytest.mark.parametrize(
    ("architecture", "depth", "target"),
    [("llama", None, "q_proj"), ("llama", 1, "q_proj"), ("gpt2", 1, "c_attn"), ("gemma", 1, "q_proj")],
)
def test_the_code_of_the_readme_opens_the_model_that_was_trained(saved, architecture, depth, target):
    folder, logits = saved(architecture, depth, target)
    names: dict = {}
    exec(code_of(folder / "README.md", folder), names)
    with torch.no_grad():
        torch.testing.assert_close(names["model"](input_ids=IDS).logits.float(), logits, rtol=1e-4, atol=1e-4)


def test_the_adapter_names_a_folder_that_transformers_opens(saved):
    folder, _ = saved(depth=1)
    base = json.loads((folder / "adapter/adapter_config.json").read_text())["base_model_name_or_path"]
    AutoModelForCausalLM.from_pretrained(base)
    assert "the first 1 of" in (folder / "README.md").read_text()


def test_a_model_of_the_hub_is_named_by_its_id_and_revision(tmp_path):
    folder = tmp_path / "models--org--name/snapshots/abc123"
    files = ModelFiles("org/name", folder, pretrained=True)
    assert (files.source, files.revision) == ("org/name", "abc123")
    copied = ModelFiles(str(folder), folder, pretrained=True)
    assert (copied.source, copied.revision) == (str(folder), None)


def test_a_merged_model_describes_itself_and_not_the_adapter(saved, tmp_path):
    folder, logits = saved(depth=1)
    push_checkpoint(folder, str(tmp_path / "merged"), merged=True)
    text = (tmp_path / "merged/README.md").read_text()
    assert text.startswith("---\nlibrary_name: transformers\n") and "# Questions" in text
    assert "the first 1 of" in text and "adapter/" not in text and "Tuned by st2llm." in text
    code = code_of(tmp_path / "merged/README.md", tmp_path / "merged")
    names: dict = {}
    exec(code, names)
    assert names["tokenizer"].vocab_size == AutoTokenizer.from_pretrained(tmp_path / "merged").vocab_size
    with torch.no_grad():
        torch.testing.assert_close(names["model"](input_ids=IDS).logits, logits, rtol=1e-4, atol=1e-4)


def test_an_uploaded_adapter_names_no_folder_of_this_machine(saved, monkeypatch):
    folder, _ = saved()
    uploaded = {}

    class Hub:
        def create_repo(self, *_, **__): ...

        def upload_folder(self, *, repo_id, folder_path):
            files = [p for p in Path(folder_path).rglob("*") if p.suffix in (".json", ".md")]
            uploaded.update({p.name: p.read_text() for p in files})
            return repo_id

    monkeypatch.setattr("st2llm.hub.HfApi", Hub)
    monkeypatch.setattr(
        checkpoint, "read_base", lambda of: {**json.loads((of / "base.json").read_text()), "id": "org/base"}
    )
    assert push_checkpoint(folder, "hub:me/mine") == "me/mine"
    assert json.loads(uploaded["adapter_config.json"])["base_model_name_or_path"] == "org/base"
    assert "`org/base`" in uploaded["README.md"]
