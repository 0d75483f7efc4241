"""The forecaster and its tuning: no leak, resumable, repeatable and safe on disk.

On real data it is better than repeating last year.
"""

import json
import pickle
import signal
import subprocess
import sys
from inspect import signature

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from panels import COST, panel

from drg_lib.base.names import KEYS, DataError
from drg_lib.forecasting.baselines import against_baselines
from drg_lib.forecasting.forecaster import (
    Forecaster,
    load_model,
    make_forecaster,
    of_plain,
    plain,
    save_model,
)
from drg_lib.forecasting.study import Place, finished, next_trial, open_study, running
from drg_lib.forecasting.tuning import fit_and_predict, study_name, trials_table, tune
from drg_lib.forecasting.verdict import best_baseline
from drg_lib.modeling import verdict, what_was_gained
from drg_lib.partitioning import assemble
from drg_lib.pipeline.config import as_dict, compose

SMALL = {
    "randomforest": {"n_estimators": 8},
    "catboost": {"iterations": 15, "depth": 3},
    "hist_gradient_boosting": {"max_iter": 20},
}
MODELS = ["ridge", "randomforest", "catboost", "hist_gradient_boosting"]


def rmse(actual, predicted):
    return float(np.sqrt(np.mean((np.asarray(actual) - np.asarray(predicted)) ** 2)))


def model_config(name, **parameters):
    config = as_dict(compose([f"models={name}"]).models)
    return config | {"parameters": config["parameters"] | SMALL.get(name, {}) | parameters}


@pytest.fixture(scope="module")
def partition():
    values, features = panel()
    return assemble(features, values, COST, 2, 2)


@pytest.fixture(scope="module")
def whole(partition, tmp_path_factory):
    "The finished trials of a study that nothing stopped."
    path = tmp_path_factory.mktemp("study") / "whole.db"
    return finished(tune(*partition, model_config("ridge"), path, n_trials=6))


@pytest.mark.build
@pytest.mark.parametrize("name", MODELS)
def test_every_model_fits_predicts_and_returns(name, partition, tmp_path):
    table, meta = partition
    model, predictions, loss = fit_and_predict(table, meta, model_config(name), {}, n_jobs=2)
    assert np.isfinite(predictions["prediction"]).all() and np.isfinite(loss)
    assert set(predictions["split"]) == {"validation", "test"} and not predictions.duplicated(KEYS).any()
    test = predictions[predictions["split"] == "test"]
    assert rmse(test["target"], test["prediction"]) < rmse(test["target"], test["last_value"])
    sha256 = save_model(model, tmp_path / "model.joblib")
    again = load_model(tmp_path / "model.joblib", sha256)
    assert np.array_equal(again.predict(table), model.predict(table), equal_nan=True)


@pytest.mark.build
def test_tampered_or_missing_model_is_not_read(partition, tmp_path):
    table, meta = partition
    path = tmp_path / "model.joblib"
    sha256 = save_model(make_forecaster(model_config("ridge"), meta, seed=0).fit(table), path)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match="nothing is loaded"):
        load_model(path, sha256)
    with pytest.raises(DataError, match="not there"):
        load_model(tmp_path / "none.joblib", sha256)


@pytest.mark.build
@pytest.mark.parametrize("transform", ["level", "change", "log_change"])
def test_every_transform_returns_to_the_unit(transform, partition):
    table, meta = partition
    meta = meta | {"target": COST | {"transform": transform}}
    known = table.dropna(subset=["last_value"])
    model = make_forecaster(model_config("ridge"), meta, {"alpha": 1.0}).fit(known[known["split"] != "test"])
    test = known[known["split"] == "test"]
    assert abs(model.predict(test).sum() / test["target"].sum() - 1) < 0.2


@pytest.mark.build
def test_change_takes_negative_values():
    values, features = panel()
    shift = values["w_mean_cost"].median()
    values["w_mean_cost"] -= shift
    features[["lag_w_mean_cost", "roll2_w_mean_cost"]] -= shift
    table, meta = assemble(features, values, COST, 2, 3)
    _, predictions, _ = fit_and_predict(table, meta, model_config("ridge"), {})
    assert (predictions["prediction"] < 0).any() and np.isfinite(predictions["prediction"]).all()


