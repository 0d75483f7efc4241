"""Models against baselines on a real panel: `python benchmarks/models.py --data ../shared/data/medicare_ny_2011_2019.csv.gz`.

Everything is chosen on the validation years: values tried by Optuna, weights of the blend, champion. The test years are read once, at the end
(`--validation-only` leaves them out: use it while designing).

--ablation   the validation loss without each group of features, and with the plain features alone, instead of the comparison
--autogluon  AutoGluon Tabular (medium quality) on the same rows and features, in an environment of its own that is made in build/autogluon
--source     a data source of configs/data_sources (medicare_csv); sparcs_csv for the full SPARCS file
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
METRICS = ("rmse", "mae", "weighted_ape")
GROUPS = {  # what the ablation takes away: preparation overrides and feature patterns
    "standing of the pair (shrunk DRG and facility history)": dict(preparation={"standing": False}),
    "share of the distance that chance explains": dict(preparation={"noise_discharges": 0.0}),
    "two-year means": dict(
        drop=[
            "roll2_w_*",
            "roll2_ratio*",
            "roll2_yearly*",
            "roll2_charge*",
            "roll2_sum_total*",
            "roll2_share*",
        ]
    ),
    "trends of facility and DRG": dict(drop=["lag_facility_trend_*", "lag_drg_trend_*"]),
    "case mix of the facility": dict(drop=["lag_facility_case_mix"]),
    "charge-to-cost (or payment) ratio": dict(drop=["*charge_to_*"]),
    "size quintile and DRG share of the facility": dict(
        drop=["*_yearly_discharge_bin", "*_ratio_drg_facility_vs_year"]
    ),
    "other money columns": None,  # of the target; filled in below
    "years since the last value": dict(drop=["lag_gap_years"], preparation={"gap_power": 0.0}),
    "severity mix": dict(drop=["*share_severity*"]),
}


def tables(source, data, folder):
    """v9 and v12 of a source, made in `folder`."""
    from drg_lib.pipeline.config import as_dict, compose
    from drg_lib.pipeline.explore import apply_step
    from drg_lib.sources.read import read_source
    from drg_lib.versions.chain import known_versions

    choice = [f"data_sources={source}", *([f"data_sources.path={data}"] if data else [])]
    config = compose(choice)
    frame, held = read_source(as_dict(config.data_sources)), {}
    for version in known_versions():
        frame = apply_step(
            version, frame, as_dict(compose([*choice, f"data_versions={version}"]).transformation)
        )[0]
        held[version] = frame
    return held["v9"], held["v12"], as_dict(config.data_sources)


def config_of(group, name):
    from drg_lib.pipeline.config import as_dict, compose

    return as_dict(compose([f"{group}={name}"])[group])


def errors(rows, prediction):
    from drg_lib.forecasting.metrics import score

    held = score(rows["target"], prediction, rows["last_value"], rows["discharges"])
    return [held[m] if held[m] is not None else np.nan for m in METRICS]


def gains(rows, prediction, baseline, n=1000, seed=0):
    """Share of each of the baseline's errors that `prediction` removes: middle 95 % of draws of whole facilities."""
    target, weight = rows["target"].to_numpy(), rows["discharges"].fillna(0.0).to_numpy()
    parts = []
    for p in (np.asarray(prediction), np.asarray(baseline)):
        error = np.abs(p - target)
        parts += [
            error**2,
            error,
            np.where(target != 0, weight * error / np.where(target != 0, np.abs(target), 1), 0),
        ]
    facility = pd.factorize(rows["facility_id"])[0]
    sums = pd.DataFrame(np.column_stack(parts)).groupby(facility).sum().to_numpy()
    draws = (
        np.random.default_rng(seed).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=n) @ sums
    )
    ratio = draws[:, :3] / draws[:, 3:]
    ratio[:, 0] **= 0.5
    return [
        f"{100 * low:+.1f} to {100 * high:+.1f} %"
        for low, high in np.quantile(1 - ratio, [0.025, 0.975], axis=0).T
    ]


def show(title, rows):
    print(f"\n{title}")
    print(
        pd.DataFrame(rows).to_string(
            index=False, float_format=lambda v: f"{v:,.4f}" if abs(v) < 10 else f"{v:,.0f}"
        ),
        flush=True,
    )


