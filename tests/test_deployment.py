"The forecast: one row a pair in reach, features as in training, nothing lost in silence."
import numpy as np
import pandas as pd
import pytest
from test_modeling import model_config
from test_partitioning import COST, panel

from drg_lib.core.schema import KEYS, DataError
from drg_lib.deployment import FORECAST_COLUMNS, add_names, check_forecast, expected_change, forecast, forecast_features, future_rows, refit
from drg_lib.partitioning import assemble
from drg_lib.transformation.create_lag_features import create_lag_features
from drg_lib.transformation.drop_non_lag_columns import drop_non_lag_columns
from drg_lib.transformation.rolling_features import rolling_features


def steps(max_gap_years=1):
    return [(create_lag_features, {"columns": ["w_*", "sum_*"], "max_gap_years": max_gap_years}), (rolling_features, {}), (drop_non_lag_columns, {"keep": ["lag_*", "roll2_*"]})]


def through(frame, max_gap_years=1):
    for step, parameters in steps(max_gap_years):
        made = step(frame, **parameters)
        frame = made[0] if isinstance(made, tuple) else made
    return frame


def test_every_pair_is_forecast_or_listed():
    values, _ = panel()
    rows, aside = future_rows(values)
    pairs = values[["facility_id", "apr_drg_code"]].drop_duplicates()
    assert len(rows) + len(aside) == len(pairs) and (rows["year"] == 2018).all()
    assert rows.dtypes.astype(str).to_dict() == values.dtypes.astype(str).to_dict() and rows.drop(columns=KEYS).isna().all(axis=None)
    assert len(aside) and (aside["last_year"] < 2017).all() and aside["reason"].str.contains("2018").all()


def test_features_of_the_future_are_those_of_training():
    "Hide the last year, forecast it, and compare with the features that it really has."
    values, _ = panel()
    known = values[values["year"] < 2017]
    rows, _ = future_rows(known, 2017)
    future, real = forecast_features(known, rows, steps()), through(values).query("year == 2017")
    both = future.merge(real, on=KEYS, suffixes=("", "_real"))
    assert len(both) > 90
    for c in future.columns.difference(KEYS): np.testing.assert_allclose(both[c], both[f"{c}_real"])


def test_forecast_is_whole(tmp_path):
    values, _ = panel()
    table, meta = assemble(through(values), values, COST, 2, 3)
    model = refit(table, meta, {"config": model_config("ridge"), "best_params": {"alpha": 50.0}})
    features = forecast_features(values, future_rows(values)[0], steps())
    made, without = forecast(model, features, COST, "ridge", "v12")
    drgs = pd.DataFrame({"apr_drg_code": ["000"], "apr_drg_description": ["Liver transplant"]})
    result = check_forecast(add_names(made, None, drgs))
    assert list(result) == FORECAST_COLUMNS and len(result) + len(without) == len(features) and not len(without)
    assert not result.duplicated(["facility_id", "apr_drg_code", "target"]).any() and (result["prediction"] > 0).all()
    assert result.equals(result.sort_values(["target", "facility_id", "apr_drg_code"], ignore_index=True)) and (result["years_ahead"] == 1).all()
    last = result.merge(values[values["year"] == 2017], on=["facility_id", "apr_drg_code"])
    assert np.allclose(last["last_value"], last["w_mean_cost"])
    changes = expected_change(result, "mean_cost", top=5)
    assert len(changes) == 5 and changes["change"].between(-0.5, 0.5).all()


def test_pair_whose_last_year_lacks_the_target_is_listed():
    values, _ = panel()
    table, meta = assemble(through(values), values, COST, 2, 3)
    model = refit(table, meta, {"config": model_config("ridge"), "best_params": {}})
    values.loc[values.index[-1], "w_mean_cost"] = np.nan
    made, without = forecast(model, forecast_features(values, future_rows(values)[0], steps()), COST, "ridge", "v12")
    assert len(without) == 1 and "w_mean_cost" in without["reason"].iloc[0] and without["facility_id"].iloc[0] == values["facility_id"].iloc[-1]


def test_uneven_years_look_further_ahead():
    values, _ = panel(years=[2011, 2013, 2016, 2017, 2019])
    table, meta = assemble(through(values, 3), values, COST, 1, 2)
    model = refit(table, meta, {"config": model_config("ridge"), "best_params": {}})
    made, _ = forecast(model, forecast_features(values, future_rows(values, 2022, 3)[0], steps(3)), COST, "ridge", "v12")
    assert (made["years_ahead"] == 3).all() and (made["last_year"] == 2019).all()


def test_years_that_cannot_be_forecast():
    values, _ = panel()
    with pytest.raises(DataError, match="already hold 2017.*forecast_year=2018"): future_rows(values, 2016)
    with pytest.raises(DataError, match="no pair was seen"): future_rows(values, 2025, 3)


def test_duplicates_are_refused():
    row = pd.DataFrame([{c: 1 for c in FORECAST_COLUMNS}])
    with pytest.raises(DataError, match="twice"): check_forecast(pd.concat([row, row]))
    with pytest.raises(DataError, match="missing"): check_forecast(row.assign(prediction=np.nan))
