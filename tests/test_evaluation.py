"""Evaluation: figures against hand computation and scikit-learn, the champion's blindness to the test years, pictures."""
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from drg_lib.core.importance import feature_groups, importances
from drg_lib.core.metrics import grown_last_value, half_widths, score, volume_edges, volume_group
from drg_lib.core.schema import DataError
from drg_lib.core.tables import write_json, write_parquet
from drg_lib import evaluation as ev

MODELS = ["ridge", "catboost"]


def fake_partition(rows_a_year=400, seed=0):
    "Eight years of pairs whose value grows by 4 % a year with noise that shrinks with volume."
    rng = np.random.default_rng(seed)
    pairs = pd.DataFrame(dict(facility_id=[str(i % 20) for i in range(rows_a_year)], apr_drg_code=[f"{i // 20:03d}" for i in range(rows_a_year)],
                              volume=np.exp(rng.normal(3, 1.2, rows_a_year)).round() + 1, level=np.exp(rng.normal(10, 1, rows_a_year))))
    value, frames = pairs["level"].to_numpy(), []
    for year in range(2010, 2018):
        last, value = value, value * np.exp(0.04 + rng.normal(0, 0.5, rows_a_year) / np.sqrt(pairs["volume"]))
        split = "train" if year < 2013 else "validation" if year < 2016 else "test"
        frames.append(pairs.assign(year=year, split=split, target=value, last_value=last, last_year=year - 1, lag_mean_cost=last,
                                   roll2_mean_cost=last * 0.98, lag_sum_discharges=pairs["volume"], lag_noise=rng.normal(size=rows_a_year)))
    return pd.concat(frames, ignore_index=True).drop(columns=["volume", "level"]).astype({"year": "int32", "last_year": "Int32"})


def write_models(folder, partition, losses=(2.0, 1.0)):
    columns = ["year", "facility_id", "apr_drg_code", "split", "target", "last_value", "last_year"]
    for model, loss, growth in zip(MODELS, losses, (1.02, 1.04)):
        rows = partition.loc[partition.split != "train", columns]
        write_parquet(rows.assign(prediction=rows.last_value * growth), folder / "models" / "mean_cost" / model / "predictions.parquet")
        write_json(dict(model=model, target="mean_cost", validation_loss=loss, loss="rmse", sha256="0"), folder / "models" / "mean_cost" / model / "model.json")


@pytest.fixture(scope="module")
def partition(): return fake_partition()


@pytest.fixture
def forecasts(tmp_path, partition):
    write_models(tmp_path, partition)
    return ev.read_models("mean_cost", MODELS, tmp_path)


def test_score_by_hand():
    got = score([100, -50, 300, np.nan], [90, -40, 330, 1], [80, -50, 260, 1], weight=[1, 3, np.nan, 1])
    assert got["rows"] == 3
    assert got["rmse"] == pytest.approx(np.sqrt((100 + 100 + 900) / 3))
    assert got["mae"] == pytest.approx(50 / 3)
    assert got["skill"] == pytest.approx(1 - np.sqrt(1100 / 2000))
    assert got["skill_mae"] == pytest.approx(1 - 50 / 60)
    assert got["weighted_ape"] == pytest.approx((0.1 * 1 + 0.2 * 3) / 4)


def test_score_is_scikit_learns():
    rng = np.random.default_rng(1)
    actual = rng.normal(size=500) * 1e5
    prediction, naive = actual + rng.normal(size=500) * 1e4, actual + rng.normal(size=500) * 2e4
    got = score(actual, prediction, naive)
    assert got["rmse"] == pytest.approx(sk.root_mean_squared_error(actual, prediction))
    assert got["mae"] == pytest.approx(sk.mean_absolute_error(actual, prediction))
    assert got["r2"] == pytest.approx(sk.r2_score(actual, prediction))
    assert got["skill"] == pytest.approx(1 - sk.root_mean_squared_error(actual, prediction) / sk.root_mean_squared_error(actual, naive))


def test_score_of_the_naive_and_of_nothing():
    assert score([1, 2, 3], [1, 1, 3], [1, 1, 3])["skill"] == 0
    assert score([1.0], [1.0], [1.0])["skill"] is None and score([1.0], [2.0], [3.0])["r2"] is None
    assert score([np.nan], [1], [1]) == dict(rows=0, rmse=None, mae=None, r2=None, skill=None, skill_mae=None, weighted_ape=None)