@pytest.mark.build
def test_rows_without_last_value_get_nan_and_new_pairs_a_number(partition):
    table, meta = partition
    model = make_forecaster(model_config("ridge"), meta).fit(table)
    rows = table.dropna(subset=["last_value"]).head(3).copy()
    rows["facility_id"], rows["apr_drg_code"] = "new", "999"
    assert np.isfinite(model.predict(rows)).all()
    rows["lag_w_mean_cost"] = np.nan
    assert np.isnan(model.predict(rows)).all()


@pytest.mark.build
def test_growth_stays_within_what_training_saw(partition):
    table, meta = partition
    known = table.dropna(subset=["last_value"])
    model = make_forecaster(model_config("ridge"), meta, {"alpha": 10.0}).fit(known)
    odd = known.head(20).copy()
    odd[[c for c in meta["features"] if c != "lag_w_mean_cost" and c != "lag_gap_years"]] *= 1e6
    growth = model.predict(odd) / odd["last_value"]
    assert growth.between(0.1, 5).all()


@pytest.mark.build
def test_poisoned_validation_year_does_not_reach_its_own_fold(partition):
    table, meta = partition
    fold = meta["folds"][0]
    dirty = table.copy()
    later = dirty["year"] >= fold["validate"]
    dirty.loc[later, "target"] = dirty.loc[later, "target"].sample(frac=1, random_state=0).to_numpy() * 1000
    clean, poisoned = (fit_and_predict(t, meta, model_config("ridge"), {})[1] for t in (table, dirty))
    at = clean["year"] == fold["validate"]
    pd.testing.assert_series_equal(clean.loc[at, "prediction"], poisoned.loc[at, "prediction"])


@pytest.mark.build
def test_same_input_same_trials(partition, tmp_path):
    table, meta = partition
    values = [
        [
            (t.params, t.value, t.state)
            for t in tune(
                table, meta, model_config("randomforest"), tmp_path / f"{i}.db", n_trials=4, n_jobs=2
            ).trials
        ]
        for i in (0, 1)
    ]
    assert values[0] == values[1]


@pytest.mark.build
def test_first_trial_is_the_config(partition, tmp_path):
    table, meta = partition
    config = model_config("ridge")
    first = tune(table, meta, config, tmp_path / "s.db", n_trials=1).trials[0]
    assert first.params == {
        "alpha": config["parameters"]["alpha"],
        "weight_power": config["preparation"]["weight_power"],
    }


@pytest.mark.build
def test_stopped_study_goes_on_to_the_same_end(whole, partition, tmp_path):
    table, meta = partition
    config = model_config("ridge")

    class Killed(BaseException):
        pass

    def kill(study, trial):
        if trial.number == 2:
            raise Killed

    with pytest.raises(Killed):
        tune(table, meta, config, tmp_path / "part.db", n_trials=6, callbacks=[kill])
    resumed = tune(table, meta, config, tmp_path / "part.db", n_trials=6)
    assert len(finished(resumed)) == 6
    assert [(t.params, t.value) for t in finished(resumed)] == [(t.params, t.value) for t in whole]
    completed = [trial for trial in whole if trial.state.name == "COMPLETE"]
    assert resumed.best_params == min(completed, key=lambda trial: trial.value).params
    assert len(tune(table, meta, config, tmp_path / "part.db", n_trials=6).trials) == 6


@pytest.mark.build
def test_trial_left_running_is_run_again(whole, partition, tmp_path):
    table, meta = partition
    config = model_config("ridge")
    study = tune(table, meta, config, tmp_path / "part.db", n_trials=2)
    study.ask()  # as a process leaves it that is killed in the middle of a trial
    resumed = tune(table, meta, config, tmp_path / "part.db", n_trials=4)
    assert [t.params for t in finished(resumed)] == [t.params for t in whole[:4]]


WORKER = """
import json, sys
import pandas as pd
from drg_lib.forecasting.tuning import tune
folder, n = sys.argv[1], int(sys.argv[2])
table, about = pd.read_parquet(folder + "/table.parquet"), json.load(open(folder + "/about.json"))
def say(study, trial): print(trial.number, flush=True)
print("ready", flush=True)
tune(table, about["meta"], about["config"], folder + "/study.db", n_trials=n, callbacks=[say])
"""


