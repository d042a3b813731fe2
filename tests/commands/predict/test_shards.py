"""Predictions in shards: those of one table, by one or several processes and servers, resumed after a kill."""

import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from support.loopback_server import Loopback, loopback
from support.tiny_suite import write_card

from st2llm.commands.predict import cost
from st2llm.commands.predict.cost import PromptCosts, parse_price
from st2llm.commands.predict.shards import ShardRequest, open_shards, predict_shards
from st2llm.commands.predict.table import prediction_table
from st2llm.errors import ConfigError


@pytest.fixture
def town(tmp_path, monkeypatch):
    monkeypatch.setenv("ST2LLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ST2LLM_ANSWERS", "on")
    card = write_card(tmp_path / "town", days=20)
    card.write_text(card.read_text() + "default_task: {forecast: {history: 24, horizon: 6}}\n")
    return str(card)


class Words:
    """A tokenizer of words."""

    def encode(self, text):
        return text.split()

    def decode(self, ids):
        return " ".join(ids)


def _request(town, *servers, **keys):
    urls = ",".join(server.url for server in servers)
    return ShardRequest(f"openai:{urls}#tiny", town, "graph/forecast", shard=20, **keys)


def _hashes(out):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.glob("*.parquet")}


def _text(out):
    """The rows of all shards, in order."""
    return pd.concat([pd.read_parquet(path) for path in sorted(out.glob("*.parquet"))]).to_csv(index=False)


def test_the_shards_together_are_the_table_of_all_samples(town, tmp_path):
    server = Loopback(numbers=True)
    with loopback(server):
        request = _request(town, server)
        done = predict_shards(request, tmp_path / "out")
        opened = open_shards(request, tmp_path)
        samples = list(opened.samples)
        whole = prediction_table(samples, opened.model.predict([s.without_truth() for s in samples]))
    assert done.shards == -(-len(samples) // 20) > 1 and done.unread == 0
    assert _text(tmp_path / "out") == whole.to_csv(index=False)
    assert max(server.answered.values()) == 1  # also the second time, from the cache


@pytest.mark.slow
def test_two_workers_and_two_servers_of_which_one_dies_write_the_same_rows(town, tmp_path):
    one, sound, dying = Loopback(numbers=True), Loopback(numbers=True), Loopback("dies", 10, numbers=True)
    with loopback(one, sound, dying):
        predict_shards(_request(town, one), tmp_path / "one")
        predict_shards(_request(town, sound, dying), tmp_path / "two", workers=2)
    assert _text(tmp_path / "two") == _text(tmp_path / "one")
    assert set((sound.answered + dying.answered).values()) == {1}
    assert dying.answered.total() == 10


@pytest.mark.slow
def test_a_killed_run_goes_on_by_shard_and_asks_for_no_answer_twice(town, tmp_path):
    server, out = Loopback(numbers=True, slow_s=0.3), tmp_path / "out"
    with loopback(server):
        model = f"openai:{server.url}#tiny"
        command = [sys.executable, "-m", "st2llm.cli", "predict", model, "--data", town, "--out", str(out)]
        command += ["--template", "graph/forecast", "--shard", "10", "--workers", "2"]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 120
        while len(list(out.glob("*.parquet"))) < 2 and time.monotonic() < until and running.poll() is None:
            time.sleep(0.01)
        running.kill()
        assert running.wait() == -signal.SIGKILL
        kept = _hashes(out)
        assert len(kept) >= 2
        done = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "predict.json").read_text())["done"]
    after = _hashes(out)
    assert len(after) > len(kept) and {name: after[name] for name in kept} == kept
    in_flight = 2 * 8
    assert sum(count - 1 for count in server.answered.values()) <= in_flight


def test_a_dry_run_counts_all_prompts_and_asks_no_server(town, monkeypatch):
    monkeypatch.setattr(cost, "load_tokenizer", lambda name: Words())
    request = ShardRequest("openai:http://127.0.0.1:9/v1#tiny", town, "graph/forecast", shard=20)
    costs = cost.estimate_costs(request, "words")
    opened = open_shards(request, Path())
    prompts = [prompt for shard in range(opened.shards) for prompt in opened.prompts(shard)]
    assert costs.prompts == len(prompts) == 3 * len(opened.samples)
    assert costs.tokens == sum(len(prompt.text.split()) for prompt in prompts)
    assert costs.lines((1.0, 2.0))[-1] == f"cost {costs.money((1.0, 2.0)):,.2f} at 1 and 2"
    with pytest.raises(ConfigError, match="counts prompts for servers"):
        cost.estimate_costs(ShardRequest("runs/checkpoint", town), "words")


def test_predictions_of_another_model_are_not_resumed(town, tmp_path):
    server, other = Loopback(numbers=True), Loopback(numbers=True)
    with loopback(server, other):
        predict_shards(_request(town, server), tmp_path / "out")
        with pytest.raises(ConfigError, match="Go on with --resume"):
            predict_shards(_request(town, server), tmp_path / "out")
        with pytest.raises(ConfigError, match="predictions with another model"):
            predict_shards(_request(town, other), tmp_path / "out", resume=True)


def test_a_model_on_this_machine_is_not_loaded_by_several_workers(town, tmp_path):
    with pytest.raises(ConfigError, match="--workers should be 1 for a model on this machine"):
        predict_shards(ShardRequest("runs/checkpoint", town), tmp_path / "out", workers=2)


def test_servers_need_a_template_of_the_kind_that_asks_for_a_prediction(town, tmp_path):
    request = ShardRequest("openai:http://127.0.0.1:9/v1#tiny", town)
    with pytest.raises(ConfigError, match="Name their template with --template, for instance graph/forecast"):
        open_shards(request, tmp_path)
    with pytest.raises(ConfigError, match="asks for describe of graph data"):
        open_shards(ShardRequest(request.model, town, "graph/describe"), tmp_path)


def test_costs_are_those_of_true_answers_where_they_are_known():
    costs = PromptCosts(10, 1000, 120, 8, 160, 900)
    assert costs.expected_answer_tokens == 200
    assert costs.money((2.0, 5.0)) == pytest.approx((1000 * 2 + 200 * 5) / 1e6)
    assert PromptCosts(10, 1000, 120, 0, 0, 900).expected_answer_tokens == 900
    assert (costs + costs).longest == 120 and (costs + costs).prompts == 20


@pytest.mark.parametrize("text", ["", "1", "1,2,3", "a,b", "-1,2", "1,inf", "nan,1"])
def test_a_price_of_another_form_is_refused(text):
    with pytest.raises(ConfigError, match="--price should be two numbers"):
        parse_price(text)
