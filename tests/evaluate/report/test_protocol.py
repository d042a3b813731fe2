import json
from dataclasses import replace

from support import fake_run

from st2llm.evaluate.report import protocol
from st2llm.evaluate.report.verdict import compute_verdict
from st2llm.evaluate.run_folder.results import read_results


def told(folder, **extra):
    run = fake_run.write(folder, fake_run.Plan(leave_out=("predictions", "answers"), extra=extra))
    return {title: dict(pairs) for title, pairs in protocol.describe(read_results(run))}


def test_the_protocol_names_split_budget_model_and_environment(tmp_path):
    said = told(tmp_path)
    assert (
        said["Data"]["windows"]
        == "1,460 train, 208 validation, 417 test; 40 test windows selected and all scored"
    )
    assert said["Suite and run"]["budget of each trained arm"] == "steps 300, batch 8, lr 0.001 0.0003"
    assert said["Language model"]["layers"] == "6 of 30"
    assert said["Environment"]["torch"] == "2.13.0+cpu"


def trained(steps=300, rates=(0.001,)):
    """What the records of a run say about training, as `describe_training` gives it."""
    return {
        "warmup_steps": 600, "steps": steps, "batch": 8, "lr_candidates": list(rates), "samples_seen": 21_600,
        "epochs": 1.85,
    }  # fmt: skip


def told_of_training(folder, training, **extra):
    run = fake_run.write(folder, fake_run.Plan(leave_out=("predictions", "answers"), extra=extra))
    lines = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
    for line in lines:
        if line["converged"] is not None:
            line |= {"lr": 0.001, "training": training(line["predictor"])}
    (run / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    results = read_results(run)
    return dict(dict(protocol.describe(results))["Rules"]), compute_verdict(results, results.tasks[0]).about


def test_what_is_said_about_training_is_computed_from_the_run(tmp_path):
    rules, about = told_of_training(tmp_path, lambda name: trained(280 if name == "none" else 300))
    assert (
        "none: 280 steps of batch 8 after 600 of the encoder alone, 1.9 epochs, 1 learning rate"
        in rules["training"]
    )
    assert "llm-frozen" in rules["training"]
    assert rules["learning rate"] == "One learning rate for all trained arms, 0.001; none is chosen."
    assert rules["start"].startswith("All trained arms start from the same encoder weights")
    assert "Tuning: llm-lora 300 steps of batch 8 after 600 of the encoder alone" in about
    assert "; matched 300 steps" in about or "; none 280 steps" in about


def test_a_choice_of_rates_and_different_first_weights_are_told(tmp_path):
    hashes = {"encoder_sha256": {"0": "aa bb"}}
    rules, _ = told_of_training(tmp_path, lambda name: trained(rates=(0.001, 0.0003)), **hashes)
    assert (
        rules["learning rate"] == "Chosen for each arm on validation from 0.001, 0.0003, at the first seed."
    )
    assert rules["start"].startswith("All trained arms start from different encoder weights")


def test_uncommitted_changes_are_told(tmp_path):
    assert told(tmp_path / "dirty", dirty=True)["Suite and run"]["commit"].endswith(
        "with uncommitted changes"
    )
    assert "uncommitted" not in told(tmp_path / "clean", dirty=False)["Suite and run"]["commit"]


def test_what_was_not_recorded_is_not_shown(tmp_path):
    said = told(tmp_path, commit=None, data_sha256=None, environment={}, split={}, llm=None)
    assert "commit" not in said["Suite and run"]
    assert not {"data sha256", "windows"} & set(said["Data"])
    assert said["Environment"] == {}
    assert said["Language model"] == {"took part": "no"}


def test_a_start_in_seconds_is_written_as_a_date(tmp_path):
    assert told(tmp_path, started=0)["Suite and run"]["started"] == "1970-01-01T00:00:00+00:00"


def test_a_package_that_is_not_installed_is_not_listed(tmp_path):
    assert told(tmp_path, environment={"peft": None, "python": "3.11"})["Environment"] == {"python": "3.11"}


def test_what_predictors_were_fitted_on_is_stated_where_it_is_not_known(tmp_path):
    results = read_results(fake_run.write(tmp_path, fake_run.Plan(leave_out=("predictions", "answers"))))
    unknown = {"llm-lora": [{"unknown": "the pre-training text of m"}], "llm-random": []}
    records = tuple(replace(record, fitted_on=unknown.get(record.predictor)) for record in results.records)
    stated = dict(dict(protocol.describe(replace(results, records=records)))["Rules"])["fitted on"]
    assert stated.endswith("Unknown: llm-lora: the pre-training text of m.")
    assert "fitted on" not in dict(dict(protocol.describe(results))["Rules"])