def worker(folder, partition, config, n):
    "Another process at the study in `folder`."
    table, meta = partition
    folder.mkdir(exist_ok=True)
    if not (folder / "about.json").exists():
        table.to_parquet(folder / "table.parquet")
        (folder / "about.json").write_text(json.dumps(dict(meta=meta, config=config)))
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(folder), str(n)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_killed_process_loses_no_finished_trial(whole, partition, tmp_path):
    table, meta = partition
    config = model_config("ridge")
    process = worker(tmp_path / "killed", partition, config, 200)
    lines = [process.stdout.readline() for _ in range(4)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert lines[0] == "ready\n" and len(lines[3]), process.stderr.read()
    resumed = tune(table, meta, config, tmp_path / "killed" / "study.db", n_trials=6)
    done = [(t.params, t.value) for t in finished(resumed)]
    assert not running(resumed) and done[:6] == [(t.params, t.value) for t in whole]


def test_two_processes_share_one_study(partition, tmp_path):
    "Each trial is done once, and there are as many as were asked for."
    config, n = model_config("ridge"), 12
    processes = [worker(tmp_path / "shared", partition, config, n) for _ in (0, 1)]
    printed = [p.communicate(timeout=300) for p in processes]
    assert all(p.returncode == 0 for p in processes), printed
    numbers = [int(line) for out, _ in printed for line in out.split()[1:]]
    table, meta = partition
    study = tune(table, meta, config, tmp_path / "shared" / "study.db", n_trials=n)
    assert sorted(numbers) == list(range(n)) and len(study.trials) == len(finished(study)) == n
    assert len({tuple(t.params.values()) for t in study.trials}) == n


@pytest.mark.build
def test_trial_of_a_living_process_is_left_alone(partition, tmp_path):
    table, meta = partition
    config = model_config("ridge")
    path = tmp_path / "s.db"
    with Place(path) as other:
        study = tune(table, meta, config, path, n_trials=2)
        taken, _ = next_trial(other, study, 3)
        with Place(path) as mine:
            assert next_trial(mine, study, 3) is None and len(running(study)) == 1
        study.tell(taken, 1.0)
    assert len(tune(table, meta, config, path, n_trials=3).trials) == 3


HOLDER = """
import sys, time
from drg_lib.forecasting.study import Place
with Place(sys.argv[1]):
    print("here", flush=True)
    time.sleep(600)
"""


def test_a_killed_process_leaves_its_place(tmp_path):
    "The system frees it; the trial that was left running is given out again, at the same place in the study."
    path = tmp_path / "s.db"
    study = open_study("s", path)
    study.ask()
    holders = [
        subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
        for _ in (0, 1)
    ]
    assert all(process.stdout.readline() == "here\n" for process in holders)
    with Place(path) as place:
        for process in holders:
            assert not place.alone() and next_trial(place, study, 1) is None
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert place.alone()
        _, number = next_trial(place, study, 1)
    assert number == 0 and [trial.state.name for trial in study.trials] == ["FAIL", "RUNNING"]


@pytest.mark.build
def test_time_limit_ends_a_study(partition, tmp_path):
    table, meta = partition
    assert (
        len(finished(tune(table, meta, model_config("ridge"), tmp_path / "s.db", n_trials=50, timeout=1e-6)))
        == 1
    )


@pytest.mark.build
def test_trials_are_pruned_across_folds(partition, tmp_path):
    table, meta = partition
    config = model_config("ridge") | {
        "search_space": {"alpha": {"type": "float", "low": 1e-3, "high": 1e9, "log": True}}
    }
    trials = trials_table(tune(table, meta, config, tmp_path / "s.db", n_trials=12))
    stopped = trials[trials["state"] == "pruned"]
    assert (
        len(stopped)
        and (stopped["folds"] < len(meta["folds"])).all()
        and stopped["loss"].isna().all()
        and stopped["last_loss"].notna().all()
    )


@pytest.mark.build
def test_loss_is_relative_to_the_last_value(partition):
    table, meta = partition
    _, predictions, loss = fit_and_predict(table, meta, model_config("ridge"), {})
    past = predictions[predictions["split"] == "validation"]
    expected = np.mean(
        [
            rmse(p["target"], p["prediction"]) / rmse(p["target"], p["last_value"])
            for _, p in past.groupby("year")
        ]
    )
    assert loss == pytest.approx(expected)  # COST names no loss: RMSE


@pytest.mark.build
def test_report_says_when_a_baseline_is_better(partition):
    table, meta = partition
    _, predictions, _ = fit_and_predict(table, meta, model_config("ridge"), {})
    good = against_baselines(
        table, meta, predictions.assign(prediction=predictions["target"] * 1.01), "ridge"
    )
    bad = against_baselines(
        table, meta, predictions.assign(prediction=predictions["prediction"] * 3), "ridge"
    )
    assert set(good["forecast"]) == {
        "ridge",
        "last_value",
        "grown_last_value",
        "two_year_mean",
        "shrunk_mean",
    }
    assert "closer (loss)" in verdict(good, "ridge") and "does not beat" in verdict(bad, "ridge")


def test_the_best_of_equal_baselines_is_the_first_one_named():
    losses = pd.Series({"ridge": 0.5, "last_value": 1.0, "two_year_mean": 1.0})
    assert best_baseline(losses, ["two_year_mean", "last_value"]) == "two_year_mean"
    assert best_baseline(dict(losses), ["last_value", "two_year_mean"]) == "last_value"


def test_picture_says_when_the_search_found_nothing():
    trials = pd.DataFrame({"state": ["complete", "pruned", "complete"], "loss": [0.9, None, 0.95]})
    assert "3 trials found nothing better" in what_was_gained(trials)
    assert "from 0.900 to 0.800" in what_was_gained(trials.assign(loss=[0.9, None, 0.8]))


@pytest.mark.build
def test_other_rows_or_config_begin_another_study(partition):
    table, meta = partition
    config = model_config("ridge")
    name = study_name(table, meta, config, 0, None)
    changed = table.assign(target=table["target"].where(table.index != 0, 1.0))
    assert name == study_name(table.copy(), meta, config, 0, None)
    assert (
        len(
            {
                name,
                study_name(changed, meta, config, 0, None),
                study_name(table, meta, model_config("ridge", alpha=5.0), 0, None),
                study_name(table, meta, config, 1, None),
                study_name(table, meta, config, 0, 100),
            }
        )
        == 5
    )


@pytest.mark.build
def test_any_regressor_joins_by_one_file(partition, tmp_path):
    "configs/models/hist_gradient_boosting.yaml is all that its estimator needed; no module names it."
    table, meta = partition
    config = model_config("hist_gradient_boosting")
    study = tune(table, meta, config, tmp_path / "s.db", n_trials=2)
    assert set(study.best_params) <= set(config["search_space"]) and np.isfinite(
        fit_and_predict(table, meta, config, study.best_params)[2]
    )
    assert not [p for p in (ROOT / "drg_lib").rglob("*.py") if "HistGradientBoosting" in p.read_text()]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"estimator": "sklearn.linear_model.Rigde"}, "cannot be imported"),
        ({"parameters": {"aplha": 1}}, "aplha"),
        ({"encoding": "hot"}, "one_hot, target"),
        ({"preparation": {"scal": True}}, "scal"),
        ({"search_space": {"alpha": {"type": "real", "low": 0, "high": 1}}}, "search_space.alpha"),
    ],
)
def test_faulty_config_is_named(change, message, partition, tmp_path):
    table, meta = partition
    with pytest.raises(DataError, match=message):
        tune(table, meta, model_config("ridge") | change, tmp_path / "s.db", n_trials=1)


