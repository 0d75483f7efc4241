"""Models against baselines on a real panel.

`python benchmarks/models.py --data ../shared/data/medicare_ny_2011_2019.csv.gz`

Everything is chosen on the validation years: the values that Optuna tries, the weights of the blend, the
champion. The test years are read once, at the end.
`--validation-only` leaves them out: use it while designing.

--ablation   instead of the comparison: the validation loss without each group of features, and with the
             plain features alone
--autogluon  AutoGluon Tabular (medium quality) on the same rows and features, in an environment of its own
             that is made in build/autogluon
--source     a data source of configs/data_sources (medicare_csv); sparcs_csv for the full SPARCS file
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before OpenMP is loaded, which reads it once

from drg_lib.base.names import KEYS
from drg_lib.champion.blend import mean_loss
from drg_lib.champion.coverage import coverage, intervals_of
from drg_lib.champion.forecasts import with_history
from drg_lib.evaluation import add_blend
from drg_lib.forecasting.baselines import BASELINES
from drg_lib.forecasting.forecaster import make_forecaster
from drg_lib.forecasting.inputs import PREPARATION
from drg_lib.forecasting.metrics import relative_loss, score
from drg_lib.forecasting.tuning import fit_and_predict, fold_rows, tune
from drg_lib.partitioning import assemble
from drg_lib.pipeline.config import as_dict, compose
from drg_lib.pipeline.explore import apply_step
from drg_lib.sources.read import read_source
from drg_lib.versions.chain import known_versions, observed_version

ROOT = Path(__file__).resolve().parents[1]
METRICS = ("rmse", "mae", "weighted_ape")
OTHER_MONEY = "other money columns"  # of the target, which `groups_of` fills in
TWO_YEAR_MEANS = ["w_*", "ratio*", "yearly*", "charge*", "sum_total*", "share*"]
GROUPS: dict[str, dict[str, Any]] = {  # what the ablation takes away: changed preparation, and features
    "standing of the pair (shrunk DRG and facility history)": dict(preparation={"standing": False}),
    "share of the distance that chance explains": dict(preparation={"noise_discharges": 0.0}),
    "two-year means": dict(drop=[f"roll2_{pattern}" for pattern in TWO_YEAR_MEANS]),
    "trends of facility and DRG": dict(drop=["lag_facility_trend_*", "lag_drg_trend_*"]),
    "case mix of the facility": dict(drop=["lag_facility_case_mix"]),
    "charge-to-cost (or payment) ratio": dict(drop=["*charge_to_*"]),
    "size quintile and DRG share of the facility": dict(
        drop=["*_yearly_discharge_bin", "*_ratio_drg_facility_vs_year"]
    ),
    OTHER_MONEY: {},
    "years since the last value": dict(drop=["lag_gap_years"], preparation={"gap_power": 0.0}),
    "severity mix": dict(drop=["*share_severity*"]),
}


def tables(source: str, data: str | None) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Observed values and features (v12) of a source, and the source's config."""
    choice = [f"data_sources={source}", *([f"data_sources.path={data}"] if data else [])]
    config = as_dict(compose(choice).data_sources)
    frame, versions = read_source(config), {}
    for version in known_versions():
        parameters = as_dict(compose([*choice, f"data_versions={version}"]).transformation)
        frame = apply_step(version, frame, parameters)[0]
        versions[version] = frame
    return versions[observed_version()], versions["v12"], config


def config_of(group: str, name: str) -> dict[str, Any]:
    """The composed config of one file, such as `config_of("models", "ridge")`."""
    return as_dict(compose([f"{group}={name}"])[group])


def errors(rows: pd.DataFrame, prediction: np.ndarray) -> list[float]:
    """The errors of a forecast, in the order of `METRICS`."""
    scores = score(rows["target"], prediction, rows["last_value"], rows["discharges"])
    return [scores[metric] if scores[metric] is not None else np.nan for metric in METRICS]


def gains(
    rows: pd.DataFrame, prediction: np.ndarray, baseline: np.ndarray, n: int = 1000, seed: int = 0
) -> list[str]:
    """Share of each of the baseline's errors that `prediction` removes.

    Returns
    -------
    list of str
        The middle 95 % of `n` draws of whole facilities, in the order of `METRICS`.
    """
    target, weight = rows["target"].to_numpy(), rows["discharges"].fillna(0.0).to_numpy()
    parts = []
    for forecast in (np.asarray(prediction), np.asarray(baseline)):
        error = np.abs(forecast - target)
        size = np.where(target != 0, np.abs(target), 1)
        parts += [error**2, error, np.where(target != 0, weight * error / size, 0)]
    facility = pd.factorize(rows["facility_id"])[0]
    sums = pd.DataFrame(np.column_stack(parts)).groupby(facility).sum().to_numpy()
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=n) @ sums
    ratio = draws[:, :3] / draws[:, 3:]
    ratio[:, 0] **= 0.5
    bounds = np.quantile(1 - ratio, [0.025, 0.975], axis=0).T
    return [f"{100 * low:+.1f} to {100 * high:+.1f} %" for low, high in bounds]


