"The forecaster and its tuning: no leak, resumable, repeatable, safe on disk, and better than repeating last year on real data."
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_partitioning import COST, panel

from drg_lib.core.config import as_dict, compose
from drg_lib.core.schema import KEYS, DataError
from drg_lib.modeling import Forecaster, finished, fit_and_predict, load_model, make_forecaster, rmse, save_model, study_name, tune
from drg_lib.partitioning import assemble

MEDICARE = Path(__file__).resolve().parents[2] / "shared" / "data" / "medicare_ny_2011_2019.csv.gz"
SMALL = {"randomforest": {"n_estimators": 8}, "catboost": {"iterations": 15, "depth": 3}}


def model_config(name, **parameters):
    config = as_dict(compose([f"models={name}"]).models)
    return config | {"parameters": config["parameters"] | SMALL.get(name, {}) | parameters}


@pytest.fixture(scope="module")
def partition():
    values, features = panel()
    return assemble(features, values, COST, 2, 3)


@pytest.mark.parametrize("name", ["ridge", "randomforest", "catboost"])
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


def test_tampered_or_missing_model_is_not_read(partition, tmp_path):
    table, meta = partition
    path = tmp_path / "model.joblib"
    sha256 = save_model(make_forecaster(model_config("ridge"), meta, seed=0).fit(table), path)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match="not loaded"): load_model(path, sha256)
    with pytest.raises(DataError, match="not there"): load_model(tmp_path / "none.joblib", sha256)


@pytest.mark.parametrize("transform", ["level", "change", "log_change"])
def test_every_transform_returns_to_the_unit(transform, partition):
    table, meta = partition
    meta = meta | {"target": COST | {"transform": transform}}
    known = table.dropna(subset=["last_value"])
    model = make_forecaster(model_config("ridge"), meta, {"alpha": 1.0}).fit(known[known["split"] != "test"])
    test = known[known["split"] == "test"]
    assert abs(model.predict(test).sum() / test["target"].sum() - 1) < 0.2


def test_change_takes_negative_values():
    values, features = panel()
    shift = values["w_mean_cost"].median()
    values["w_mean_cost"] -= shift
    features[["lag_w_mean_cost", "roll2_w_mean_cost"]] -= shift
    table, meta = assemble(features, values, COST, 2, 3)
    _, predictions, _ = fit_and_predict(table, meta, model_config("ridge"), {})
    assert (predictions["prediction"] < 0).any() and np.isfinite(predictions["prediction"]).all()


def test_rows_without_last_value_get_nan_and_new_pairs_a_number(partition):
    table, meta = partition
    model = make_forecaster(model_config("ridge"), meta).fit(table)
    rows = table.dropna(subset=["last_value"]).head(3).copy()
    rows["facility_id"], rows["apr_drg_code"] = "new", "999"
    assert np.isfinite(model.predict(rows)).all()
    rows["lag_w_mean_cost"] = np.nan
    assert np.isnan(model.predict(rows)).all()


def test_growth_stays_within_what_training_saw(partition):
    table, meta = partition
    known = table.dropna(subset=["last_value"])
    model = make_forecaster(model_config("ridge"), meta, {"alpha": 10.0}).fit(known)
    odd = known.head(20).copy()
    odd[[c for c in meta["features"] if c != "lag_w_mean_cost" and c != "lag_gap_years"]] *= 1e6
    growth = model.predict(odd) / odd["last_value"]
    assert growth.between(0.1, 5).all()


@pytest.mark.parametrize("name", ["ridge", "randomforest", "catboost"])
def test_poisoned_test_years_change_nothing(name, partition, tmp_path):
    values, features = panel()
    rng = np.random.default_rng(1)
    poisoned = values.copy()
    for year in (2016, 2017):
        at = poisoned["year"] == year
        poisoned.loc[at, "w_mean_cost"] = rng.permutation(poisoned.loc[at, "w_mean_cost"].to_numpy()) * 1000
    results = []
    for held in (values, poisoned):
        table, meta = assemble(features, held, COST, 2, 3)
        study = tune(table, meta, model_config(name), tmp_path / f"{len(results)}.db", n_trials=3)
        results.append((study.study_name, study.best_params, fit_and_predict(table, meta, model_config(name), study.best_params)))
    (name_a, params_a, (_, a, loss_a)), (name_b, params_b, (_, b, loss_b)) = results
    assert (name_a, params_a, loss_a) == (name_b, params_b, loss_b)
    pd.testing.assert_frame_equal(a.drop(columns="target"), b.drop(columns="target"))


