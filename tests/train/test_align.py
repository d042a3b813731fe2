"""align leaves the language model as it was; a bridge is taken up exactly, answers unlabelled data, refuses faults."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from support.tiny_field import write_card
from support.tiny_llm import tiny

from st2llm.commands.align import align_and_report
from st2llm.commands.predict.run import predict_to_file
from st2llm.config.training import SoftTokenRecipe
from st2llm.errors import ConfigError, StorageError, TrainingError
from st2llm.evaluate.run.compare import compare
from st2llm.llm import load_llm
from st2llm.model import checkpoint
from st2llm.predict import checkpoint as checkpointed
from st2llm.predict.arm import predict_in_batches
from st2llm.train.align import align, finetune

pytestmark = pytest.mark.slow

__all__ = ["tiny"]


def recipe(folder: Path, llm: str, **changes) -> SoftTokenRecipe:
    made = {
        "id": "tiny",
        "data": str(write_card(folder / "data")),
        "split": {"stride": 3},
        "task": {"forecast": {"history": 12, "horizon": 6}},
        "encoder": {"d_st": 8, "patch": 6, "layers": 1},
        "llm": {"name": llm, "depth": 2, "dtype": "fp32"},
        "skip": "last",
        "objectives": {"regression": {}},
        "budget": {"steps": 8, "batch": 8, "lr": 1e-3, "evaluations": 4},
        "validation": 12,
        **changes,
    }
    return SoftTokenRecipe.model_validate(made)


def log(out: Path) -> list[dict]:
    lines = (out / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


# Each objective once and each head with several; heads and objectives do not know of each other.
ALIGNMENTS = [
    ("mlp", {"regression": {}}),
    ("resampler", {"language": {}}),
    ("mlp", {"contrast": {}}),
    ("mlp", {"prototypes": {}}),
    ("resampler", {"regression": {}, "language": {"weight": 0.1}, "contrast": {"weight": 0.1}}),
]


@pytest.mark.parametrize(
    ("head", "objectives"), ALIGNMENTS, ids=lambda part: "+".join(part) if isinstance(part, dict) else part
)
def test_align_lowers_its_objective_and_leaves_the_model_bit_for_bit(tmp_path, tiny, objectives, head):
    plain = load_llm(tiny(), depth=2, dtype="fp32").fingerprint()
    up = {"head": head, "tokens": 4, "prototypes": 8}
    plan = recipe(
        tmp_path,
        tiny(),
        objectives=objectives,
        up=up,
        budget={"steps": 30, "batch": 8, "lr": 5e-3, "evaluations": 6},
    )
    done = align(plan, tmp_path / "out")
    assert done.llm.fingerprint() == plain
    rows = checkpoint.read_checkpoint(tmp_path / "out").state["rows"]
    assert min(row[2] for row in rows[1:]) < rows[0][2]
    assert not (tmp_path / "out" / "best" / "adapter").exists()


def test_align_refuses_to_train_the_model_and_finetune_to_leave_it(tmp_path, tiny):
    with pytest.raises(
        ConfigError, match="adapt.method is lora. Leave `adapt` out, or run `st2llm finetune`"
    ):
        align(recipe(tmp_path, tiny(), adapt={"rank": 2}), tmp_path / "out")
    with pytest.raises(ConfigError, match="this is `st2llm align`"):
        finetune(recipe(tmp_path, tiny()), tmp_path / "out")
    with pytest.raises(ConfigError, match="give objectives.regression"):
        finetune(recipe(tmp_path, tiny(), adapt={"rank": 2}, objectives={"language": {}}), tmp_path / "out")


@pytest.mark.parametrize("method", ["lora", "norms"])
def test_a_killed_run_goes_on_to_the_very_same_end(tmp_path, tiny, method):
    plan = recipe(tmp_path, tiny(), adapt={"method": method, "rank": 2})
    finetune(plan, tmp_path / "whole")

    class KilledError(Exception):
        pass

    def kill(step):
        if step == 5:
            raise KilledError

    with pytest.raises(KilledError):
        finetune(plan, tmp_path / "broken", on_step=kill)
    finetune(plan, tmp_path / "broken", resume=True)
    assert log(tmp_path / "broken") == log(tmp_path / "whole")
    a, b = (checkpoint.load_weights(tmp_path / name / "last") for name in ("whole", "broken"))
    assert any(name.startswith("backbone.base.") for name in a)
    for name in a:
        np.testing.assert_array_equal(a[name].numpy(), b[name].numpy(), err_msg=name)


def test_a_checkpoint_answers_without_labels_as_its_run_did(tmp_path, tiny):
    plan = recipe(
        tmp_path, tiny(), adapt={"rank": 2}, budget={"steps": 20, "batch": 8, "lr": 1e-2, "evaluations": 4}
    )
    done = finetune(plan, tmp_path / "out")
    assert predict_to_file(tmp_path / "out", plan.data, tmp_path / "answers.parquet") > 0
    table = pd.read_parquet(tmp_path / "answers.parquet")
    assert "truth" not in table and np.isfinite(table["value"]).all()
    suite = tmp_path / "suite.yaml"
    suite.write_text(
        "id: tiny\nversion: 1\nkind: graph\n"
        f"data: {plan.data}\nsplit: {{stride: 6}}\ntask: {{forecast: {{history: 12, horizon: 6}}}}\n"
        "predictors:\n  - {name: last-value, family: baseline}\n"
        f"  - {{name: tuned, family: primitive, checkpoint: {tmp_path / 'out'}}}\n"
    )
    report = compare(suite, out=tmp_path / "run")
    assert {r["predictor"] for r in report.records} == {"last-value", "tuned"}
    sample = done.validation[0]
    again = checkpointed.load_predictor(tmp_path / "out", name="tuned").predict([sample])[0].value
    here = predict_in_batches(done.arm, done.preprocessor, [sample], batch_size=1, with_instructions=True)[
        0
    ].value
    np.testing.assert_allclose(again, here, rtol=1e-5)


def test_a_checkpoint_fills_gaps_from_the_line_that_it_corrects(tmp_path, tiny):
    plan = recipe(
        tmp_path,
        tiny(),
        task={"impute": {"length": 12, "share": 0.25}},
        skip="linear",
        up={"head": "linear", "token_scale": 20},
        adapt={"method": "norms"},
    )
    done = finetune(plan, tmp_path / "out")
    sample = done.validation[0]
    again = checkpointed.load_predictor(tmp_path / "out", name="filled").predict([sample])[0].value
    (here,) = predict_in_batches(done.arm, done.preprocessor, [sample], batch_size=1, with_instructions=True)
    np.testing.assert_array_equal(again, here.value)


def test_a_second_stage_starts_from_encoder_and_head_of_the_first(tmp_path, tiny):
    align(recipe(tmp_path, tiny(), objectives={"contrast": {}}), tmp_path / "first")
    plan = recipe(
        tmp_path, tiny(), adapt={"rank": 2}, init_from=str(tmp_path / "first"),
        budget={"steps": 1, "batch": 8, "lr": 1e-9, "evaluations": 1},
    )  # fmt: skip
    finetune(plan, tmp_path / "second")
    first, second = (checkpoint.load_weights(tmp_path / name / "best") for name in ("first", "second"))
    for name in first:
        if name.startswith(("encoder.", "up.")):
            np.testing.assert_allclose(second[name].numpy(), first[name].numpy(), atol=1e-7, err_msg=name)


def test_an_encoder_that_was_trained_before_is_held_and_kept(tmp_path, tiny):
    """UrbanGPT's way: the encoder learns the task alone, then what leads to the model is trained and nothing else."""
    budget = {"steps": 30, "batch": 8, "lr": 1e-3}
    plan = recipe(tmp_path, tiny(), warmup=budget, freeze_encoder=True)
    done = align(plan, tmp_path / "held")
    warm = load_file(tmp_path / "held" / "encoder.safetensors")
    fresh = align(recipe(tmp_path, tiny()), tmp_path / "fresh").arm.encoder.state_dict()
    moved = 0
    for name, tensor in done.arm.encoder.state_dict().items():
        assert torch.equal(tensor, warm[name]), name
        moved += not torch.equal(tensor, fresh[name])
    assert moved > 3
    errors = [row["validation"] for row in log(tmp_path / "held")]
    assert min(errors) < errors[0]
    predictor = checkpointed.load_predictor(tmp_path / "held", name="held")
    samples = [sample.without_truth() for sample in done.validation]
    ours = predict_in_batches(done.arm, done.preprocessor, samples, batch_size=8, with_instructions=True)
    for a, b in zip(predictor.predict(samples), ours, strict=True):
        np.testing.assert_allclose(a.value, b.value, rtol=1e-4, atol=1e-4)
    again = align(plan, tmp_path / "held", resume=True)
    assert torch.equal(again.arm.encoder.state_dict()[name], warm[name])