def ablation(table, meta, models, seed):
    """Validation loss of each model, and how much it rises without a group of features; of a group that the config leaves out, how much lower it would be with it."""
    from drg_lib.forecasting.forecaster import PREPARATION, make_forecaster
    from drg_lib.forecasting.metrics import relative_loss
    from drg_lib.forecasting.tuning import fold_rows

    column = meta["target"]["column"]
    other = [
        f"{kind}_{c}"
        for kind in ("lag", "roll2")
        for c in {f.split("_", 1)[1] for f in meta["features"] if f.startswith("lag_w_")}
        if c != column
    ]
    groups = {**GROUPS, "other money columns": dict(drop=other)}

    def loss(config, change):
        preparation = dict(config["preparation"]) | change.get("preparation", {})
        out = list(preparation.get("drop", PREPARATION["drop"]))
        preparation["drop"] = (
            [p for p in out if p not in change["drop"]]
            if left_out(config, change)
            else [*out, *change.get("drop", [])]
        )
        return np.mean(
            [
                relative_loss(
                    v,
                    make_forecaster(config | {"preparation": preparation}, meta, {}, seed, 1)
                    .fit(t)
                    .predict(v),
                    meta["target"]["loss"],
                )
                for t, v in (fold_rows(table, fold) for fold in meta["folds"])
            ]
        )

    def left_out(config, change):
        return bool(change.get("drop")) and set(change["drop"]) <= set(
            config["preparation"].get("drop", PREPARATION["drop"])
        )

    configs = {name: config_of("models", name) for name in models}
    whole = {name: loss(c, {}) for name, c in configs.items()}
    rows = [dict(without="nothing", **whole)]
    for group, change in groups.items():
        if any(k in change for k in ("preparation",)) or any(
            matches(f, change["drop"]) for f in meta["features"]
        ):
            unused = left_out(next(iter(configs.values())), change)
            rows.append(
                dict(
                    without=group + (" (left out by the config: measured by adding it)" if unused else ""),
                    **{
                        name: (loss(c, change) - whole[name]) * (-1 if unused else 1)
                        for name, c in configs.items()
                    },
                )
            )
    show(
        f"{meta['target']['name']}: validation loss, and what a group of features takes off it (above 0: it helps)",
        rows,
    )


def matches(name, patterns):
    from fnmatch import fnmatchcase

    return any(fnmatchcase(name, p) for p in patterns)


AUTOGLUON = """
import json, sys
import pandas as pd
from autogluon.tabular import TabularPredictor
folder, seconds = sys.argv[1], float(sys.argv[2])
about = json.load(open(folder + "/about.json"))
train, test = (pd.read_parquet(f"{folder}/{n}.parquet") for n in ("train", "test"))
for c in about["categorical"]: train[c], test[c] = train[c].astype("category"), test[c].astype("category")
predictor = TabularPredictor("target", problem_type="regression", eval_metric="root_mean_squared_error", path=folder + "/ag", verbosity=1)
predictor.fit(train, presets="medium_quality", time_limit=seconds, num_cpus=2, num_gpus=0)
pd.DataFrame(dict(prediction=predictor.predict(test))).to_parquet(folder + "/made.parquet")
print(predictor.leaderboard(silent=True)[["model", "score_val"]].head(3).to_string(index=False))
"""


def autogluon(table, meta, seconds, folder):
    """AutoGluon's forecasts of the test rows: of the level, and of the relative change since the last value."""
    environment = ROOT / "build" / "autogluon"
    python = Path(os.environ.get("DRG_LIB_AUTOGLUON_PYTHON") or environment / "bin" / "python")
    if not python.is_file():
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        subprocess.run(
            [
                python,
                "-m",
                "pip",
                "install",
                "--quiet",
                "-r",
                ROOT / "benchmarks" / "requirements-autogluon.txt",
            ],
            check=True,
        )
    known = table[table["last_value"].notna()]
    columns = [*meta["categorical"], "year", "last_value", *meta["features"]]
    train, test, made = known[known["split"] != "test"], known[known["split"] == "test"], {}
    for name in ("autogluon", "autogluon on the change"):
        change = name != "autogluon"
        size = lambda rows: rows["last_value"].abs() + known["last_value"].abs().median()
        own = Path(folder) / f"{meta['target']['name']}-{name.replace(' ', '_')}"
        own.mkdir(parents=True)
        train[columns].assign(
            target=(train["target"] - train["last_value"]) / size(train) if change else train["target"]
        ).to_parquet(own / "train.parquet")
        test[columns].to_parquet(own / "test.parquet")
        (own / "about.json").write_text(json.dumps(dict(categorical=meta["categorical"])))
        begun = time.time()
        subprocess.run(
            [python, "-c", AUTOGLUON, own, str(seconds)],
            check=True,
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        )
        print(f"{name}: {time.time() - begun:.0f} s", flush=True)
        prediction = pd.read_parquet(own / "made.parquet")["prediction"].set_axis(test.index)
        made[name] = test["last_value"] + prediction * size(test) if change else prediction
    return made


