"""Transformations (v3 to v12): totals, weights, shares, lags, and that no feature knows its own year."""

import os

import numpy as np
import pandas as pd
import pytest
from conftest import extract

from drg_lib.base.keys import group_starts, key_codes, sort_by_key
from drg_lib.base.names import KEYS, SEVERITY, DataError
from drg_lib.panel.weighted import weighted_mean, weighted_median
from drg_lib.pipeline.config import as_dict, compose
from drg_lib.transformation.agg_severities import agg_severities
from drg_lib.transformation.charge_to_cost_ratio import charge_to_cost_ratio
from drg_lib.transformation.create_lag_features import create_lag_features
from drg_lib.transformation.drop_non_lag_columns import check_no_leak, drop_non_lag_columns
from drg_lib.transformation.drop_rare_drgs import drop_rare_drgs
from drg_lib.transformation.profit import profit
from drg_lib.transformation.ratio_drg_facility_vs_year import ratio_drg_facility_vs_year
from drg_lib.transformation.rolling_features import rolling_features
from drg_lib.transformation.totals import totals
from drg_lib.transformation.yearly_discharge_bin import yearly_discharge_bin
from drg_lib.versions.chain import known_versions, line_of, step_function

STATISTICS = ["mean", "median"]
ALL = ["*"]


def panel(seed=0, years=range(2009, 2018), facilities=6, drgs=5, severities=5, held=0.6):
    "A random v2: cells that come and go, with the four amounts of SPARCS."
    rng = np.random.default_rng(seed)
    grid = pd.MultiIndex.from_product(
        [
            years,
            [str(i * 37 + 4) for i in range(facilities)],
            [f"{i * 64:03d}" for i in range(1, drgs + 1)],
            range(severities),
        ],
        names=[*KEYS, SEVERITY],
    )
    frame = grid.to_frame(index=False).astype(
        {"year": "int32", "facility_id": "str", "apr_drg_code": "str", SEVERITY: "int8"}
    )
    frame = sort_by_key(frame[rng.random(len(frame)) < held], [*KEYS, SEVERITY])
    charge = np.exp(rng.normal(10, 1, len(frame)))
    return frame.assign(
        discharges=np.ceil(np.exp(rng.normal(1.5, 1.5, len(frame)))),
        mean_charge=charge,
        median_charge=charge * rng.uniform(0.8, 1, len(frame)),
        mean_cost=charge * rng.uniform(0.2, 1.05, len(frame)),
        median_cost=charge * rng.uniform(0.2, 0.9, len(frame)),
    ).round(2)


PARAMETERS = {
    "v3": dict(statistics=STATISTICS),
    "v4": dict(statistics=STATISTICS),
    "v5": dict(max_discharges=5),
    "v6": dict(statistics=STATISTICS),
    "v7": {},
    "v8": {},
    "v9": dict(denominators=["cost", "payment"]),
    "v10": dict(columns=ALL),
    "v11": {},
    "v12": dict(keep=["lag_*", "roll2_*"]),
}


def parameters_of(version):
    "Small ones for this panel; those of its config for a version that is new."
    if version in PARAMETERS:
        return PARAMETERS[version]
    return as_dict(compose([f"data_versions={version}"]).transformation)


def apply(version, frame, **parameters):
    "The kept rows of a step; rows in are rows out and rows set aside, with a reason; the input is untouched."
    copy = frame.copy()
    made = step_function(version)(frame, **(parameters_of(version) | parameters))
    pd.testing.assert_frame_equal(frame, copy)
    if not isinstance(made, tuple):
        return made
    kept, set_aside = made
    if isinstance(set_aside, dict):
        return kept
    assert len(kept) + len(set_aside) == len(frame) and set_aside["reason"].str.len().gt(0).all()
    return kept


def chain(frame, start=3, end=12, **changes):
    "The steps from v`start` to v`end`, in the order of the list."
    listed = list(known_versions())
    for version in listed[listed.index(f"v{start}") : listed.index(f"v{end}") + 1]:
        frame = apply(version, frame, **changes.get(version, {}))
    return frame


@pytest.fixture(scope="module")
def v9():
    return chain(panel(), end=9)