def test_trend_grows_by_drg_and_by_gap(partition):
    rows = pd.DataFrame(dict(apr_drg_code=["194", "194", "999"], year=[2017, 2019, 2017], last_year=[2016, 2016, 2016], last_value=[100.0, 100.0, 100.0]))
    history = pd.DataFrame(dict(apr_drg_code=["194", "195"], year=2016, last_year=2015, last_value=[100.0, 300.0], target=[110.0, 330.0 * 1.1]))
    grown = grown_last_value(history, rows, least=1)
    assert grown.tolist() == pytest.approx([110, 133.1, 100 * (110 + 363) / 400])
    losses = grown_last_value(history.assign(target=-1.0), rows, least=1)
    assert losses.tolist() == [100.0] * 3
    test = partition[partition.split == "test"]
    assert (grown_last_value(partition[partition.split != "test"], test) / test.last_value).median() == pytest.approx(1.04, abs=0.03)


def test_champion_has_the_lowest_validation_loss(forecasts): assert ev.choose_champion(forecasts[1]) == "catboost"


def test_champion_never_depends_on_test_rows(tmp_path, partition):
    shuffled = partition.copy()
    test = shuffled["split"] == "test"
    shuffled.loc[test, "target"] = shuffled.loc[test, "target"].sample(frac=1, random_state=7).to_numpy()
    champions = []
    for name, table in dict(as_is=partition, shuffled=shuffled).items():
        write_models(tmp_path / name, table)
        forecasts, records = ev.read_models("mean_cost", MODELS, tmp_path / name)
        champions.append((ev.choose_champion(records), ev.compare(ev.test_rows(forecasts, table), MODELS)["rmse"].tolist()))
    assert champions[0][0] == champions[1][0] and champions[0][1] != champions[1][1]


@pytest.mark.parametrize("loss", [None, float("nan"), float("inf")])
def test_champion_without_a_loss_is_refused(loss):
    with pytest.raises(DataError, match="ridge: its validation loss"): ev.choose_champion({"ridge": {"validation_loss": loss}})


def test_missing_and_unequal_models_are_refused(tmp_path, partition):
    with pytest.raises(DataError, match="drg-run stage=modeling target=mean_cost models=ridge"): ev.read_models("mean_cost", MODELS, tmp_path)
    with pytest.raises(DataError, match="models is empty"): ev.read_models("mean_cost", [], tmp_path)
    write_models(tmp_path, partition)
    path = tmp_path / "models" / "mean_cost" / "catboost" / "predictions.parquet"
    write_parquet(pd.read_parquet(path).iloc[1:], path)
    with pytest.raises(DataError, match="catboost forecast other rows"): ev.read_models("mean_cost", MODELS, tmp_path)


def test_compare_overall_and_by_year(forecasts, partition):
    rows = ev.test_rows(forecasts[0], partition)
    scores = ev.compare(rows, MODELS).set_index(["year", "model"])
    assert list(scores.index.unique("year")) == ["all", "2016", "2017"] and set(scores.index.unique("model")) == {*MODELS, "naive", "trend"}
    assert scores.loc[("all", "naive"), "skill"] == 0
    one = rows[rows.year == 2017]
    assert scores.loc[("2017", "ridge"), "rmse"] == pytest.approx(sk.root_mean_squared_error(one.target, one.ridge))


def test_verdict_says_when_the_naive_wins(forecasts, partition):
    rows = ev.test_rows(forecasts[0], partition)
    good = ev.verdict(ev.compare(rows.assign(catboost=rows.target * 0.99), MODELS), "catboost")
    bad = ev.verdict(ev.compare(rows.assign(catboost=rows.last_value * 2), MODELS), "catboost")
    assert "closer" in good and "does not beat" in bad
    one_bad_year = rows.assign(catboost=np.where(rows.year == 2017, rows.target + 1.05 * (rows.last_value - rows.target), rows.target))
    assert ev.verdict(ev.compare(one_bad_year, MODELS), "catboost").endswith("but not in 2017")


class Repeats:
    "A forecaster that looks at the last value only."
    def predict(self, frame): return frame["last_value"].to_numpy() * 1.04


def test_importances_find_what_the_forecast_rests_on(partition):
    groups = feature_groups(["last_value", "facility_id", "lag_mean_cost", "roll2_mean_cost", "lag_noise"], "mean_cost")
    table = importances(Repeats(), partition[partition.split == "test"], groups, n_repeats=2, seed=3)
    assert table.feature.iloc[0] == "mean_cost" and table.importance.iloc[0] > 0
    assert (table.importance.iloc[1:] == 0).all()
    pd.testing.assert_frame_equal(table, importances(Repeats(), partition[partition.split == "test"], groups, n_repeats=2, seed=3))


def test_half_widths_hold_what_they_promise():
    rng = np.random.default_rng(2)
    residual, group = rng.normal(size=4000) * np.repeat([1, 10], 2000), np.repeat([1, 2], 2000)
    widths = half_widths(residual, group, 0.9)
    fresh = np.abs(rng.normal(size=4000) * np.repeat([1, 10], 2000))
    assert np.mean(fresh[:2000] <= widths[1]) == pytest.approx(0.9, abs=0.03) and np.mean(fresh[2000:] <= widths[2]) == pytest.approx(0.9, abs=0.03)
    assert half_widths([1.0, 2.0], [1, 1]).index.tolist() == [-1]