def compare(table, meta, models, arguments, folder):
    from drg_lib.base.names import KEYS
    from drg_lib.champion.blend import mean_loss
    from drg_lib.champion.coverage import coverage, intervals_of
    from drg_lib.champion.forecasts import with_history
    from drg_lib.evaluation import add_blend
    from drg_lib.forecasting.baselines import BASELINES
    from drg_lib.forecasting.tuning import fit_and_predict, tune

    loss, held, losses = meta["target"]["loss"], {}, {}
    for name in models:
        begun, config = (time.time(), time.process_time()), config_of("models", name)
        study = tune(
            table,
            meta,
            config,
            Path(folder) / f"{meta['target']['name']}-{name}.db",
            arguments.n_trials,
            None,
            arguments.seed,
            arguments.n_jobs,
            arguments.max_rows,
        )
        _, held[name], losses[name] = fit_and_predict(
            table, meta, config, study.best_params, arguments.seed, arguments.n_jobs
        )
        print(
            f"{meta['target']['name']} {name}: {time.time() - begun[0]:.0f} s wall, {time.process_time() - begun[1]:.0f} s CPU, {json.dumps({k: round(v, 4) for k, v in study.best_params.items()})}",
            flush=True,
        )
    rows = with_history(
        held[models[0]]
        .drop(columns="prediction")
        .assign(**{name: p["prediction"] for name, p in held.items()}),
        table,
    )
    if len(models) > 1:
        rows, weights, losses["blend"] = add_blend(rows, models, loss)
        print("weights of the blend:", json.dumps(weights))
    champion = min(losses, key=losses.get)
    past, test = rows[rows["split"] == "validation"], rows[rows["split"] == "test"]
    names = [*BASELINES, *losses]
    losses |= {b: mean_loss(past, past[b], loss) for b in BASELINES}
    if arguments.validation_only:
        show(
            f"{meta['target']['name']}: validation loss (1 = last value), champion {champion}",
            [dict(forecast=n, loss=v) for n, v in sorted(losses.items(), key=lambda x: x[1])],
        )
        return
    forecasts, others = {name: test[name].to_numpy() for name in names}, []
    if arguments.autogluon:
        others, keys = ["autogluon", "autogluon on the change"], pd.MultiIndex.from_frame(test[KEYS])
        for name, made in autogluon(table, meta, arguments.seconds, folder).items():
            forecasts[name] = (
                pd.Series(made.to_numpy(), pd.MultiIndex.from_frame(table.loc[made.index, KEYS]))
                .reindex(keys)
                .to_numpy()
            )
    if arguments.keep:
        test.assign(**forecasts).to_parquet(Path(arguments.keep) / f"{meta['target']['name']}.parquet")
    scored = {name: errors(test, made) for name, made in forecasts.items()}
    best = min(BASELINES, key=lambda b: scored[b][0])
    lines = []
    for name, made in forecasts.items():
        ranges = ["", "", ""] if name == best else gains(test, made, forecasts[best])
        lines.append(
            dict(
                forecast=name + (" (champion)" if name == champion else ""),
                validation=losses.get(name, np.nan),
                **dict(zip(METRICS, scored[name])),
                **{f"{m} less than {best}": r for m, r in zip(METRICS, ranges)},
            )
        )
    show(
        f"{meta['target']['name']}: test year{'s' if len(meta['test_years']) > 1 else ''} {', '.join(map(str, meta['test_years']))}, {len(test):,} rows; ranges: paired bootstrap over facilities, 95 %",
        lines,
    )
    for other in others:
        print(
            f"{champion} against {other}: "
            + "; ".join(
                f"{m} less by {1 - a / b:+.1%} ({r})"
                for m, a, b, r in zip(
                    METRICS,
                    scored[champion],
                    scored[other],
                    gains(test, forecasts[champion], forecasts[other]),
                )
            )
        )
    covered = coverage(intervals_of(rows, champion)[1])
    print(
        f"{champion}: "
        + "; ".join(
            f"{100 * level:.0f} % intervals held {share:.1%} (width {100 * width:.1f} % of the forecast)"
            for level, share, width in zip(covered["level"], covered["coverage"], covered["width"])
        )
    )
    beaten = all(scored[champion][i] < scored[b][i] for i in range(3) for b in BASELINES)
    print(f"{champion} {'beats' if beaten else 'does not beat'} every baseline on {', '.join(METRICS)}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", default="medicare_csv")
    parser.add_argument("--data", help="the source's file")
    parser.add_argument(
        "--targets", nargs="+", help="names of configs/target; those of the source by default"
    )
    parser.add_argument(
        "--models", nargs="+", default=["ridge", "randomforest", "catboost", "hist_gradient_boosting"]
    )
    parser.add_argument("--n-trials", type=int, default=30)
    parser.add_argument("--max-rows", type=int, default=None, help="training rows a fold while tuning")
    parser.add_argument("--n-jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=int, default=600, help="for AutoGluon, each fit")
    parser.add_argument("--validation-only", action="store_true")
    parser.add_argument("--ablation", action="store_true")
    parser.add_argument("--autogluon", action="store_true")
    parser.add_argument("--keep", help="a folder for the test rows with all forecasts")
    arguments = parser.parse_args()
    from drg_lib.partitioning import assemble

    with tempfile.TemporaryDirectory() as folder:
        values, features, source = tables(
            arguments.source, arguments.data and str(Path(arguments.data).resolve()), folder
        )
        for name in arguments.targets or source["targets"]:
            table, meta = assemble(
                features,
                values,
                config_of("target", name),
                source["n_test_years"],
                source["n_validation_years"],
            )
            if arguments.ablation:
                ablation(table, meta, arguments.models, arguments.seed)
            else:
                compare(table, meta, arguments.models, arguments, folder)


if __name__ == "__main__":
    os.chdir(ROOT)
    main()
