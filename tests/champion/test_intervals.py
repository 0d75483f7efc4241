"""Intervals hold what they promise on data that they have not seen, by volume and by distance."""

import json

import numpy as np
import pandas as pd
import pytest

from drg_lib.base.names import DataError
from drg_lib.champion.coverage import coverage
from drg_lib.champion.intervals import (
    LEVELS,
    bound_names,
    bounds,
    calibrate,
    gap_power,
    pair_volume,
)


def draws(n=6000, seed=0, signed=False, gaps=(1,)):
    "Outcomes whose spread shrinks with volume and grows with the square root of the gap."
    rng = np.random.default_rng(seed)
    volume, gap = np.exp(rng.normal(4, 1.2, n)), rng.choice(gaps, n).astype(float)
    prediction = np.exp(rng.normal(9, 1, n)) * (rng.choice([-1, 1], n) if signed else 1)
    spread = (0.6 / np.sqrt(volume) + 0.02) * np.sqrt(gap)
    target = (
        prediction + np.abs(prediction) * rng.normal(0, spread)
        if signed
        else prediction * np.exp(rng.normal(0, spread))
    )
    return pd.DataFrame(dict(target=target, prediction=prediction, gap=gap, volume=volume))


@pytest.mark.parametrize("signed", [False, True])
def test_fresh_outcomes_are_held_in_every_volume_group(signed):
    calibration, fresh = calibrate(draws(signed=signed)), draws(seed=1, signed=signed)
    assert calibration["scale"]["kind"] == ("asinh" if signed else "log")
    outcomes = fresh.join(bounds(calibration, fresh["prediction"], fresh["gap"], fresh["volume"]))
    fifth = pd.Series(pd.qcut(fresh["volume"], 5, labels=False), fresh.index)
    for by in (None, fifth):
        table = coverage(outcomes, by)
        assert (table["coverage"] - table["level"]).abs().max() < (0.02 if by is None else 0.04)
    wide = coverage(outcomes, fifth).query("level == 0.9")["width"].to_numpy()
    assert wide[0] > 3 * wide[-1]  # small pairs are less sure


def test_further_years_are_less_sure():
    calibration = calibrate(draws(gaps=(1, 4)))
    assert calibration["gap_power"] == pytest.approx(0.5, abs=0.1)
    near, far = (bounds(calibration, [1e4], gap, 50).eval("upper_90 / lower_90").item() for gap in (1, 4))
    assert np.log(far) / np.log(near) == pytest.approx(4 ** calibration["gap_power"])
    ahead = draws(seed=2, gaps=(2,))
    edges = bounds(calibration, ahead["prediction"], ahead["gap"], ahead["volume"])
    table = coverage(ahead.join(edges))
    assert (table["coverage"] - table["level"]).abs().max() < 0.03


def test_one_gap_says_nothing_of_others():
    assert gap_power(np.ones(500), np.ones(500)) == 0.5


def test_widths_are_those_of_crepes():
    from crepes import ConformalRegressor

    past = draws(800)
    calibration = calibrate(past, groups=1)
    direct = ConformalRegressor().fit(
        np.log(past["target"]).to_numpy() - np.log(past["prediction"]).to_numpy()
    )
    for level in LEVELS:
        low, high = np.exp(direct.predict_int(np.log([5e3]), confidence=level))[0]
        interval = bounds(calibration, [5e3], 1, 60)
        assert [
            interval[f"lower_{round(100 * level)}"].item(),
            interval[f"upper_{round(100 * level)}"].item(),
        ] == pytest.approx([low, high])


def test_intervals_nest_hold_their_prediction_and_survive_json():
    calibration = json.loads(json.dumps(calibrate(draws(signed=True))))
    prediction = pd.Series([-3e5, -1.0, 0.0, 1e-9, 7e4], index=[5, 6, 7, 8, 9])
    table = bounds(calibration, prediction, [1, 1, np.nan, 3, 1], [np.nan, 1, 1e9, 20, 30])
    assert (
        list(table) == bound_names()
        and table.index.equals(prediction.index)
        and np.isfinite(table).all(axis=None)
    )
    edges = (
        table[["lower_90", "lower_80", "lower_50"]]
        .assign(p=prediction)
        .join(table[["upper_50", "upper_80", "upper_90"]])
    )
    assert (np.diff(edges.to_numpy(), axis=1) >= 0).all()


def test_amounts_above_zero_stay_above_zero():
    table = bounds(calibrate(draws()), [1.0, 0.0], 30, np.nan)
    assert (table.filter(like="lower") >= 0).all(axis=None)


def test_few_errors_are_refused_and_small_groups_borrow():
    with pytest.raises(DataError, match="19 forecasts.*at least 20"):
        calibrate(draws(19))
    calibration = calibrate(draws(60))
    assert list(calibration["widths"]) == ["all"] and np.isfinite(bounds(calibration, [10.0], 1, 5)).all(
        axis=None
    )


def test_volume_is_the_last_known():
    frame = pd.DataFrame(
        dict(lag_sum_discharges=[10.0, np.nan, np.nan], roll2_sum_discharges=[12.0, 7.0, np.nan])
    )
    assert (
        pair_volume(frame).tolist()[:2] == [10, 7]
        and pair_volume(frame).isna().tolist() == [False, False, True]
        and pair_volume(frame[[]]).isna().all()
    )


@pytest.mark.parametrize("target", ["mean_payment", "mean_charge"])
def test_medicare_2019_is_covered_without_having_been_seen(medicare_build, target):
    """The untouched last year of the real panel: the 90 % intervals hold 88 to 92 %, in no group far off."""
    metrics = json.loads((medicare_build / "results" / "evaluation" / target / "metrics.json").read_text())
    assert 0.88 <= metrics["intervals"]["90"]["coverage"] <= 0.92, metrics["intervals"]
    assert (
        abs(metrics["intervals"]["80"]["coverage"] - 0.8) < 0.04
        and abs(metrics["intervals"]["50"]["coverage"] - 0.5) < 0.06
    )
    table = pd.read_csv(medicare_build / "results" / "evaluation" / target / "coverage.csv")
    assert table[(table["by"] == "volume") & (table["level"] == 0.9)]["coverage"].between(0.82, 0.97).all()