@pytest.mark.parametrize("version", [v for v in known_versions() if v not in ("v1", "v2")])
def test_the_order_of_rows_does_not_matter(version):
    before = panel()
    for earlier in line_of(version)[2:-1]:
        before = apply(earlier, before)
    keys = [k for k in [*KEYS, SEVERITY] if k in before]
    expected = sort_by_key(apply(version, before), keys if SEVERITY in apply(version, before) else KEYS)
    for seed in range(3):
        after = apply(version, before.sample(frac=1, random_state=seed, ignore_index=True))
        pd.testing.assert_frame_equal(
            sort_by_key(after, [k for k in [*KEYS, SEVERITY] if k in after]), expected, check_exact=True
        )


# ---- keys as numbers


def test_key_codes_sort_as_the_columns_do():
    frame = panel(3)[[*KEYS, SEVERITY]].sample(frac=1, random_state=1, ignore_index=True)
    pd.testing.assert_frame_equal(
        sort_by_key(frame, [*KEYS, SEVERITY]), frame.sort_values([*KEYS, SEVERITY], ignore_index=True)
    )
    assert (
        len(group_starts(np.sort(key_codes(frame, KEYS)))) == len(frame.drop_duplicates(KEYS))
        and len(group_starts(np.array([], dtype=int))) == 0
    )


# ---- v3, v4


def test_profit_is_charge_less_cost_and_only_where_both_are():
    frame = panel()
    out = profit(frame, STATISTICS)
    assert out.mean_profit.equals(frame.mean_charge - frame.mean_cost) and out.median_profit.equals(
        frame.median_charge - frame.median_cost
    )
    payments = frame[[*KEYS, "mean_charge"]].assign(mean_payment=1.0)
    assert list(profit(payments, STATISTICS)) == list(payments)


def test_totals_are_amounts_times_discharges():
    frame = profit(panel(), STATISTICS)
    out = totals(frame, STATISTICS)
    added = [c for c in out if c not in frame]
    assert added == [
        f"total_{s}_{m}"
        for s, m in [
            ("mean", "charge"),
            ("median", "charge"),
            ("mean", "cost"),
            ("median", "cost"),
            ("mean", "profit"),
            ("median", "profit"),
        ]
    ]
    for column in added:
        assert out[column].equals(frame[column.removeprefix("total_")] * frame.discharges)
    assert list(totals(frame.drop(columns="discharges"), STATISTICS)) == [
        c for c in frame if c != "discharges"
    ]


def test_unknown_stays_unknown():
    frame = panel().astype({"mean_cost": "float64"})
    frame.loc[0, "mean_cost"], frame.loc[1, "discharges"] = np.nan, np.nan
    out = totals(profit(frame, STATISTICS), STATISTICS)
    assert (
        np.isnan(out.mean_profit[0])
        and np.isnan(out.total_mean_cost[0])
        and np.isnan(out.total_mean_charge[1])
        and not np.isnan(out.mean_profit[1])
    )


# ---- v5


def test_rare_drgs_are_counted_on_training_years_alone():
    frame = panel()
    counts = frame[frame.year <= 2012].groupby("apr_drg_code").discharges.sum()
    limit = int(counts.median())
    kept, set_aside = drop_rare_drgs(frame, limit)
    assert set(kept.apr_drg_code) == set(counts.index[counts > limit]) and set(set_aside.apr_drg_code) == set(
        counts.index[counts <= limit]
    )
    assert "2009-2012" in set_aside.reason[0] and f"{limit:,}" in set_aside.reason[0]
    later = frame.assign(discharges=frame.discharges.where(frame.year <= 2012, 1e9))
    assert set(drop_rare_drgs(later, limit)[0].apr_drg_code) == set(kept.apr_drg_code)
    assert set(drop_rare_drgs(later, limit, count_years="all")[0].apr_drg_code) == set(frame.apr_drg_code)


def test_a_drg_new_in_the_held_out_years_is_rare_and_an_uncounted_one_is_not():
    frame = pd.DataFrame(
        {
            "year": [2015, 2015, 2016, 2017],
            "apr_drg_code": ["194", "302", "194", "326"],
            "discharges": [10, np.nan, 10, 99],
        }
    )
    kept, set_aside = drop_rare_drgs(frame, 5, n_test_years=1, n_validation_years=1)
    assert set(kept.apr_drg_code) == {"194", "302"} and set(set_aside.apr_drg_code) == {"326"}