def test_forecaster_is_an_estimator():
    from sklearn.base import clone

    model = Forecaster(column="w_mean_cost", parameters={"alpha": 2.0})
    assert clone(model).get_params() == model.get_params()
    assert list(model.get_params()) == sorted(signature(Forecaster).parameters)


def test_a_kept_model_names_no_class_of_the_project(partition):
    """A class may move to another module; models that were kept before are still read."""
    table, meta = partition
    model = make_forecaster(model_config("ridge"), meta).fit(table)
    assert b"drg_lib" in pickle.dumps(model) and b"drg_lib" not in pickle.dumps(plain(model))
    again = of_plain(pickle.loads(pickle.dumps(plain(model))))
    assert np.array_equal(again.predict(table), model.predict(table), equal_nan=True)


def test_champion_beats_every_baseline_on_the_real_panel(medicare_build):
    "2019, which chose nothing: RMSE, MAE and discharge-weighted MAPE below those of all four baselines."
    for target in ("mean_payment", "mean_charge"):
        folder = medicare_build / "results" / "evaluation" / target
        champion = json.loads((folder / "champion.json").read_text())["champion"]
        scores = json.loads((folder / "metrics.json").read_text())
        for metric in ("rmse", "mae", "weighted_ape"):
            assert all(scores[champion][metric] < scores[b][metric] for b in scores["baselines"]), (
                target,
                metric,
            )