def test_volume_groups_are_about_equal_and_know_nothing_of_nan():
    volume = np.r_[np.arange(1000.0), np.nan]
    groups = volume_group(volume, volume_edges(volume))
    assert groups[-1] == 0 and pd.Series(groups[:-1]).value_counts().between(195, 205).all()


@pytest.mark.parametrize("without", [None, "test", "column"])
def test_volume_is_discharges_or_the_size_of_the_last_value(forecasts, partition, without):
    table = partition.drop(columns="lag_sum_discharges") if without == "column" else partition.assign(lag_sum_discharges=partition.lag_sum_discharges.where(partition.split != without))
    rows = ev.test_rows(forecasts[0], table)
    assert rows.volume.equals(rows.last_value.abs().rename("volume")) == (without is not None) and rows.volume.notna().all()
    assert len(ev.by_volume(rows, "ridge")) == 5 and ev.intervals(forecasts[0], table, "ridge").group.min() == 1


def test_intervals_cover_the_fake_years(forecasts, partition):
    bands = ev.intervals(forecasts[0], partition, "catboost", 0.9)
    assert np.average(bands.coverage, weights=bands.rows) == pytest.approx(0.9, abs=0.06)
    assert bands.rows.sum() == (partition.split == "test").sum()


def test_worst_misses_carry_names_where_known(tmp_path, forecasts, partition):
    rows = ev.test_rows(forecasts[0], partition)
    assert ev.worst_misses(rows, "catboost", tmp_path).facility_name.isna().all()
    write_parquet(pd.DataFrame(dict(facility_id=[str(i) for i in range(20)], facility_name=[f"Hospital {i}" for i in range(20)])), tmp_path / "v2" / "facilities.parquet")
    misses = ev.worst_misses(rows, "catboost", tmp_path)
    assert misses.facility_name.notna().all() and misses.error.abs().is_monotonic_decreasing


def test_metrics_nest_for_dvc(tmp_path, forecasts, partition):
    scores = ev.compare(ev.test_rows(forecasts[0], partition), MODELS)
    nested = ev.nested_metrics(scores, "catboost", {"ridge": 2.0, "catboost": 1.0}, ev.intervals(forecasts[0], partition, "catboost"))
    assert set(nested) == {*MODELS, "naive", "trend", "champion", "validation_loss", "interval"}
    assert set(nested["ridge"]["by_year"]) == {"2016", "2017"}
    write_json(nested, tmp_path / "metrics.json")


def pictures(forecasts, partition, synthetic=True):
    rows = ev.test_rows(forecasts, partition)
    scores, unit, note = ev.compare(rows, MODELS), "USD per discharge", "Mean cost, test years 2016, 2017. Made up for a test."
    groups = feature_groups(["last_value", "facility_id", "lag_mean_cost", "roll2_mean_cost", "lag_noise"], "mean_cost")
    weights = importances(Repeats(), rows.merge(partition.drop(columns=["target", "last_value", "last_year", "split"]), on=["year", "facility_id", "apr_drg_code"]), groups, 2)
    yield "errors", ev.plot_errors(scores, "catboost", unit, note, synthetic)
    yield "actual", ev.plot_actual_predicted(ev.sample(rows, 300, 0), "catboost", unit, note, synthetic)
    yield "actual_losses", ev.plot_actual_predicted(rows.assign(target=rows.target - 2e4, catboost=rows.catboost - 2e4), "catboost", unit, note, synthetic)
    yield "by_volume", ev.plot_by_volume(ev.by_volume(rows, "catboost"), "catboost", "discharges in the last known year", note, synthetic)
    yield "importances", ev.plot_importances(weights, "catboost", unit, note, synthetic)
    yield "coverage", ev.plot_coverage(ev.intervals(forecasts, partition, "catboost"), "discharges in the last known year", note, synthetic)


def test_pictures_draw_without_warnings_and_say_synthetic(forecasts, partition, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, figure in pictures(forecasts[0], partition):
            figure.savefig(tmp_path / f"{name}.png")
            assert "Synthetic data" in figure._supxlabel.get_text(), name
            assert len(figure._suptitle.get_text()) > 20, name


def test_titles_follow_the_data(forecasts, partition):
    rows = ev.test_rows(forecasts[0], partition)
    near, far = (ev.plot_actual_predicted(rows.assign(catboost=rows.target * f), "catboost", "USD")._suptitle.get_text() for f in (1.01, 1.5))
    assert "100 %" in near and "0 %" in far