def test_poisoned_validation_year_does_not_reach_its_own_fold(partition):
    table, meta = partition
    fold = meta["folds"][0]
    dirty = table.copy()
    later = dirty["year"] >= fold["validate"]
    dirty.loc[later, "target"] = dirty.loc[later, "target"].sample(frac=1, random_state=0).to_numpy() * 1000
    clean, poisoned = (fit_and_predict(t, meta, model_config("ridge"), {})[1] for t in (table, dirty))
    at = clean["year"] == fold["validate"]
    pd.testing.assert_series_equal(clean.loc[at, "prediction"], poisoned.loc[at, "prediction"])


def test_same_input_same_trials(partition, tmp_path):
    table, meta = partition
    values = [[(t.params, t.value, t.state) for t in tune(table, meta, model_config("randomforest"), tmp_path / f"{i}.db", n_trials=4, n_jobs=2).trials] for i in (0, 1)]
    assert values[0] == values[1]


def test_first_trial_is_the_config(partition, tmp_path):
    table, meta = partition
    config = model_config("ridge")
    first = tune(table, meta, config, tmp_path / "s.db", n_trials=1).trials[0]
    assert first.params == {"alpha": config["parameters"]["alpha"], "weight_power": config["preparation"]["weight_power"]}


def test_stopped_study_goes_on_to_the_same_end(partition, tmp_path):
    table, meta = partition
    config = model_config("ridge")
    whole = tune(table, meta, config, tmp_path / "whole.db", n_trials=6)

    class Killed(BaseException): pass
    def kill(study, trial):
        if trial.number == 2: raise Killed
    with pytest.raises(Killed): tune(table, meta, config, tmp_path / "part.db", n_trials=6, callbacks=[kill])
    resumed = tune(table, meta, config, tmp_path / "part.db", n_trials=6)
    assert len(finished(resumed)) == 6
    assert [(t.params, t.value) for t in finished(resumed)] == [(t.params, t.value) for t in finished(whole)]
    assert resumed.best_params == whole.best_params
    assert len(tune(table, meta, config, tmp_path / "part.db", n_trials=6).trials) == 6


def test_trial_left_running_is_run_again(partition, tmp_path):
    table, meta = partition
    config = model_config("ridge")
    whole = tune(table, meta, config, tmp_path / "whole.db", n_trials=4)
    study = tune(table, meta, config, tmp_path / "part.db", n_trials=2)
    study.ask()  # as a process leaves it that is killed in the middle of a trial
    resumed = tune(table, meta, config, tmp_path / "part.db", n_trials=4)
    assert [t.params for t in finished(resumed)] == [t.params for t in finished(whole)]


def test_other_rows_or_config_begin_another_study(partition):
    table, meta = partition
    config = model_config("ridge")
    name = study_name(table, meta, config, 0, None)
    changed = table.assign(target=table["target"].where(table.index != 0, 1.0))
    assert name == study_name(table.copy(), meta, config, 0, None)
    assert len({name, study_name(changed, meta, config, 0, None), study_name(table, meta, model_config("ridge", alpha=5.0), 0, None),
                study_name(table, meta, config, 1, None), study_name(table, meta, config, 0, 100)}) == 5


def test_any_regressor_joins_by_config(partition, tmp_path):
    table, meta = partition
    config = {"name": "boosting", "label": "Histogram boosting", "estimator": "sklearn.ensemble.HistGradientBoostingRegressor", "parameters": {"max_iter": 5},
              "encoding": "target", "search_space": {"learning_rate": {"type": "float", "low": 0.02, "high": 0.3, "log": True}, "max_leaf_nodes": {"type": "categorical", "choices": [7, 15]}}}
    study = tune(table, meta, config, tmp_path / "s.db", n_trials=2)
    assert set(study.best_params) <= {"learning_rate", "max_leaf_nodes"}
    assert np.isfinite(fit_and_predict(table, meta, config, study.best_params)[2])


