"""Small panels made by hand, and the published columns, which several tests start from."""

import numpy as np
import pandas as pd

from drg_lib.base.names import KEYS

PUBLISHED = [
    "Year",
    "Facility Id",
    "Facility Name",
    "APR DRG Code",
    "APR Severity of Illness Code",
    "APR DRG Description",
    "APR Severity of Illness Description",
    "APR Medical Surgical Code",
    "APR Medical Surgical Description",
    "Discharges",
    "Mean Charge",
    "Median Charge",
    "Mean Cost",
    "Median Cost",
]
COST = {
    "name": "mean_cost",
    "column": "w_mean_cost",
    "label": "Mean cost",
    "unit": "USD per discharge",
    "transform": "change",
}


def panel(years=range(2009, 2018), facilities=12, drgs=9, seed=0):
    "v9 and v12 as small frames, made by hand."
    rng = np.random.default_rng(seed)
    values = pd.MultiIndex.from_product(
        [years, [str(100 + f) for f in range(facilities)], [f"{d:03d}" for d in range(drgs)]], names=KEYS
    ).to_frame(index=False)
    values["year"] = values["year"].astype("int32")
    facility, drg = values["facility_id"].astype(int) - 100, values["apr_drg_code"].astype(int)
    values["w_mean_cost"] = (
        5e3
        * (1 + drg)
        * (1 + 0.05 * facility)
        * 1.04 ** (values["year"] - 2009)
        * np.exp(rng.normal(0, 0.1, len(values)))
    )
    values["sum_discharges"] = rng.integers(1, 200, len(values)).astype(float)
    values = values[rng.random(len(values)) > 0.03].sort_values(KEYS, ignore_index=True)
    ordered = values.sort_values(["facility_id", "apr_drg_code", "year"])
    pair = ordered.groupby(["facility_id", "apr_drg_code"])
    features, gap = ordered[KEYS].copy(), pair["year"].diff()
    for c in ("w_mean_cost", "sum_discharges"):
        features[f"lag_{c}"] = pair[c].shift().where(gap == 1)
        features[f"roll2_{c}"] = (
            features[f"lag_{c}"]
            .groupby([ordered["facility_id"], ordered["apr_drg_code"]])
            .transform(lambda s: (s + s.shift().fillna(s)) / 2)
        )
    features["lag_gap_years"] = gap.where(gap == 1)
    features = features[pair.cumcount() > 0].sort_values(KEYS, ignore_index=True)
    return values, features