def test_an_encoder_that_was_never_trained_is_not_held(tmp_path, tiny):
    with pytest.raises(ValueError, match="give `init_from` or `warmup`"):
        recipe(tmp_path, tiny(), freeze_encoder=True)
    with pytest.raises(ValueError, match="warmup trains the encoder for the task"):
        recipe(tmp_path, tiny(), warmup={"steps": 3}, objectives={"contrast": {}})


def test_an_aligned_checkpoint_has_no_answers_and_says_what_to_do(tmp_path, tiny):
    plan = recipe(tmp_path, tiny(), objectives={"contrast": {}})
    align(plan, tmp_path / "out")
    with pytest.raises(Exception, match="its head has not been trained to predict"):
        predict_to_file(tmp_path / "out", plan.data, tmp_path / "answers.parquet")
    assert not (tmp_path / "answers.parquet").exists()


def test_another_width_and_another_base_are_refused(tmp_path, tiny):
    plan = recipe(tmp_path, tiny(), adapt={"rank": 2})
    finetune(plan, tmp_path / "out")
    base = tmp_path / "out" / "best" / "base.json"
    said = json.loads(base.read_text())
    base.write_text(json.dumps({**said, "sha256": "f" * 64}))
    with pytest.raises(ConfigError, match="Load the one that base.json names"):
        predict_to_file(tmp_path / "out", plan.data, tmp_path / "answers.parquet")
    wide = recipe(
        tmp_path, tiny(), adapt={"rank": 2}, init_from=str(tmp_path / "out"), encoder={"d_st": 16, "patch": 6}
    )
    with pytest.raises(ConfigError, match="does not fit: encoder"):
        finetune(wide, tmp_path / "wide")
    assert not (tmp_path / "wide").exists() or not list((tmp_path / "wide").glob("best"))