def test_none_keeps_all():
    kept, set_aside = drop_rare_drgs(panel(), None)
    assert len(kept) == len(panel()) and list(set_aside) == [*panel(), "reason"] and not len(set_aside)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(max_discharges=10**9), "rare_drg_discharges"),
        (dict(max_share=1), "rare_drg_discharges"),
        (dict(count_years="some"), "training or all"),
    ],
)
def test_v5_refuses_with_a_remedy(changes, words):
    with pytest.raises(DataError, match=words):
        drop_rare_drgs(panel(), **(dict(max_discharges=5) | changes))


def test_a_share_is_the_same_limit_for_any_number_of_years_and_any_sample():
    frame = panel(held=1.0)
    counts = frame[frame.year <= 2012].groupby("apr_drg_code").discharges.sum()
    share = (counts.sort_values().iloc[1] / counts.sum()) * (1 + 1e-9)
    expected = set(counts.sort_values().index[2:])
    assert set(drop_rare_drgs(frame, None, share)[0].apr_drg_code) == expected
    assert (
        set(drop_rare_drgs(frame.assign(discharges=frame.discharges * 1000), None, share)[0].apr_drg_code)
        == expected
    )
    assert len(drop_rare_drgs(frame, None, share)[1]) == len(frame) - len(
        drop_rare_drgs(frame, None, share)[0]
    )


def test_where_all_years_are_held_out_no_drg_is_rare():
    "One year, as in a file of single stays: nothing to count in, and nothing to train on that could know it."
    one = panel()[lambda f: f.year == 2016]
    for limits in (dict(max_discharges=10**9), dict(max_discharges=None, max_share=0.9)):
        kept, set_aside = drop_rare_drgs(one, **limits)
        assert kept.equals(one) and list(set_aside) == [*one, "reason"] and not len(set_aside)
    kept, set_aside = drop_rare_drgs(
        one, int(one.groupby("apr_drg_code").discharges.sum().median()), count_years="all"
    )
    assert (
        len(kept)
        and len(set_aside)
        and "2016" in set_aside.reason[0]
        and "2016-2016" not in set_aside.reason[0]
    )


def test_v5_without_discharges_says_what_to_set():
    with pytest.raises(DataError, match="rare_drg_discharges: null"):
        drop_rare_drgs(panel().drop(columns="discharges"), 5)


# ---- v6


@pytest.mark.parametrize("seed", range(6))
def test_weighted_mean_and_median_are_numpys(seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(300, 5)).round(1 if seed % 2 else 6)  # rounded: many equal values
    weights = rng.integers(0, 5, (300, 5)).astype(float)
    weights[weights.sum(axis=1) == 0, 0] = 1
    values[weights == 0] = 0
    median, mean = weighted_median(values.T, weights.T), weighted_mean(values.T, weights.T)
    for row in range(300):
        repeated = np.repeat(values[row], weights[row].astype(int))
        assert median[row] == pytest.approx(np.median(repeated), abs=1e-12) and mean[row] == pytest.approx(
            repeated.mean(), abs=1e-12
        )


def test_weighted_median_of_weights_that_are_not_whole():
    "The slow definition: the smallest value at which weights exceed half; the mean of two where half is met."
    rng = np.random.default_rng(1)
    values, weights = rng.normal(size=(200, 4)), rng.uniform(0.1, 9, (200, 4))
    for row, found in enumerate(weighted_median(values.T, weights.T)):
        order = np.argsort(values[row])
        reached = np.cumsum(weights[row][order])
        assert found == values[row][order][np.searchsorted(reached, reached[-1] / 2)]


def test_weights_that_tell_nothing_give_nothing():
    nothing = np.array([[0.0, np.nan], [0.0, 1.0]])
    assert (
        np.isnan(weighted_median(np.ones((2, 2)), nothing)).all()
        and np.isnan(weighted_mean(np.ones((2, 2)), nothing)).all()
    )


