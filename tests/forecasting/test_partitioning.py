"Splits by year: strictly in time, nothing of the target year in the features, and messages that help."

import numpy as np
import pandas as pd
import pytest
from panels import COST, panel

from drg_lib.base.names import KEYS, DataError
from drg_lib.forecasting.rows import feature_columns
from drg_lib.partitioning import assemble, check_target, offered_targets, rolling_folds, split_years


def test_folds_are_strictly_in_time():
    values, features = panel()
    table, meta = assemble(features, values, COST, n_test_years=2, n_validation_years=3)
    assert (
        meta["test_years"] == [2016, 2017]
        and meta["validation_years"] == [2013, 2014, 2015]
        and meta["train_years"] == [2010, 2011, 2012]
    )
    for fold in meta["folds"]:
        assert max(fold["train"]) < fold["validate"] < min(meta["test_years"])
    assert [f["validate"] for f in meta["folds"]] == meta["validation_years"]
    by_split = table.groupby("split")["year"].agg(["min", "max"])
    assert (
        by_split.loc["train", "max"] < by_split.loc["validation", "min"]
        and by_split.loc["validation", "max"] < by_split.loc["test", "min"]
    )
    assert sum(meta["rows"].values()) == len(table)


@pytest.mark.build
def test_last_value_is_that_of_the_last_year():
    values, features = panel()
    table, _ = assemble(features, values, COST, 2, 3)
    known = table.dropna(subset=["last_value"])
    before = known[[*KEYS, "last_value"]].assign(year=known["year"] - 1).merge(values, on=KEYS)
    assert len(before) == len(known) and np.allclose(before["last_value"], before["w_mean_cost"])
    assert (known["last_year"] == known["year"] - 1).all()


@pytest.mark.build
@pytest.mark.parametrize("extra", [["sum_discharges"], ["w_mean_cost", "yearly_discharge_bin"]])
def test_columns_of_the_year_itself_do_not_pass(extra):
    values, features = panel()
    table, meta = assemble(features.assign(**{c: 1.0 for c in extra}), values, COST, 2, 3)
    assert not set(extra) & (set(table) | set(meta["features"]))


@pytest.mark.build
def test_poisoned_target_year_changes_no_feature():
    values, features = panel()
    rng = np.random.default_rng(1)
    poisoned = values.copy()
    last = poisoned["year"] == 2017
    poisoned.loc[last, "w_mean_cost"] = rng.permutation(poisoned.loc[last, "w_mean_cost"].to_numpy()) * 1000
    clean, meta = assemble(features, values, COST, 2, 3)
    dirty, dirty_meta = assemble(features, poisoned, COST, 2, 3)
    assert meta == dirty_meta
    pd.testing.assert_frame_equal(clean.drop(columns="target"), dirty.drop(columns="target"))
    assert not np.allclose(
        clean.loc[clean["year"] == 2017, "target"], dirty.loc[dirty["year"] == 2017, "target"]
    )


def test_rows_without_last_value_are_kept_and_counted():
    values, features = panel()
    table, meta = assemble(features, values, COST, 2, 3)
    assert sum(meta["without_last_value"].values()) == table["last_value"].isna().sum() > 0


def test_rows_without_target_are_counted():
    values, features = panel()
    values.loc[values["year"] == 2012, "w_mean_cost"] = np.nan
    _, meta = assemble(features, values, COST, 2, 3)
    assert meta["without_target"] == (features["year"] == 2012).sum() and 2012 not in meta["train_years"]


def test_unknown_target_says_what_there_is():
    values, features = panel()
    with pytest.raises(DataError, match=r"no column w_mean_payment.*w_mean_cost.*targets=\["):
        assemble(features, values, COST | {"name": "mean_payment", "column": "w_mean_payment"}, 2, 3)


def test_targets_on_offer_are_those_that_the_source_measures():
    assert offered_targets(["w_mean_payment", "w_mean_charge"]) == ["mean_charge", "mean_payment"]
    with pytest.raises(DataError, match=r"targets=\[mean_payment\] in params.yaml"):
        check_target({"name": "mean_cost", "column": "w_mean_cost"}, ["w_mean_payment"], ["mean_payment"])


def test_five_years_of_one_pair():
    "The first has nothing before it; `w_mean_cost` of the year itself does not become a feature."
    pair = {"year": np.arange(2013, 2018, dtype="int32"), "facility_id": "4", "apr_drg_code": "194"}
    value = pd.DataFrame(pair | {"w_mean_cost": [9e3, 10e3, 11e3, 12e3, 13e3]})
    lagged = value.assign(lag_w_mean_cost=value["w_mean_cost"].shift(), lag_gap_years=[np.nan, 1, 1, 1, 1])
    table, meta = assemble(lagged, value, COST, n_test_years=1, n_validation_years=1)
    assert "w_mean_cost" not in table and "discharges" not in meta["features"]
    assert table["split"].tolist() == ["train", "train", "validation", "test"]
    assert table["last_value"].tolist() == [9e3, 10e3, 11e3, 12e3] and meta["target"] == COST


def test_eight_years_give_three_folds():
    years = split_years(range(2010, 2018), n_test_years=2, n_validation_years=3)
    folds = rolling_folds(years["train"], years["validation"])
    assert len(folds) == 3
    assert all(max(f["train"]) < f["validate"] < min(years["test"]) for f in folds)
    with pytest.raises(DataError, match=r"2015, 2016, 2017.*need 6.*n_validation_years=1"):
        split_years([2015, 2016, 2017], n_test_years=2, n_validation_years=3)


@pytest.mark.build
def test_too_few_years_names_them_and_the_remedy():
    values, features = panel(years=range(2014, 2018))
    with pytest.raises(
        DataError,
        match=r"2015, 2016, 2017.*need 6.*ml_experiments.n_validation_years=1 ml_experiments.n_test_years=1",
    ):
        assemble(features, values, COST, 2, 3)
    assert assemble(features, values, COST, 1, 1)[1]["train_years"] == [2015]


@pytest.mark.build
def test_version_without_lags_is_refused():
    with pytest.raises(DataError, match="data_versions=v12"):
        feature_columns(panel()[0])


@pytest.mark.build
def test_features_of_another_source_are_refused():
    values, features = panel()
    with pytest.raises(DataError, match="v9 has no row"):
        assemble(features, values[values["facility_id"] != "100"], COST, 2, 3)


def test_split_years_needs_one_of_each():
    with pytest.raises(DataError, match="at least 1"):
        split_years(range(2010, 2018), 0, 3)
    assert rolling_folds([2011, 2013], [2016, 2017]) == [
        dict(train=[2011, 2013], validate=2016),
        dict(train=[2011, 2013, 2016], validate=2017),
    ]
