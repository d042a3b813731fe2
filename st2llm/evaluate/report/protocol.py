"""The protocol of a run: data, suite, model, environment and the rules of comparison."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from st2llm.config.predictors import FaultSettings
from st2llm.evaluate.report.cautions import tuning_budget, unknown_sources
from st2llm.evaluate.report.formats import (
    IMPUTATION_NAMES,
    format_duration,
    format_large,
    format_share,
    metric_name,
)
from st2llm.evaluate.run_folder.record import finite_number
from st2llm.evaluate.run_folder.results import RunResults
from st2llm.evaluate.scoring.channels import ChannelScales
from st2llm.evaluate.scoring.gains.interval import MIN_BLOCKS, MIN_SEEDS
from st2llm.tasks import type_of


def describe(results: RunResults) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """The protocol in groups: (title of the group, pairs of name and value)."""
    return (
        ("Data", _data(results)),
        ("Suite and run", _suite(results)),
        ("Language model", _llm(results)),
        ("Environment", _environment(results)),
        ("Rules", _rules_in_words(results)),
    )


def _data(results: RunResults) -> tuple[tuple[str, str], ...]:
    data, split = results.data, results.run.get("split") or {}
    sizes = ", ".join(
        f"{split[key]:,} {key}" for key in ("train", "validation", "test") if split.get(key) is not None
    )
    selected = int(split.get("selected_count") or len(split.get("selected") or []))
    sizes += f"; {selected:,} test windows selected and all scored" if selected else ""
    return _kept(
        ("name", data.get("name")),
        ("what", data.get("description")),
        ("quantity", data.get("quantity")),
        ("channels", _channels(data)),
        ("places", len(data.get("places") or []) or None),
        ("holds", data.get("holds")),
        ("time zone", data.get("timezone")),
        ("windows", sizes),
        ("drift injected into the test windows", _shift(results)),
        ("source", data.get("source")),
        ("licence", data.get("licence")),
        ("citation", data.get("citation")),
        ("known to language models?", data.get("leakage")),
        ("memorisation probe", _memorisation(results)),
        ("preprocessing", "; ".join(map(str, data.get("steps") or []))),
        ("data sha256", results.run.get("data_sha256")),
        ("split sha256", results.run.get("split_sha256")),
    )


def _memorisation(results: RunResults) -> str:
    """What `st2llm probe-memory` found, once for each model."""
    found = (record.memorisation["sentence"] for record in results.records if record.memorisation)
    return "; ".join(dict.fromkeys(found))


def _shift(results: RunResults) -> str:
    """The kinds of drift with their strengths, and from when on; '' where there is none."""
    shift = (results.run.get("config") or {}).get("shift")
    if not shift:
        return ""
    doses = ", ".join(f"{kind} {value * shift['strength']:g}" for kind, value in shift["test"].items())
    after = f", in windows from {shift['after']} on" if shift.get("after") else ""
    return f"{doses}{after}; training and validation windows have none"


def _channels(data: Mapping[str, Any]) -> str:
    """What each of several channels is: unit, role and spread."""
    return "; ".join(
        f"{channel.name}: {channel.label}, {channel.role}, standard deviation {channel.spread:.4g} in training"
        for channel in ChannelScales.from_json(data).channels
    )


def _suite(results: RunResults) -> tuple[tuple[str, str], ...]:
    run, suite, config = results.run, results.run["suite"], results.run.get("config") or {}
    hashes = sorted({str(value) for value in (run.get("encoder_sha256") or {}).values()})
    commit = ", then ".join(dict.fromkeys(results.commits))
    commit += " with uncommitted changes" if results.was_dirty and commit else ""
    budget = config.get("budget") or {}
    started = run.get("started")
    if isinstance(started, (int, float)):
        started = datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds")
    return _kept(
        ("suite", f"{suite.get('id')} version {suite.get('version')}"),
        ("tasks", ", ".join(results.tasks)),
        ("seeds", ", ".join(map(str, run.get("seeds") or []))),
        (
            "budget of each trained arm",
            ", ".join(f"{k} {_plain(v)}" for k, v in budget.items() if v is not None),
        ),
        ("bootstrap", ", ".join(f"{k} {_plain(v)}" for k, v in (config.get("bootstrap") or {}).items())),
        ("commit", commit),
        ("kept from earlier starts, not in the suite now", ", ".join(_kept_arms(results))),
        ("started", started),
        ("took", format_duration(finite_number(run.get("seconds"))) if run.get("seconds") else None),
        ("config sha256", run.get("config_sha256")),
        ("initial encoder sha256", ", ".join(hashes)),
    )


def _kept_arms(results: RunResults) -> list[str]:
    """Predictors in the results that the last start of the run did not name."""
    resumed = results.run.get("resumed") or [{}]
    reported = {record.predictor for record in results.records}
    return [name for name in resumed[-1].get("kept", []) if name in reported]


def _llm(results: RunResults) -> tuple[tuple[str, str], ...]:
    llm = results.run.get("llm")
    if not llm:
        return (("took part", "no"),)
    parameters, is_local = (
        finite_number(llm.get("params")),
        llm.get("depth_full") is not None,
    )  # not of an endpoint
    return _kept(
        ("name", llm.get("name")),
        ("layers", f"{llm.get('depth') or llm['depth_full']} of {llm['depth_full']}" if is_local else None),
        ("dtype", llm.get("dtype")),
        ("quantisation", llm.get("quant") or ("none" if is_local else None)),
        ("parameters", format_large(parameters) if parameters else None),
        ("weights sha256", llm.get("sha256")),
    )


def _environment(results: RunResults) -> tuple[tuple[str, str], ...]:
    versions = results.run.get("environment") or {}
    return _kept(*((str(key).replace("_", " "), _plain(v)) for key, v in versions.items() if v is not None))


def _scaled_in_words(results: RunResults) -> str:
    if len(results.targets) < 2:
        return ""
    return (
        " Scaled metrics divide each error by the standard deviation of its channel in training, so that channels of "
        "different units are pooled. The MAE of each channel is in its own unit."
    )


def _rules_in_words(results: RunResults) -> tuple[tuple[str, str], ...]:
    gain = (
        "(reference error − LLM error) / reference error"
        if results.relative
        else "LLM score − reference score"
    )
    return (
        (
            "windows",
            "All predictors get the same samples (visible values, side information). Every selected window is scored.",
        ),
        *_told(results),
        (
            "pooling",
            "Metrics pool over all valid entries of all places and steps, in raw units; missing truth is left out."
            + _scaled_in_words(results),
        ),
        *_estimators(results),
        (
            "gain",
            f"{gain} on {metric_name(results.primary)}, over windows both arms predicted. Positive: the LLM is better.",
        ),
        (
            "best reference",
            "The arm that is best on validation among all without pretrained LLM weights; never chosen on test.",
        ),
        (
            "intervals",
            "95 %, from the crossed effects of blocks and paired seeds on the gain (two-way analysis of variance of "
            "its influence values), with Student's t and Satterthwaite's degrees of freedom. Blocks near in time may "
            "depend on each other (equal-weighted cosine estimator). The interval is widened by how much the choice of "
            "the arm and of the reference on validation flatters them.",
        ),
        (
            "no verdict",
            f"Under {MIN_BLOCKS} blocks, under {MIN_SEEDS} seeds of a trained arm, without a validation score, and "
            "where a control did not pass.",
        ),
        (
            "equivalent",
            "The 90 % interval lies within the margin of the suite (two one-sided tests at 5 %).",
        ),
        (
            "several arms",
            "Holm p: the probability of a gain this far from zero if there were none, corrected for all LLM arms.",
        ),
        *_fitted_on(results),
        *_faults(results),
        *_training(results),
        (
            "unreadable answers",
            "Counted, and penalised in every table: the prediction of the worst null rule replaces them. Scores with "
            f"dropped and imputed ({imputation_name(results)}) answers are given too. Of several draws, "
            f"{draw_rule(results)} counts.",
        ),
        (
            "cached answers",
            "A cached answer costs the seconds that it took when it was generated.",
        ),
    )


def _training(results: RunResults) -> tuple[tuple[str, str], ...]:
    """How the arms of this run were trained: budgets, learning rates and first weights; empty without trained arms."""
    arms = [row for row in results.records if row.seed is None and row.lr is not None]
    if not arms:
        return ()
    budgets: dict[str, list[str]] = {}
    for row in arms:
        if text := tuning_budget(row):
            budgets.setdefault(text, []).append(row.predictor)
    trained = "; ".join(f"{', '.join(dict.fromkeys(names))}: {text}" for text, names in budgets.items())
    recorded = [row.training["lr_candidates"] for row in arms if row.training]
    listed = ((results.run.get("config") or {}).get("budget") or {}).get("lr")
    rates = {tuple(each) for each in recorded or ([listed] if listed else [])}
    hashes = (results.run.get("encoder_sha256") or {}).values()
    same = all(" " not in str(value) for value in hashes)
    start = "the same encoder weights for each seed" if same else "different encoder weights"
    return (
        *(
            (("training", f"{trained}. Of a stopped or repeated arm, the mean over seeds."),)
            if trained
            else ()
        ),
        *(("learning rate", _rates_in_words(each)) for each in sorted(rates)),
        *((("start", f"All trained arms start from {start} (compared by hash)."),) if hashes else ()),
    )


def _rates_in_words(rates: Sequence[float]) -> str:
    listed = ", ".join(f"{rate:g}" for rate in rates)
    if len(rates) == 1:
        return f"One learning rate for all trained arms, {listed}; none is chosen."
    return f"Chosen for each arm on validation from {listed}, at the first seed."


def _fitted_on(results: RunResults) -> tuple[tuple[str, str], ...]:
    """What predictors were fitted on, as far as their records say."""
    pooled = [record for record in results.records if record.seed is None and record.fitted_on is not None]
    if not pooled:
        return ()
    unknown: dict[str, list[str]] = {}
    for record in pooled:
        for what in unknown_sources(record):
            unknown.setdefault(what, []).append(record.predictor)
    listed = "; ".join(f"{', '.join(dict.fromkeys(names))}: {what}" for what, names in unknown.items())
    text = "Records state data, time and places of each predictor; none holds a value to be predicted."
    return (("fitted on", f"{text} Unknown: {listed}." if listed else text),)


def _told(results: RunResults) -> tuple[tuple[str, str], ...]:
    """How much of the visible values the prompts of text arms state, where there are such arms."""
    shares = [
        f"{record.predictor} {record.told['values']:,.0f} of {record.told['visible']:,.0f} "
        f"({format_share(record.told['share'])})"
        for record in results.records
        if record.told and record.seed is None
    ]
    if not shares:
        return ()
    return (
        (
            "told to text arms",
            f"A prompt states a part of the visible values, mean over prompts: {'; '.join(shares)}. Means and other "
            f"statistics of several values are not counted. Encoders read all visible values.",
        ),
    )


def _faults(results: RunResults) -> tuple[tuple[str, str], ...]:
    """How faults are detected, where the suite is about faults."""
    content = (results.run.get("config") or {}).get("faults")
    if not content:
        return ()
    settings = FaultSettings.model_validate(content)
    origin = "injected into the test part" if settings.planted else "documented"
    kriging = "krige" in {type_of(task) for task in results.run["config"]["task"]}
    how = (
        " Its prediction knows the other places' readings: each place is left out in turn." if kriging else ""
    )
    return (
        (
            "faults",
            f"{len(results.run.get('faults') or []):,} {origin}; run.json lists them. The anomaly score of a reading "
            f"is its residual divided by the root mean square of the residuals of its place at that hour of the day on "
            f"{settings.training_windows} training windows. An alarm is a score above the "
            f"{100 * settings.threshold_quantile:g} % quantile of these scores on training.{how}",
        ),
        (
            "events",
            "Runs of consecutive readings of a place within a window. A fault is detected, and an alarm correct, where "
            "they overlap. AUPRC is computed over readings. No point adjustment (Kim et al. 2022).",
        ),
    )


def _estimators(results: RunResults) -> tuple[tuple[str, str], ...]:
    """How estimated metrics are computed, where there are any."""
    measured = {name for record in results.records for name in record.measured}
    explanations = {
        "crps": (
            "From the draws of each answer by the fair estimator, whose mean does not depend on their number (Ferro "
            "2014); the absolute error where there is one draw or an imputed forecast."
        ),
        "nll": "Minus the logarithm of the predicted density at the truth, in nats; where there is a density.",
        "cover90": "Share of the truths between the 5 % and 95 % quantiles of a predictor; 90 % if calibrated.",
        "minade_m": "Mean distance of the nearest draw, of at most 20; it falls with their number and spread.",
        "minfde_m": "The last distance of the draw that ends nearest.",
        "energy_m": "Energy score of draws of a path, by the fair estimator, over the root of the steps; proper.",
    }
    return tuple(
        (metric_name(name), explanation) for name, explanation in explanations.items() if name in measured
    )


def _kept(*pairs: tuple[str, Any]) -> tuple[tuple[str, str], ...]:
    """The pairs that have a value."""
    return tuple((name, str(value)) for name, value in pairs if value not in (None, ""))


def _plain(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(_plain(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def imputation_name(results: RunResults) -> str:
    """The rule that is imputed for unreadable answers."""
    return IMPUTATION_NAMES.get(str(results.run["suite"].get("stand_in")), "last value")


def draw_rule(results: RunResults) -> str:
    """How several draws become one prediction."""
    if results.predicts_labels:
        return "the label that most readable draws rank first"
    return "the median of the readable draws"


def block_name(results: RunResults) -> str:
    """The unit of the intervals, in the plural."""
    block = ((results.run.get("config") or {}).get("bootstrap") or {}).get("block") or "day"
    return {"sample": "windows"}.get(str(block), f"{block}s")