def test_a_loss_that_is_no_number_names_the_step_and_keeps_the_last_good(tmp_path, tiny):
    plan = recipe(
        tmp_path, tiny(), adapt={"rank": 2}, budget={"steps": 40, "batch": 8, "lr": 1e30, "evaluations": 40}
    )
    with pytest.raises(TrainingError, match=r"The loss is nan at step \d+ of 40"):
        finetune(plan, tmp_path / "out")
    weights = checkpoint.load_weights(tmp_path / "out" / "best")
    assert all(np.isfinite(t.numpy()).all() for t in weights.values())


def test_a_full_disk_while_an_adapter_is_saved_keeps_what_was_saved_before(tmp_path, tiny, monkeypatch):
    plan = recipe(tmp_path, tiny(), adapt={"rank": 2})
    real, calls = checkpoint.save_adapter, []

    def full(*args, **more):
        calls.append(1)
        if len(calls) > 2:
            raise OSError(28, "No space left on device")
        return real(*args, **more)

    monkeypatch.setattr(checkpoint, "save_adapter", full)
    with pytest.raises(StorageError, match="No space left on device. The earlier checkpoint is kept"):
        finetune(plan, tmp_path / "out")
    assert checkpoint.load_weights(tmp_path / "out" / "last")
    assert not list((tmp_path / "out").glob(".best.*")) and not list((tmp_path / "out").glob(".last.*"))
    monkeypatch.setattr(checkpoint, "save_adapter", real)
    finetune(plan, tmp_path / "out", resume=True)


def test_a_data_set_that_is_too_small_for_its_split_is_refused_before_anything_is_written(tmp_path, tiny):
    plan = recipe(tmp_path, tiny(), task={"forecast": {"history": 60, "horizon": 6}}, split={"stride": 200})
    with pytest.raises(ConfigError, match="samples for forecast-60-6, but a run needs 2 or more"):
        align(plan, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_report_holds_every_measure_against_random_weights_and_pairs(tmp_path, tiny):
    plan = recipe(tmp_path, tiny(), objectives={"contrast": {}}, validation=24)
    align_and_report(plan, tmp_path / "out")
    content = json.loads((tmp_path / "out" / "alignment.json").read_text())
    assert [one["llm"].startswith("random:") for one in content] == [False, True]
    names = {
        "linear CKA",
        "RSA",
        *(f"{way} @{k}" for k in (1, 5, 10) for way in ("data finds text", "text finds data")),
    }
    for one in content:
        assert set(one["measures"]) == names
        assert all(m["low"] <= m["value"] <= m["high"] for m in one["measures"].values())
    page = (tmp_path / "out" / "alignment.md").read_text()
    assert "random weights, pairs at random" in page and "Nearest words" in page
    assert (tmp_path / "out" / "alignment.png").stat().st_size > 10_000
