"""The forecast: one row a pair, features as in training, and nothing is lost in silence."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT
from panels import COST, panel

from drg_lib.base.names import KEYS, DataError
from drg_lib.base.tables import write_parquet
from drg_lib.champion.forecast_table import FORECAST_COLUMNS, add_names, check_forecast
from drg_lib.champion.hierarchy import from_hierarchy, hierarchy_calibration, known_values, past_year
from drg_lib.champion.intervals import bound_names, calibrate
from drg_lib.champion.model import Champion
from drg_lib.champion.outlook import expected_change
from drg_lib.champion.reach import reach
from drg_lib.champion.refit import refit
from drg_lib.deployment import forecast, forecast_features
from drg_lib.forecasting.baselines import hierarchy_forecast
from drg_lib.forecasting.rows import future_rows
from drg_lib.partitioning import assemble
from drg_lib.transformation.create_lag_features import create_lag_features
from drg_lib.transformation.drop_non_lag_columns import drop_non_lag_columns
from drg_lib.transformation.rolling_features import rolling_features


def model_config(name):
    return yaml.safe_load((ROOT / "configs" / "models" / f"{name}.yaml").read_text())


def steps(max_gap_years=1):
    return [
        (create_lag_features, {"columns": ["w_*", "sum_*"], "max_gap_years": max_gap_years}),
        (rolling_features, {}),
        (drop_non_lag_columns, {"keep": ["lag_*", "roll2_*"]}),
    ]


def through(frame, max_gap_years=1):
    for step, parameters in steps(max_gap_years):
        result = step(frame, **parameters)
        frame = result[0] if isinstance(result, tuple) else result
    return frame


PAIR = ["facility_id", "apr_drg_code"]


def champion(model, name="ridge"):
    "A model as champion, with intervals of its own training errors."
    past = pd.DataFrame(
        dict(
            target=np.exp(np.random.default_rng(0).normal(9, 0.1, 200)),
            prediction=np.exp(9.0),
            gap=1.0,
            volume=np.nan,
        )
    )
    return Champion(
        {name: model},
        {name: 1.0},
        calibrate(past),
        dict(target="mean_cost", column=COST["column"], unit="USD", champion=name, data_version="v12"),
    )


def forecast_of(model, values, year=None, max_gap_years=1):
    rows, _ = future_rows(values, year, max_gap_years, "none")
    return forecast(champion(model), forecast_features(values, rows, steps(max_gap_years)), rows)


@pytest.mark.build
@pytest.mark.parametrize("cold_start", ["seen", "none", "all"])
def test_every_pair_is_forecast_or_listed(cold_start):
    values, _ = panel()
    values = values[
        ~((values["facility_id"] == values["facility_id"].iloc[0]) & (values["year"] > 2015))
    ]  # a hospital that closed
    rows, aside = future_rows(values, cold_start=cold_start)
    pairs = values[PAIR].drop_duplicates()
    assert (
        len(pairs.merge(pd.concat([rows[PAIR], aside[PAIR]]), on=PAIR)) == len(pairs)
        and not rows.duplicated(KEYS).any()
        and (rows["year"] == 2018).all()
    )
    assert rows.drop(columns="method").dtypes.astype(str).to_dict() == values.dtypes.astype(
        str
    ).to_dict() and rows.drop(columns=[*KEYS, "method"]).isna().all(axis=None)
    now = values[values["year"] == 2017]
    assert (
        rows.loc[rows["method"] == "model", PAIR]
        .reset_index(drop=True)
        .equals(now[PAIR].sort_values(PAIR, ignore_index=True))
    )
    cold = rows[rows["method"] == "hierarchy"]
    assert (
        cold["facility_id"].isin(now["facility_id"]).all()
        and cold["apr_drg_code"].isin(now["apr_drg_code"]).all()
    )
    assert (
        len(cold) == (0 if cold_start == "none" else len(cold))
        and aside["reason"].str.contains("2018").all()
        and aside["reason"].str.startswith("hospital").any()
    )
    if cold_start == "all":
        assert len(rows) == now["facility_id"].nunique() * now["apr_drg_code"].nunique()


def test_unknown_cold_start_is_refused():
    with pytest.raises(DataError, match="cold_start=some: known are seen, none, all"):
        future_rows(panel()[0], cold_start="some")


@pytest.mark.build
def test_features_of_the_future_are_those_of_training():
    "Hide the last year, forecast it, and compare with the features that it really has."
    values, _ = panel()
    known = values[values["year"] < 2017]
    rows, _ = future_rows(known, 2017)
    future, real = forecast_features(known, rows, steps()), through(values).query("year == 2017")
    both = future.merge(real, on=KEYS, suffixes=("", "_real"))
    assert len(both) > 90
    for c in future.columns.difference(KEYS):
        np.testing.assert_allclose(both[c], both[f"{c}_real"])


def test_forecast_is_whole(tmp_path):
    values, _ = panel()
    table, meta = assemble(through(values), values, COST, 2, 3)
    model = refit(table, meta, {"config": model_config("ridge"), "best_params": {"alpha": 50.0}})
    by_model, without = forecast_of(model, values)
    drgs = pd.DataFrame({"apr_drg_code": ["000"], "apr_drg_description": ["Liver transplant"]})
    write_parquet(drgs, tmp_path / "v2" / "drgs.parquet")
    by_model = by_model.assign(target="mean_cost", data_version="v12")
    result = check_forecast(add_names(by_model, tmp_path))
    described = result.loc[result["apr_drg_code"] == "000", "apr_drg_description"]
    assert (described == "Liver transplant").all() and result["facility_name"].isna().all()
    assert (
        list(result) == FORECAST_COLUMNS
        and len(result) == len(values[values["year"] == 2017])
        and not len(without)
    )
    assert np.allclose(result["expected_change"], result["prediction"] - result["last_value"]) and result[
        bound_names()
    ].notna().all(axis=None)
    assert (
        not result.duplicated(["facility_id", "apr_drg_code", "target"]).any()
        and (result["prediction"] > 0).all()
    )
    assert (
        result.equals(result.sort_values(["target", "facility_id", "apr_drg_code"], ignore_index=True))
        and (result["years_ahead"] == 1).all()
    )
    last = result.merge(values[values["year"] == 2017], on=["facility_id", "apr_drg_code"])
    assert np.allclose(last["last_value"], last["w_mean_cost"])
    changes = expected_change(result, "mean_cost", top=5)
    assert len(changes) == 5 and changes["change"].between(-0.5, 0.5).all()


@pytest.mark.build
def test_pair_whose_last_year_lacks_the_target_is_listed():
    values, _ = panel()
    table, meta = assemble(through(values), values, COST, 2, 3)
    model = refit(table, meta, {"config": model_config("ridge"), "best_params": {}})
    values.loc[values.index[-1], "w_mean_cost"] = np.nan
    _, without = forecast_of(model, values)
    assert len(without) == 1 and without["facility_id"].iloc[0] == values["facility_id"].iloc[-1]


@pytest.mark.build
def test_uneven_years_look_further_ahead(tmp_path):
    values, _ = panel(years=[2011, 2013, 2016, 2017, 2019])
    table, meta = assemble(through(values, 3), values, COST, 1, 2)
    model = refit(table, meta, {"config": model_config("ridge"), "best_params": {}})
    by_model = forecast_of(model, values, 2022, 3)[0].assign(target="mean_cost", data_version="v12")
    result = check_forecast(add_names(by_model, tmp_path))
    assert (result["years_ahead"] == 3).all() and (result["last_year"] == 2019).all()


def test_years_that_cannot_be_forecast():
    values, _ = panel()
    with pytest.raises(DataError, match="already hold 2017.*forecast_year=2018"):
        future_rows(values, 2016)
    with pytest.raises(DataError, match="no pair was seen"):
        future_rows(values, 2025, 3)


def test_broken_forecasts_are_refused():
    row = pd.DataFrame([{c: 1.0 for c in FORECAST_COLUMNS}])
    with pytest.raises(DataError, match="twice"):
        check_forecast(pd.concat([row, row]))
    with pytest.raises(DataError, match="missing prediction"):
        check_forecast(row.assign(prediction=np.nan))
    with pytest.raises(DataError, match="an interval"):
        check_forecast(row.assign(lower_90=2.0))
    assert len(check_forecast(row)) == 1


@pytest.mark.build
def test_cold_starts_come_from_the_hierarchy_and_are_judged_on_past_years():
    values, _ = panel()
    table, meta = assemble(through(values), values, COST, 2, 3)
    known = known_values(table, values, COST["column"])
    assert (
        len(known) == values[COST["column"]].notna().sum()
        and known["last_value"].notna().sum() == table["last_value"].notna().sum()
    )
    past = past_year(known, values, 2017, 1, "seen")
    before, now = values[values["year"] < 2017], values[values["year"] == 2017]
    assert len(past) == len(now) and set(past["method"]) <= {"model", "hierarchy", "none"}
    last_year = pd.MultiIndex.from_frame(before.loc[before["year"] == 2016, PAIR])
    assert (past["method"] == "model").equals(pd.Series(pd.MultiIndex.from_frame(past[PAIR]).isin(last_year)))
    poisoned = known.assign(target=known["target"].where(known["year"] < 2017, 1e9))
    assert np.allclose(
        past_year(poisoned, values, 2017)["prediction"], past["prediction"]
    )  # 2017 itself tells nothing
    calibration = hierarchy_calibration(
        pd.concat([past_year(known, values, year) for year in meta["validation_years"]])
    )
    rows = future_rows(values)[0]
    cold = rows[rows["method"] == "hierarchy"]
    result = from_hierarchy(cold, known, calibration)
    assert (
        len(result) == len(cold) > 0
        and (result["last_year"] < 2017).all()
        and np.allclose(result["prediction"], hierarchy_forecast(known, cold[KEYS]))
    )
    by_model = now[KEYS].merge(table.loc[table["last_value"].notna(), KEYS], on=KEYS).assign(prediction=1.0)
    share = reach(past, by_model, calibration).set_index("method")
    assert (
        share["pairs"].sum() == len(now)
        and share["share_of_discharges"].sum() == pytest.approx(1)
        and 0 < share.loc["model", "share_of_discharges"] <= 1
    )


def test_medicare_forecast_is_whole_and_says_its_reach(medicare_build):
    """The real panel's forecast for 2020: columns, both methods, CSV as Parquet, dictionary and reach."""
    table = pd.read_parquet(medicare_build / "data" / "forecast.parquet")
    assert (
        list(table) == FORECAST_COLUMNS
        and set(table["method"]) == {"model", "hierarchy"}
        and (table["year"] == 2020).all()
    )
    assert (
        table.drop(columns=["expected_change", "last_year", "last_value", "years_ahead"])
        .notna()
        .all(axis=None)
        and (table["lower_90"] > 0).all()
    )
    twin = pd.read_csv(medicare_build / "data" / "forecast.csv", dtype={key: str for key in PAIR})
    assert np.allclose(twin["prediction"], table["prediction"]) and twin["facility_id"].equals(
        table["facility_id"]
    )
    folder = medicare_build / "results" / "deployment"
    assert pd.read_csv(folder / "data_dictionary.csv")["column"].tolist() == FORECAST_COLUMNS
    summary = json.loads((folder / "summary.json").read_text())
    for target in ("mean_payment", "mean_charge"):
        shares = {row["method"]: row for row in summary["targets"][target]["reach"]}
        assert shares["model"]["share_of_discharges"] > 0.9 and sum(
            row["share_of_pairs"] for row in shares.values()
        ) == pytest.approx(1)
        assert (
            shares["hierarchy"]["median_error"] > shares["model"]["median_error"]
            and shares["hierarchy"]["coverage"] > 0.75
        )
    wide = (
        table.assign(width=(table["upper_90"] - table["lower_90"]) / table["prediction"])
        .groupby(["target", "method"])["width"]
        .median()
        .unstack()
    )
    assert (wide["hierarchy"] > wide["model"]).all()  # no recent value: less sure