def show(title: str, rows: list[dict[str, Any]]) -> None:
    """Print a table under its title."""

    def written(value: float) -> str:
        return f"{value:,.4f}" if abs(value) < 10 else f"{value:,.0f}"

    print(f"\n{title}")
    print(pd.DataFrame(rows).to_string(index=False, float_format=written), flush=True)


def groups_of(meta: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the ablation takes away for one target; its other money columns are known here only."""
    column = meta["target"]["column"]
    money = {f.split("_", 1)[1] for f in meta["features"] if f.startswith("lag_w_")} - {column}
    other = [f"{kind}_{name}" for kind in ("lag", "roll2") for name in money]
    return {**GROUPS, OTHER_MONEY: dict(drop=other)}


def dropped_by(config: dict[str, Any]) -> list[str]:
    """Patterns of the features that a model's config leaves out."""
    return list(config["preparation"].get("drop", PREPARATION["drop"]))


def left_out(config: dict[str, Any], change: dict[str, Any]) -> bool:
    """Whether a model's config leaves out all features that a change would take away."""
    return bool(change.get("drop")) and set(change["drop"]) <= set(dropped_by(config))


def changed(config: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """A model's config without a group of features; with it, where the config leaves the group out."""
    preparation = dict(config["preparation"]) | change.get("preparation", {})
    dropped = list(preparation.get("drop", PREPARATION["drop"]))
    if left_out(config, change):
        preparation["drop"] = [pattern for pattern in dropped if pattern not in change["drop"]]
    else:
        preparation["drop"] = [*dropped, *change.get("drop", [])]
    return config | {"preparation": preparation}


def validation_loss(table: pd.DataFrame, meta: dict[str, Any], config: dict[str, Any], seed: int) -> float:
    """Mean of a model's loss over the folds, with the config's own values and no tuning."""
    losses = []
    for fold in meta["folds"]:
        train, validation = fold_rows(table, fold)
        forecaster = make_forecaster(config, meta, {}, seed, 1).fit(train)
        losses.append(relative_loss(validation, forecaster.predict(validation), meta["target"]["loss"]))
    return float(np.mean(losses))


def in_use(change: dict[str, Any], features: Iterable[str]) -> bool:
    """Whether a change takes anything away from these features."""
    return "preparation" in change or any(matches(feature, change["drop"]) for feature in features)


def ablation(table: pd.DataFrame, meta: dict[str, Any], models: list[str], seed: int) -> None:
    """Print each model's validation loss, and how much it rises without a group of features.

    Of a group that the config leaves out it prints how much lower the loss would be with it.
    """
    configs = {name: config_of("models", name) for name in models}
    whole = {name: validation_loss(table, meta, changed(c, {}), seed) for name, c in configs.items()}
    rows = [dict(without="nothing", **whole)]
    for group, change in groups_of(meta).items():
        if not in_use(change, meta["features"]):
            continue
        unused = left_out(next(iter(configs.values())), change)
        losses = {
            name: validation_loss(table, meta, changed(c, change), seed) - whole[name]
            for name, c in configs.items()
        }
        label = group + (" (left out by the config: measured by adding it)" if unused else "")
        rows.append(
            dict(without=label, **{name: loss * (-1 if unused else 1) for name, loss in losses.items()})
        )
    show(
        f"{meta['target']['name']}: validation loss, and what a group of features takes off it "
        "(above 0: it helps)",
        rows,
    )


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name fits one of the patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


AUTOGLUON = """
import json, sys
import pandas as pd
from autogluon.tabular import TabularPredictor
folder, seconds = sys.argv[1], float(sys.argv[2])
about = json.load(open(folder + "/about.json"))
train, test = (pd.read_parquet(f"{folder}/{n}.parquet") for n in ("train", "test"))
for c in about["categorical"]:
    train[c], test[c] = train[c].astype("category"), test[c].astype("category")
predictor = TabularPredictor(
    "target",
    problem_type="regression",
    eval_metric="root_mean_squared_error",
    path=folder + "/ag",
    verbosity=1,
)
predictor.fit(train, presets="medium_quality", time_limit=seconds, num_cpus=2, num_gpus=0)
pd.DataFrame(dict(prediction=predictor.predict(test))).to_parquet(folder + "/made.parquet")
print(predictor.leaderboard(silent=True)[["model", "score_val"]].head(3).to_string(index=False))
"""


def autogluon_python() -> Path:
    """The Python of AutoGluon's environment, which is made on first use."""
    environment = ROOT / "build" / "autogluon"
    python = Path(os.environ.get("DRG_LIB_AUTOGLUON_PYTHON") or environment / "bin" / "python")
    if not python.is_file():
        requirements = ROOT / "benchmarks" / "requirements-autogluon.txt"
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", requirements], check=True)
    return python


def autogluon(table: pd.DataFrame, meta: dict[str, Any], seconds: int, folder: str) -> dict[str, pd.Series]:
    """AutoGluon's forecasts of the test rows: of the level, and of the change relative to the last value."""
    python = autogluon_python()
    known = table[table["last_value"].notna()]
    columns = [*meta["categorical"], "year", "last_value", *meta["features"]]
    train, test = known[known["split"] != "test"], known[known["split"] == "test"]
    typical = known["last_value"].abs().median()

    def size(rows: pd.DataFrame) -> pd.Series:
        return rows["last_value"].abs() + typical

    forecasts = {}
    for name in ("autogluon", "autogluon on the change"):
        change = name != "autogluon"
        work = Path(folder) / f"{meta['target']['name']}-{name.replace(' ', '_')}"
        work.mkdir(parents=True)
        goal = (train["target"] - train["last_value"]) / size(train) if change else train["target"]
        train[columns].assign(target=goal).to_parquet(work / "train.parquet")
        test[columns].to_parquet(work / "test.parquet")
        (work / "about.json").write_text(json.dumps(dict(categorical=meta["categorical"])))
        begun = time.time()
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        subprocess.run([python, "-c", AUTOGLUON, work, str(seconds)], check=True, env=environment)
        print(f"{name}: {time.time() - begun:.0f} s", flush=True)
        prediction = pd.read_parquet(work / "made.parquet")["prediction"].set_axis(test.index)
        forecasts[name] = test["last_value"] + prediction * size(test) if change else prediction
    return forecasts


def learn(
    table: pd.DataFrame, meta: dict[str, Any], name: str, arguments: argparse.Namespace, folder: str
) -> tuple[pd.DataFrame, float]:
    """Tune one model and fit it: its forecasts of the validation and test rows, and its validation loss."""
    begun, config = (time.time(), time.process_time()), config_of("models", name)
    target, seed, jobs = meta["target"]["name"], arguments.seed, arguments.n_jobs
    storage = Path(folder) / f"{target}-{name}.db"
    study = tune(table, meta, config, storage, arguments.n_trials, None, seed, jobs, arguments.max_rows)
    _, forecasts, loss = fit_and_predict(table, meta, config, study.best_params, seed, jobs)
    best = json.dumps({key: round(value, 4) for key, value in study.best_params.items()})
    wall, cpu = time.time() - begun[0], time.process_time() - begun[1]
    print(f"{target} {name}: {wall:.0f} s wall, {cpu:.0f} s CPU, {best}", flush=True)
    return forecasts, loss


def scored_lines(
    test: pd.DataFrame, forecasts: dict[str, np.ndarray], losses: dict[str, float], champion: str
) -> list[dict[str, Any]]:
    """A line of the comparison for each forecast: validation loss, errors, gain over the best baseline."""
    scores = {name: errors(test, forecast) for name, forecast in forecasts.items()}
    best = min(BASELINES, key=lambda name: scores[name][0])
    lines = []
    for name, forecast in forecasts.items():
        ranges = ["", "", ""] if name == best else gains(test, forecast, forecasts[best])
        lines.append(
            dict(
                forecast=name + (" (champion)" if name == champion else ""),
                validation=losses.get(name, np.nan),
                **dict(zip(METRICS, scores[name])),
                **{f"{metric} less than {best}": text for metric, text in zip(METRICS, ranges)},
            )
        )
    return lines


def against(test: pd.DataFrame, forecasts: dict[str, np.ndarray], champion: str, other: str) -> str:
    """How much smaller the champion's errors are than another forecast's, with ranges."""
    ours, theirs = errors(test, forecasts[champion]), errors(test, forecasts[other])
    ranges = gains(test, forecasts[champion], forecasts[other])
    parts = [
        f"{metric} less by {1 - a / b:+.1%} ({text})"
        for metric, a, b, text in zip(METRICS, ours, theirs, ranges)
    ]
    return f"{champion} against {other}: " + "; ".join(parts)


def coverage_sentence(rows: pd.DataFrame, champion: str) -> str:
    """What share of the test years' outcomes each of the champion's intervals held."""
    covered = coverage(intervals_of(rows, champion)[1])
    parts = [
        f"{100 * level:.0f} % intervals held {share:.1%} (width {100 * width:.1f} % of the forecast)"
        for level, share, width in zip(covered["level"], covered["coverage"], covered["width"])
    ]
    return f"{champion}: " + "; ".join(parts)


def compare(
    table: pd.DataFrame, meta: dict[str, Any], models: list[str], arguments: argparse.Namespace, folder: str
) -> None:
    """Tune the models, choose the champion on the validation years, print all errors of the test years."""
    target, loss = meta["target"]["name"], meta["target"]["loss"]
    learned = {name: learn(table, meta, name, arguments, folder) for name in models}
    losses = {name: validation for name, (_, validation) in learned.items()}
    predictions = {name: rows["prediction"] for name, (rows, _) in learned.items()}
    first = learned[models[0]][0].drop(columns="prediction")
    rows = with_history(first.assign(**predictions), table)
    if len(models) > 1:
        rows, weights, losses["blend"] = add_blend(rows, models, loss)
        print("weights of the blend:", json.dumps(weights))
    champion = min(losses, key=lambda name: losses[name])
    past, test = rows[rows["split"] == "validation"], rows[rows["split"] == "test"]
    names = [*BASELINES, *losses]
    losses |= {name: mean_loss(past, past[name], loss) for name in BASELINES}
    if arguments.validation_only:
        ranked = [dict(forecast=n, loss=v) for n, v in sorted(losses.items(), key=lambda item: item[1])]
        show(f"{target}: validation loss (1 = last value), champion {champion}", ranked)
        return
    forecasts = {name: test[name].to_numpy() for name in names}
    others = autogluon(table, meta, arguments.seconds, folder) if arguments.autogluon else {}
    forecasts |= {name: on_rows(test, table, forecast) for name, forecast in others.items()}
    if arguments.keep:
        test.assign(**forecasts).to_parquet(Path(arguments.keep) / f"{target}.parquet")
    report(meta, rows, forecasts, losses, champion, list(others))


def on_rows(test: pd.DataFrame, table: pd.DataFrame, forecast: pd.Series) -> np.ndarray:
    """A forecast of the partition's rows in the order of the test rows."""
    keys = pd.MultiIndex.from_frame(table.loc[forecast.index, KEYS])
    return pd.Series(forecast.to_numpy(), keys).reindex(pd.MultiIndex.from_frame(test[KEYS])).to_numpy()


def report(
    meta: dict[str, Any],
    rows: pd.DataFrame,
    forecasts: dict[str, np.ndarray],
    losses: dict[str, float],
    champion: str,
    others: list[str],
) -> None:
    """Print the comparison on the test years."""
    test = rows[rows["split"] == "test"]
    years = ", ".join(map(str, meta["test_years"]))
    show(
        f"{meta['target']['name']}: test year{'s' if len(meta['test_years']) > 1 else ''} {years}, "
        f"{len(test):,} rows; ranges: paired bootstrap over facilities, 95 %",
        scored_lines(test, forecasts, losses, champion),
    )
    for other in others:
        print(against(test, forecasts, champion, other))
    print(coverage_sentence(rows, champion))
    scores = {name: errors(test, forecasts[name]) for name in (champion, *BASELINES)}
    beaten = all(a < b for name in BASELINES for a, b in zip(scores[champion], scores[name]))
    print(f"{champion} {'beats' if beaten else 'does not beat'} every baseline on {', '.join(METRICS)}")


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    models = ["ridge", "randomforest", "catboost", "hist_gradient_boosting"]
    option: Callable[..., Any] = parser.add_argument
    option("--source", default="medicare_csv")
    option("--data", help="the source's file")
    option("--targets", nargs="+", help="names of configs/target; those of the source by default")
    option("--models", nargs="+", default=models)
    option("--n-trials", type=int, default=30)
    option("--max-rows", type=int, default=None, help="training rows a fold while tuning")
    option("--n-jobs", type=int, default=2)
    option("--seed", type=int, default=0)
    option("--seconds", type=int, default=600, help="for AutoGluon, each fit")
    option("--validation-only", action="store_true")
    option("--ablation", action="store_true")
    option("--autogluon", action="store_true")
    option("--keep", help="a folder for the test rows with all forecasts")
    return parser.parse_args()


def main() -> None:
    """`python benchmarks/models.py --help`."""
    os.chdir(ROOT)
    arguments = parsed()
    data = arguments.data and str(Path(arguments.data).resolve())
    values, features, source = tables(arguments.source, data)
    years = source["n_test_years"], source["n_validation_years"]
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.targets or source["targets"]:
            table, meta = assemble(features, values, config_of("target", name), *years)
            if arguments.ablation:
                ablation(table, meta, arguments.models, arguments.seed)
            else:
                compare(table, meta, arguments.models, arguments, folder)


if __name__ == "__main__":
    main()