@pytest.mark.parametrize("change, message", [
    ({"estimator": "sklearn.linear_model.Rigde"}, "cannot be imported"), ({"parameters": {"aplha": 1}}, "aplha"), ({"encoding": "hot"}, "one_hot, target"),
    ({"preparation": {"scal": True}}, "scal"), ({"search_space": {"alpha": {"type": "real", "low": 0, "high": 1}}}, "search_space.alpha")])
def test_faulty_config_is_named(change, message, partition, tmp_path):
    table, meta = partition
    with pytest.raises(DataError, match=message): tune(table, meta, model_config("ridge") | change, tmp_path / "s.db", n_trials=1)


def test_forecaster_is_an_estimator():
    from sklearn.base import clone
    model = Forecaster(column="w_mean_cost", parameters={"alpha": 2.0})
    assert clone(model).get_params() == model.get_params()


@pytest.fixture(scope="module")
def medicare():
    if not MEDICARE.is_file(): pytest.skip(f"the real panel is not at {MEDICARE}")
    from drg_lib.transformation.create_lag_features import create_lag_features
    from drg_lib.transformation.drop_non_lag_columns import drop_non_lag_columns
    from drg_lib.transformation.rolling_features import rolling_features
    raw = pd.read_csv(MEDICARE, dtype={"provider_id": str, "ms_drg_code": str})
    values = pd.DataFrame({"year": raw["year"].astype("int32"), "facility_id": raw["provider_id"], "apr_drg_code": raw["ms_drg_code"].str.zfill(3),
                           "sum_discharges": raw["discharges"].astype("float64"), "w_mean_charge": raw["mean_covered_charge"], "w_mean_payment": raw["mean_total_payment"]})
    values["charge_to_payment_ratio"] = values["w_mean_charge"] / values["w_mean_payment"]
    values = values.sort_values(KEYS, ignore_index=True)
    return values, drop_non_lag_columns(rolling_features(create_lag_features(values, ["sum_*", "w_*", "charge_to_*"], 3))[0], ["lag_*", "roll2_*"])


@pytest.mark.parametrize("target", ["mean_payment", "mean_charge"])
def test_real_panel_beats_last_value_and_trend(target, medicare, tmp_path):
    "The champion by validation years (2016, 2017), on 2019: closer than the last value, and than the last value grown by the trend."
    values, features = medicare
    target = as_dict(compose([f"target={target}"]).target)
    table, meta = assemble(features, values, target, 1, 2)
    assert meta["test_years"] == [2019] and meta["folds"] == [dict(train=[2013], validate=2016), dict(train=[2013, 2016], validate=2017)]
    fitted = {}
    for name in ("ridge", "randomforest", "catboost"):
        config = as_dict(compose([f"models={name}"]).models)
        config["parameters"] |= {"randomforest": {"n_estimators": 40}, "catboost": {"iterations": 100, "learning_rate": 0.1}}.get(name, {})
        fitted[name] = fit_and_predict(table, meta, config, {}, n_jobs=2)
    champion = min(fitted, key=lambda name: fitted[name][2])
    test = fitted[champion][1].query("split == 'test'")
    past = table[(table["split"] != "test") & table["last_value"].notna()]
    growth = (np.log(past["target"] / past["last_value"])).sum() / past["lag_gap_years"].sum()
    trend = test["last_value"] * np.exp(growth * (test["year"] - test["last_year"]).astype(float))
    own, naive, grown = (rmse(test["target"], p) for p in (test["prediction"], test["last_value"], trend))
    assert own < 0.95 * naive and own < 0.98 * grown
    mae = lambda p: (test["target"] - p).abs().mean()
    assert mae(test["prediction"]) < min(mae(test["last_value"]), mae(trend))
