"""Instruction tuning learns answers, is taken up exactly, is the same in two processes, and can be examined."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from accelerate.commands import launch
from support.tiny_llm import tiny

from st2llm.commands.exam import MAJORITY, TUNED, UNTUNED
from st2llm.commands.finetune import run_finetune
from st2llm.config.training import InstructionRecipe
from st2llm.errors import ConfigError, DataError
from st2llm.llm import load_llm
from st2llm.model import checkpoint
from st2llm.model.push import push_checkpoint
from st2llm.train.finetune import InstructionSet, finetune

pytestmark = pytest.mark.slow

__all__ = ["tiny"]
ROOT = Path(__file__).resolve().parents[2]


def write_set(folder: Path, *, rows: int = 60) -> Path:
    """Questions whose answer stands in them: at which hour 12 people walked by."""
    rng = np.random.default_rng(0)
    for part, count in (("train", rows), ("validation", 12), ("test", 24)):
        made = []
        for i in range(count):
            hour, other = rng.choice(10, 2, replace=False).tolist()
            words = f"{other} people walked by at {other}:00. 12 people walked by at {hour}:00."
            made.append(
                {
                    "id": f"{part}-{i}",
                    "sample": f"s{i}",
                    "messages": [
                        {"role": "user", "content": words},
                        {"role": "assistant", "content": str(hour)},
                    ],
                    "truth": str(hour),
                    "topic": "hour",
                    "options": [],
                    "decimals": 0,
                    "within": 0.0,
                }
            )
        place = folder / part
        place.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(made), place / "rows.parquet")
    return folder


def recipe(llm: str, path: Path, **changes) -> InstructionRecipe:
    made = {
        "id": "tiny",
        "llm": {"name": llm, "depth": 2, "dtype": "fp32"},
        "adapt": {"rank": 8, "target_modules": ["q_proj", "v_proj", "up_proj", "down_proj"]},
        "instructions": {"path": str(path), "validation": 12, "test": 24},
        "max_length": 120,
        "budget": {"steps": 12, "batch": 8, "lr": 5e-3, "evaluations": 4},
        **changes,
    }
    return InstructionRecipe.model_validate(made)


def log(out: Path) -> list[dict]:
    lines = (out / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def same(one: Path, other: Path, **tolerance) -> None:
    a, b = (checkpoint.load_weights(folder / "last") for folder in (one, other))
    assert a.keys() == b.keys() and a
    for name in a:
        np.testing.assert_allclose(a[name].numpy(), b[name].numpy(), err_msg=name, **tolerance)


def test_a_killed_run_goes_on_to_the_very_same_end(tmp_path, tiny):
    path = write_set(tmp_path / "set")
    plan = recipe(tiny(), path)
    finetune(plan, str(path), tmp_path / "whole")

    class KilledError(Exception):
        pass

    def kill(step):
        if step == 8:
            raise KilledError

    with pytest.raises(KilledError):
        finetune(plan, str(path), tmp_path / "broken", on_step=kill)
    finetune(plan, str(path), tmp_path / "broken", resume=True)
    assert log(tmp_path / "broken") == log(tmp_path / "whole")
    same(tmp_path / "whole", tmp_path / "broken", atol=0)
    first, last = log(tmp_path / "whole")[0], log(tmp_path / "whole")[-1]
    assert last["validation"] < first["validation"]


def test_packed_rows_train_as_single_ones(tmp_path, tiny):
    path = write_set(tmp_path / "set")
    for pack in (True, False):
        finetune(recipe(tiny(), path, packing=pack), str(path), tmp_path / str(pack))
    same(tmp_path / "True", tmp_path / "False", atol=2e-4)


@pytest.mark.parametrize("config", ["two-processes-cpu", "two-processes-cpu-fsdp"])
def test_two_processes_train_as_one_does(tmp_path, tiny, config):
    """With FSDP, none of them holds a whole layer; what they save is whole."""
    path = write_set(tmp_path / "set")
    plan = recipe(tiny(), path, instructions={"path": str(path), "validation": 12, "test": 0})
    finetune(plan, str(path), tmp_path / "one")
    done = launch_finetune(config, plan, tmp_path / "two")
    assert done.returncode == 0, done.stderr[-2000:]
    same(tmp_path / "one", tmp_path / "two", atol=5e-5)
    for a, b in zip(log(tmp_path / "one"), log(tmp_path / "two"), strict=True):
        assert b == pytest.approx(a, rel=1e-4, abs=1e-4)
    assert checkpoint.load_finetuned_llm(tmp_path / "two", dtype="fp32").depth == 2


def launch_finetune(config, plan, out):
    """`accelerate launch alignment/finetune.py` of a recipe on the CPU."""
    file = out.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(plan.model_dump(mode="json")))
    launched = ["--config_file", str(ROOT / "alignment" / "accelerate" / f"{config}.yaml")]
    script = [str(ROOT / "alignment" / "finetune.py"), str(file), "--out", str(out)]
    return subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *launched, *script],
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "processes", "machines"),
    [
        ("two-processes-cpu", 2, 1),
        ("two-processes-cpu-fsdp", 2, 1),
        ("eight-gpus", 8, 1),
        ("eight-gpus-fsdp", 8, 1),
        ("two-nodes", 16, 2),
    ],
)
def test_accelerate_starts_as_many_processes_as_a_launch_config_says(name, processes, machines):
    """With another `distributed_type`, accelerate starts one process and says nothing."""
    file = str(ROOT / "alignment" / "accelerate" / f"{name}.yaml")
    arguments = ["--config_file", file, "--main_process_ip", "127.0.0.1", "script.py"]
    parsed = launch.launch_command_parser().parse_args(arguments)
    checked = launch._validate_launch_command(parsed)[0]
    sharded = name.endswith("fsdp")
    assert (checked.multi_gpu, bool(checked.use_fsdp)) == (not sharded, sharded) and not checked.use_deepspeed
    assert not sharded or int(checked.fsdp_version) == 2
    assert (checked.num_processes, checked.num_machines) == (processes, machines)


def test_the_exam_marks_before_and_after_and_the_rule(tmp_path, tiny):
    path = write_set(tmp_path / "set", rows=200)
    budget = {"steps": 150, "batch": 16, "lr": 1e-2, "evaluations": 3}
    run_finetune(recipe(tiny(), path, budget=budget), tmp_path / "out")
    records = {
        r["predictor"]: r
        for r in map(json.loads, (tmp_path / "out" / "results.jsonl").read_text().splitlines())
    }
    assert set(records) == {TUNED, UNTUNED, MAJORITY}
    assert all(record["n"] == 24 for record in records.values())
    assert records[TUNED]["unread"] == 0
    assert records[TUNED]["exact"]["value"] > records[UNTUNED]["exact"]["value"]
    page = (tmp_path / "out" / "report.md").read_text()
    assert "points over zero-shot" in page and "| hour | 24 |" in page
    answers = [json.loads(line) for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()]
    right = [a["right"] for a in answers if a["predictor"] == TUNED]
    assert sum(r is True for r in right) / 24 == pytest.approx(records[TUNED]["exact"]["value"])


def test_the_tuned_model_has_what_was_learned_in_its_weights(tmp_path, tiny):
    path = write_set(tmp_path / "set")
    finetune(recipe(tiny(), path), str(path), tmp_path / "out")
    tuned = checkpoint.load_finetuned_llm(tmp_path / "out", dtype="fp32")
    plain = load_llm(tiny(), depth=2, dtype="fp32")
    assert tuned.sha256 != plain.sha256 and tuned.identity != plain.identity
    assert tuned.fingerprint() != plain.fingerprint()
    assert not any("lora_" in name for name, _ in tuned.model.named_parameters())


@pytest.mark.parametrize("key", ["sha256", "config_sha256"])
def test_an_adapter_is_not_put_on_another_base(tmp_path, tiny, key):
    path = write_set(tmp_path / "set")
    finetune(recipe(tiny(), path), str(path), tmp_path / "out")
    base = tmp_path / "out" / "best" / "base.json"
    said = json.loads(base.read_text())
    base.write_text(json.dumps({**said, key: "0" * 64}))
    with pytest.raises(ConfigError, match="was trained on .* Load the one that base.json names"):
        checkpoint.load_finetuned_llm(tmp_path / "out")


def test_rows_that_are_too_long_are_left_out_and_counted(tmp_path, tiny):
    path = write_set(tmp_path / "set")
    first = pq.read_table(path / "train" / "rows.parquet").to_pylist()
    for row in first[:5]:
        row["messages"][0]["content"] *= 20
    pq.write_table(pa.Table.from_pylist(first), path / "train" / "rows.parquet")
    finetune(recipe(tiny(), path), str(path), tmp_path / "out")
    assert (
        "| rows left out (longer than 120 tokens) | 5 |"
        in (tmp_path / "out" / "last" / "README.md").read_text()
    )


def test_a_run_that_trains_nothing_and_a_set_that_is_none_are_refused(tmp_path, tiny):
    path = write_set(tmp_path / "set")
    with pytest.raises(ConfigError, match="nothing would be trained"):
        finetune(recipe(tiny(), path, adapt={"method": "frozen"}), str(path), tmp_path / "a")
    with pytest.raises(DataError, match="no instruction set at"):
        InstructionSet(str(tmp_path / "nowhere"))
    pq.write_table(pa.table({"words": ["a"]}), tmp_path / "other.parquet")
    (tmp_path / "wrong").mkdir()
    pq.write_table(pa.table({"words": ["a"]}), tmp_path / "wrong" / "train.parquet")
    with pytest.raises(DataError, match="should have a column `messages`"):
        InstructionSet(str(tmp_path / "wrong"))


def test_a_pushed_and_merged_checkpoint_is_a_plain_model_that_says_the_same(tmp_path, tiny):
    path = write_set(tmp_path / "set")
    finetune(recipe(tiny(), path), str(path), tmp_path / "out")
    where = push_checkpoint(tmp_path / "out", str(tmp_path / "merged"), merged=True)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        plain = load_llm(where, dtype="fp32").model(input_ids=ids).logits
        tuned = checkpoint.load_finetuned_llm(tmp_path / "out", dtype="fp32").model(input_ids=ids).logits
    torch.testing.assert_close(plain, tuned)
    whole = push_checkpoint(tmp_path / "out", str(tmp_path / "copy"))
    assert (
        checkpoint.load_weights(Path(whole)).keys()
        == checkpoint.load_weights(tmp_path / "out" / "best").keys()
    )
    with pytest.raises(ConfigError, match="exists already"):
        push_checkpoint(tmp_path / "out", str(tmp_path / "copy"))
    with pytest.raises(ConfigError, match="is not a checkpoint"):
        push_checkpoint(tmp_path / "set", str(tmp_path / "other"))
    assert not (tmp_path / "other").exists()
    secret = tmp_path / "secret"
    secret.write_text("key")
    (tmp_path / "out" / "best" / "notes.txt").symlink_to(secret)
    for merged in (False, True):
        with pytest.raises(ConfigError, match=r"notes.txt is a link to .*secret, outside the checkpoint"):
            push_checkpoint(tmp_path / "out", str(tmp_path / "leak"), merged=merged)
    assert not (tmp_path / "leak").exists()


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_adapters_are_trained_on_a_quantised_base_and_put_on_the_plain_one(tmp_path, tiny, kind):
    path = write_set(tmp_path / "set", rows=120)
    name = tiny(width=64)
    plain = recipe(name, path, budget={"steps": 60, "batch": 8, "lr": 1e-2, "evaluations": 3})
    plan = plain.model_copy(update={"llm": plain.llm.model_copy(update={"quant": kind})})
    run_finetune(plan, tmp_path / "out")
    kept = checkpoint.load_weights(tmp_path / "out" / "last")
    assert kept and all("lora_" in name for name in kept)
    rows = log(tmp_path / "out")
    assert rows[-1]["validation"] < 0.9 * rows[0]["validation"]
    base = json.loads((tmp_path / "out" / "best" / "base.json").read_text())
    assert base["sha256"] == load_llm(name, depth=2, dtype="fp32").sha256
    tuned = checkpoint.load_finetuned_llm(tmp_path / "out", dtype="fp32")
    assert not any("lora_" in name for name, _ in tuned.model.named_parameters())
    records = map(json.loads, (tmp_path / "out" / "results.jsonl").read_text().splitlines())
    assert {record["predictor"] for record in records} == {TUNED, UNTUNED, MAJORITY}