@pytest.mark.parametrize("seed", range(3))
def test_severities_are_joined_as_a_slow_loop_joins_them(seed):
    frame = chain(panel(seed, facilities=3, drgs=4), end=5)
    out = agg_severities(frame, STATISTICS).set_index(KEYS)
    groups = frame.groupby(KEYS)
    assert out.index.is_unique and out.index.is_monotonic_increasing and len(out) == groups.ngroups
    np.testing.assert_allclose(out.filter(like="share_severity_").sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(out.sum_discharges, groups.discharges.sum())
    for key, group in groups:
        row, weights = out.loc[key], group.discharges.astype(int)
        for code in range(5):
            assert row[f"share_severity_{code}"] == pytest.approx(
                group.discharges[group[SEVERITY] == code].sum() / group.discharges.sum()
            )
        for column in [c for c in frame if c.removeprefix("total_").split("_")[0] in STATISTICS]:
            repeated = np.repeat(group[column].to_numpy(), weights)
            assert row[f"w_{column}"] == pytest.approx(
                np.median(repeated) if "median" in column else repeated.mean()
            )
            if column.startswith("total_mean_"):
                assert row[f"sum_{column}"] == pytest.approx(group[column].sum())


def test_a_total_is_the_mean_times_the_discharges_after_joining_too():
    out = chain(panel(), end=6)
    for measure in ("charge", "cost", "profit"):
        np.testing.assert_allclose(
            out[f"sum_total_mean_{measure}"], out[f"w_mean_{measure}"] * out.sum_discharges
        )
    np.testing.assert_allclose(out.w_mean_profit, out.w_mean_charge - out.w_mean_cost, atol=1e-6)


def test_one_severity_is_joined_to_itself():
    frame = chain(panel(severities=1, held=1.0), end=5)
    out = agg_severities(frame, STATISTICS)
    for column in ("median_cost", "total_median_profit"):
        assert out[f"w_{column}"].equals(frame[column])
    np.testing.assert_allclose(out.w_mean_cost, frame.mean_cost)
    assert out.share_severity_0.eq(1).all()


def test_a_source_without_severities_keeps_its_values_and_names():
    frame = chain(panel(severities=1, held=1.0), end=5).drop(columns=SEVERITY)
    frame.loc[0, "discharges"] = np.nan
    out = agg_severities(frame, STATISTICS, has_severity=False)
    with_severity = agg_severities(frame.assign(**{SEVERITY: 0}), STATISTICS)
    assert list(out) == [c for c in with_severity if not c.startswith("share_")]
    assert out.w_mean_cost.equals(frame.mean_cost) and out.sum_discharges.equals(frame.discharges)


def test_one_unknown_severity_leaves_the_cell_unknown():
    frame = panel()
    frame.loc[0, "discharges"] = np.nan
    out = agg_severities(totals(frame, STATISTICS), STATISTICS)
    assert out.iloc[0].drop(KEYS).isna().all() and not out.iloc[1:].isna().any(axis=None)


def test_v6_without_discharges_has_no_weights():
    with pytest.raises(DataError, match="weighted by their discharges"):
        agg_severities(panel().drop(columns="discharges"), STATISTICS)


# ---- v7, v8, v9


def test_share_of_drgs_by_counting():
    frame = chain(panel(held=0.1), end=6)
    out = ratio_drg_facility_vs_year(frame).ratio_drg_facility_vs_year
    facility, year = (
        frame.groupby(["year", "facility_id"]).apr_drg_code.transform("nunique"),
        frame.groupby("year").apr_drg_code.transform("nunique"),
    )
    np.testing.assert_array_equal(out, facility / year)
    assert out.between(0, 1, inclusive="right").all()


@pytest.mark.parametrize("facilities", [1, 2, 5, 7, 40])
def test_size_classes_are_even_and_ordered(facilities):
    rng = np.random.default_rng(facilities)
    frame = pd.DataFrame(
        {
            "year": np.repeat([2016, 2017], facilities),
            "facility_id": [str(i) for i in range(facilities)] * 2,
            "sum_discharges": rng.permutation(2 * facilities) + 1.0,
        }
    )
    out = yearly_discharge_bin(frame)
    for _, year in out.groupby("year"):
        assert year.sort_values("sum_discharges").yearly_discharge_bin.is_monotonic_increasing
        counts = year.yearly_discharge_bin.value_counts()
        assert counts.max() - counts.reindex(np.arange(1.0, 6.0), fill_value=0).min() <= 1


def test_size_classes_of_ties_and_unknown_years():
    frame = pd.DataFrame(
        {
            "year": [2013] * 3 + [2016] * 3,
            "facility_id": list("abc") * 2,
            "sum_discharges": [np.nan] * 3 + [7.0] * 3,
        }
    )
    out = yearly_discharge_bin(frame).yearly_discharge_bin
    assert out[:3].isna().all() and out[3:].eq(1).all()
    assert yearly_discharge_bin(frame.drop(columns="sum_discharges")).yearly_discharge_bin.isna().all()


def test_markup():
    frame = pd.DataFrame({"w_mean_charge": [10.0, 10.0, np.nan], "w_mean_cost": [4.0, 0.0, 1.0]})
    out = charge_to_cost_ratio(frame, ["cost", "payment"])
    assert (
        out.charge_to_cost_ratio[0] == 2.5
        and out.charge_to_cost_ratio[1:].isna().all()
        and "charge_to_payment_ratio" not in out
    )
    assert "charge_to_payment_ratio" in charge_to_cost_ratio(
        frame.rename(columns={"w_mean_cost": "w_mean_payment"}), ["cost", "payment"]
    )


# ---- v10, v11, v12


def slow_lags(frame, measures, reach):
    "The definition, row by row."
    rows = {tuple(r[k] for k in KEYS): r for r in frame.to_dict("records")}

    def previous(year, facility, drg):
        earlier = [
            y
            for (y, f, d), r in rows.items()
            if (f, d) == (facility, drg)
            and y < year
            and any(not np.isnan(v) for k, v in r.items() if k not in KEYS)
        ]
        return max(earlier) if earlier and year - max(earlier) <= reach else None

    records = []
    for year, facility, drg in sorted(rows):
        one = previous(year, facility, drg)
        two = previous(one, facility, drg) if one is not None else None
        record = dict(
            year=year,
            facility_id=facility,
            apr_drg_code=drg,
            lag_gap_years=np.nan if one is None else year - one,
        )
        for m in measures:
            values = [np.nan if y is None else rows[y, facility, drg][m] for y in (one, two)]
            known = [v for v in values if not np.isnan(v)]
            record |= {f"lag_{m}": values[0], f"roll2_{m}": np.mean(known) if known else np.nan}
        records.append(record)
    return pd.DataFrame(records)


@pytest.mark.parametrize(
    ("years", "reach"),
    [
        (range(2009, 2018), 1),
        ([2009, 2010, 2012, 2013, 2017, 2021], 1),
        ([2011, 2013, 2016, 2017, 2019], 3),
        ([2011, 2013, 2016, 2017, 2019], 2),
    ],
)
def test_lags_and_rolling_means_by_definition(years, reach):
    rng = np.random.default_rng(reach)
    frame = chain(
        panel(1, years, facilities=4, drgs=4, severities=2, held=0.5), end=9, v5=dict(max_discharges=None)
    )[[*KEYS, "sum_discharges", "w_mean_cost"]]
    frame["sum_discharges"] = frame.sum_discharges.mask(
        (frame.year == years[1]) | (rng.random(len(frame)) < 0.1)
    )
    future = frame[KEYS].drop_duplicates(["facility_id", "apr_drg_code"]).assign(year=years[-1] + 1)
    frame = pd.concat([frame, future.astype({"year": "int32"})], ignore_index=True)
    measures = ["sum_discharges", "w_mean_cost"]
    expected = slow_lags(frame, measures, reach)
    v10 = create_lag_features(frame, ALL, reach)
    for column in [*KEYS, "lag_gap_years", *[f"lag_{m}" for m in measures]]:
        np.testing.assert_array_equal(v10[column], expected[column])
    kept, set_aside = rolling_features(v10)
    assert len(set_aside) == len(frame[["facility_id", "apr_drg_code"]].drop_duplicates()) and set(
        set_aside.reason
    ) == {"first year of the pair"}
    joined = kept.merge(expected, on=KEYS, suffixes=("", "_expected"))
    for m in measures:
        np.testing.assert_allclose(joined[f"roll2_{m}"], joined[f"roll2_{m}_expected"], rtol=1e-12)


def test_a_gap_is_a_gap():
    frame = pd.DataFrame(
        {
            "year": [2015, 2016, 2018, 2019],
            "facility_id": "4",
            "apr_drg_code": "194",
            "w_mean_cost": [1.0, 2.0, 4.0, 5.0],
        }
    )
    out = create_lag_features(frame, ALL)
    assert out.lag_w_mean_cost.fillna(0).to_list() == [0, 1, 0, 4] and out.lag_gap_years.fillna(
        0
    ).to_list() == [0, 1, 0, 1]
    kept, _ = rolling_features(out)
    assert kept.roll2_w_mean_cost.fillna(0).to_list() == [1, 0, 4]


@pytest.mark.parametrize("year", [2010, 2013, 2017])
def test_no_feature_of_a_year_knows_that_year_or_a_later_one(v9, year):
    "Poison every measure from `year` on: the features of rows up to `year` stay as they were."
    poisoned = v9.copy()
    measures = [c for c in v9 if c not in KEYS]
    poisoned.loc[poisoned.year >= year, measures] = np.random.default_rng(year).normal(
        1e9, 1e8, (int((v9.year >= year).sum()), len(measures))
    )
    clean, dirty = chain(v9, 10, 12), chain(poisoned, 10, 12)
    pd.testing.assert_frame_equal(clean[clean.year <= year], dirty[dirty.year <= year], check_exact=True)
    assert not clean[clean.year > year].equals(dirty[dirty.year > year]) or year == v9.year.max()


@pytest.mark.parametrize("year", [2014, 2016, 2017])
def test_the_whole_chain_knows_nothing_of_the_held_out_years(year):
    "The same from v2, over every step: years from `year` on are invented anew, some of their rows vanish."
    frame = panel()
    later = frame.year >= year
    rng = np.random.default_rng(year)
    poisoned = frame.astype({"discharges": "float64"})
    for column in ["discharges", "mean_charge", "median_charge", "mean_cost", "median_cost"]:
        poisoned.loc[later, column] = rng.integers(1, 10**6, later.sum()).astype(float)
    poisoned = poisoned[~(poisoned.year > year) | (rng.random(len(frame)) < 0.7)].reset_index(drop=True)
    limit = int(frame[frame.year <= 2012].groupby("apr_drg_code").discharges.sum().median())
    clean, dirty = chain(frame, v5=dict(max_discharges=limit)), chain(poisoned, v5=dict(max_discharges=limit))
    pd.testing.assert_frame_equal(clean[clean.year <= year], dirty[dirty.year <= year], check_exact=True)


def test_rows_to_be_forecast_get_features_and_change_none(v9):
    last = int(v9.year.max())
    future = pd.concat(
        [
            v9[KEYS].drop_duplicates(["facility_id", "apr_drg_code"]).assign(year=last + ahead)
            for ahead in (1, 2)
        ]
    ).astype({"year": "int32"})
    known, longer = chain(v9, 10, 12), chain(pd.concat([future, v9], ignore_index=True), 10, 12)
    pd.testing.assert_frame_equal(known, longer[longer.year <= last].reset_index(drop=True), check_exact=True)
    next_year = longer[longer.year == last + 1].merge(v9[v9.year == last], on=["facility_id", "apr_drg_code"])
    assert (
        len(next_year)
        and next_year.lag_w_mean_cost.equals(next_year.w_mean_cost)
        and next_year.lag_gap_years.eq(1).all()
    )
    assert longer[longer.year == last + 2].drop(columns=KEYS).isna().all(axis=None)


@pytest.mark.parametrize(
    ("years", "reach", "words"),
    [
        ([2011, 2013, 2016], 1, "2011, 2013, 2016.*within 1 of one another.*max_gap_years to 2"),
        ([2011, 2019], 3, "max_gap_years to 8"),
    ],
)
def test_years_that_give_no_lag_are_refused(years, reach, words):
    frame = pd.DataFrame({"year": years, "facility_id": "4", "apr_drg_code": "194", "w_mean_cost": 1.0})
    with pytest.raises(DataError, match=words):
        create_lag_features(frame, ALL, reach)


def test_v10_refuses_repeated_keys_and_no_measures(v9):
    with pytest.raises(DataError, match="share the key.*v6"):
        create_lag_features(pd.concat([v9, v9]), ALL)
    with pytest.raises(DataError, match="no column matches x_"):
        create_lag_features(v9, ["x_*"])


def test_v11_refuses_what_it_cannot_roll(v9):
    with pytest.raises(DataError, match="v10"):
        rolling_features(v9)
    lagged = create_lag_features(v9, ALL)
    with pytest.raises(DataError, match="not in the table"):
        rolling_features(lagged[lagged.year == 2017])
    apart = pd.DataFrame(
        {"year": [2016, 2017], "facility_id": ["4", "10"], "apr_drg_code": "194", "w_mean_cost": 1.0}
    )
    with pytest.raises(DataError, match="two years"):
        rolling_features(create_lag_features(apart, ALL))


def test_the_leakage_guard(v9):
    v11 = chain(v9, 10, 11)
    out = drop_non_lag_columns(v11, ["lag_*", "roll2_*"])
    assert (
        list(out)[:3] == KEYS
        and all(c.startswith(("lag_", "roll2_")) for c in list(out)[3:])
        and check_no_leak(out) is out
    )
    for keep, words in (
        (["*"], "w_mean_charge"),
        (["lag_*", "w_median_profit"], "w_median_profit: of the target year"),
        (["x_*"], "no lag_ or roll2_"),
    ):
        with pytest.raises(DataError, match=words):
            drop_non_lag_columns(v11, keep)
    with pytest.raises(DataError, match="lack year"):
        check_no_leak(out.drop(columns="year"))


# ---- the real extracts, read in place


def real_chain(name, source, end, *overrides):
    "v0 of a real extract through the steps as the pipeline composes them: each table, and rows set aside."
    frame, made, aside = pd.read_csv(extract(name), dtype=str, keep_default_na=False), {}, {}
    for number in range(1, end + 1):
        version = f"v{number}"
        parameters = as_dict(
            compose([f"data_versions={version}", f"data_sources={source}", *overrides]).transformation
        )
        out = step_function(version)(frame, **parameters)
        frame, beside = out if isinstance(out, tuple) else (out, None)
        made[version], aside[version] = frame, beside
    return made, aside


@pytest.fixture(scope="module")
def medicare():
    return real_chain("medicare_ny_2011_2019.csv.gz", "medicare_csv", 12)


@pytest.mark.build
def test_the_2020_extract_to_v9():
    made, _ = real_chain(
        "sparcs_cost_2020_musculoskeletal.csv.gz", "sparcs_csv", 9, "data_sources.rare_drg_discharges=null"
    )
    v1, v9 = made["v1"], made["v9"]
    assert len(v1) == 7515 and len(v9) == 3192 and not v9.isna().any(axis=None)
    np.testing.assert_allclose(v9.sum_discharges.sum(), v1.discharges.sum())
    np.testing.assert_allclose(v9.sum_total_mean_cost.sum(), (v1.mean_cost * v1.discharges).sum())
    row = v9.query("facility_id == '1' and apr_drg_code == '301'").iloc[0]
    cell = v1.query("facility_id == '1' and apr_drg_code == '301'")
    assert row.sum_discharges == cell.discharges.sum() and cell.discharges.to_list()[:2] == [13, 12]
    for column in ("median_charge", "median_cost"):
        assert row[f"w_{column}"] == np.median(np.repeat(cell[column], cell.discharges.astype(int)))
    total = (cell.median_charge - cell.median_cost) * cell.discharges
    assert row.w_total_median_profit == pytest.approx(
        np.median(np.repeat(total, cell.discharges.astype(int)))
    )
    assert sorted(v9.groupby("yearly_discharge_bin").facility_id.nunique()) == [33, 34, 34, 34, 34]
    assert 2 < v9.charge_to_cost_ratio.median() < 5
    v10 = create_lag_features(v9, ALL)
    assert len(v10) == len(v9) and v10.filter(regex="^lag_").isna().all(axis=None)
    v11, first = rolling_features(v10)
    assert not len(v11) and len(first) == len(v9) and set(first.reason) == {"first year of the pair"}
    assert not len(drop_non_lag_columns(v11, ["lag_*", "roll2_*"]))


@pytest.mark.build
def test_the_2021_rows_of_the_cost_file_to_v9():
    made, aside = real_chain(
        "sparcs_cost_2021_severity2.csv", "sparcs_csv", 9, "data_sources.rare_drg_discharges=null"
    )
    v1, v9 = made["v1"], made["v9"]
    assert len(v9) == len(v1) == 870 and v9.share_severity_2.eq(1).all()
    row = v9.query("facility_id == '1168' and apr_drg_code == '560'").iloc[0]
    assert row[
        ["sum_discharges", "w_mean_charge", "w_median_charge", "w_mean_cost", "w_median_cost"]
    ].to_list() == pytest.approx([434, 45808, 42428, 12136, 11398])
    assert row.w_total_median_profit == (42428 - 11398) * 434
    assert aside["v2"]["drgs"].set_index("apr_drg_code").apr_drg_description["560"] == "Vaginal Delivery"


def test_the_medicare_panel_to_v12(medicare):
    made, aside = medicare
    v9, v10, v11, v12 = (made[f"v{n}"] for n in (9, 10, 11, 12))
    assert len(v9) == len(v10) == 44956 and len(v11) == len(v12) and len(v11) + len(aside["v11"]) == len(v10)
    assert not [c for c in v12 if "median" in c or "profit" in c or "severity" in c or "cost" in c]
    years = v9.groupby(["facility_id", "apr_drg_code"]).size()
    assert len(aside["v11"]) == len(years) and (years >= 2).sum() == len(
        v11[["facility_id", "apr_drg_code"]].drop_duplicates()
    )
    assert 11_500 < (years >= 2).sum() < 12_500 and 5_500 < (years >= 4).sum() < 6_500
    assert len(v11) == 29148 and sorted(v10.lag_gap_years.dropna().unique()) == [1, 2, 3]
    assert (
        v9[v9.year == 2013].yearly_discharge_bin.isna().all()
        and v9[v9.year != 2013].yearly_discharge_bin.notna().all()
    )
    hip = v10.query("facility_id == '330101' and apr_drg_code == '470'").set_index("year")
    assert (
        hip.lag_w_mean_payment[2019] == hip.w_mean_payment[2017]
        and hip.lag_gap_years[2016] == 3
        and hip.lag_gap_years[2013] == 2
    )
    assert np.isnan(hip.lag_sum_discharges[2016]) and hip.lag_w_mean_charge[2016] == hip.w_mean_charge[2013]


def test_the_medicare_panel_forecasts_three_years_ahead(medicare):
    v9 = medicare[0]["v9"]
    future = (
        v9[KEYS].drop_duplicates(["facility_id", "apr_drg_code"]).assign(year=2022).astype({"year": "int32"})
    )
    out = create_lag_features(pd.concat([v9, future], ignore_index=True), ["w_*"], 3)
    ahead = out[out.year == 2022]
    assert (
        ahead.lag_w_mean_payment.notna().sum() == (v9.year == 2019).sum()
        and ahead.lag_gap_years.dropna().eq(3).all()
    )


def test_golden_counts_of_the_whole_cost_file():
    path = os.environ.get("DRG_LIB_SPARCS_CSV")
    if not path:
        pytest.skip("DRG_LIB_SPARCS_CSV does not name a downloaded copy of the cost file (2009-2017)")
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    frame = frame[frame["Year"].astype(int) <= 2017].reset_index(drop=True)
    rows = {}
    for version in [f"v{n}" for n in range(1, 13)]:
        parameters = as_dict(compose([f"data_versions={version}", "data_sources=sparcs_csv"]).transformation)
        out = step_function(version)(
            frame, **(parameters | (dict(count_years="all") if version == "v5" else {}))
        )
        frame = out[0] if isinstance(out, tuple) else out
        rows[version] = len(frame)
    assert (rows["v1"], rows["v5"], rows["v6"], rows["v12"]) == (1_081_672, 1_039_994, 358_435, 309_684)
