"The year to be forecast is shuffled, scaled and given other rows: no feature, fold or forecast may notice."

from functools import cache

import numpy as np
import pandas as pd
import pytest
from conftest import extract

from drg_lib.base.names import KEYS, SEVERITY
from drg_lib.forecasting.tuning import fit_and_predict, trials_table, tune
from drg_lib.partitioning import assemble
from drg_lib.pipeline.config import as_dict, compose
from drg_lib.pipeline.explore import apply_step, quick_overrides
from drg_lib.sources.read import read_source
from drg_lib.versions.chain import known_versions

SMALL = {
    "ridge": {},
    "randomforest": {"n_estimators": 5},
    "catboost": {"iterations": 10, "depth": 3},
    "hist_gradient_boosting": {"max_iter": 10, "max_bins": 16},
}
SEARCHED = {
    "ridge": ["alpha"],
    "randomforest": ["min_samples_leaf"],
    "catboost": ["learning_rate"],
    "hist_gradient_boosting": ["learning_rate"],
}
STEPS = [version for version in known_versions() if version not in ("v1", "v2")]


@cache
def composed(group, *overrides):
    return as_dict(compose(overrides)[group])


def chain(choice, frame, versions):
    "`versions` in turn, each made by its own step and config."
    made = {}
    for version in versions:
        frame = made[version] = apply_step(
            version, frame, composed("transformation", *choice, f"data_versions={version}")
        )[0]
    return made


def cleaned(choice):
    "v2 of a source, and the source's config."
    source = composed("data_sources", *choice)
    return chain(choice, read_source(source), ["v1", "v2"])["v2"], source


def poisoned(v2, years, seed=1):
    "`v2` with the values of `years` shuffled and scaled, a third of their rows gone, and rows of new pairs."
    rng = np.random.default_rng(seed)
    at = v2["year"].isin(years).to_numpy()
    rest, own = v2[~at], v2[at].copy()
    values = [c for c in own.select_dtypes("number") if c not in (*KEYS, SEVERITY)]
    for c in values:
        own[c] = (rng.permutation(own[c].to_numpy("float64")) * rng.uniform(2, 50)).astype("float64")
    own["discharges"] = own["discharges"].round()
    own = own[rng.random(len(own)) > 0.33]
    cells = [k for k in (*KEYS, SEVERITY) if k in own]
    new = own.sample(min(200, len(own)), random_state=seed)
    new = new.assign(facility_id=rng.permutation(new["facility_id"].to_numpy())).astype(own.dtypes.to_dict())
    return pd.concat([rest.astype(own.dtypes.to_dict()), own, new], ignore_index=True).drop_duplicates(
        cells, ignore_index=True
    )


@pytest.fixture(scope="module")
def synthetic():
    choice = quick_overrides()
    return choice, *cleaned(choice)


def learn(choice, v2, source, target, models, folder):
    "Features, folds, what each model's study tried and chose, and its forecasts."
    made = chain(choice, v2, STEPS)
    target = composed("target", *choice, f"target={target}")
    table, meta = assemble(
        made["v12"], made["v9"], target, source["n_test_years"], source["n_validation_years"]
    )
    found = {}
    for name in models:
        config = composed("models", *choice, f"models={name}")
        config = config | dict(
            parameters=config["parameters"] | SMALL[name],
            search_space={k: config["search_space"][k] for k in SEARCHED[name]},
        )
        study = tune(table, meta, config, folder / f"{name}.db", n_trials=2)
        _, predictions, loss = fit_and_predict(table, meta, config, study.best_params)
        found[name] = dict(
            name=study.study_name,
            best=study.best_params,
            trials=trials_table(study).drop(columns="seconds").to_dict("records"),
            loss=loss,
            predictions=predictions,
        )
    return made["v12"], table, meta, found


def same(left, right, years, columns=None):
    "Rows of `years` that both hold, equal in all columns; how many there are."
    left, right = (t[t["year"].isin(years)].set_index(KEYS).sort_index() for t in (left, right))
    held = left.index.intersection(right.index)
    columns = [c for c in left if c not in ("target", "discharges", "split")] if columns is None else columns
    pd.testing.assert_frame_equal(left.loc[held, columns], right.loc[held, columns], check_exact=True)
    return len(held)


@pytest.mark.parametrize("years", [[2017], [2016, 2017]], ids=["last year", "both test years"])
def test_poisoned_test_years_of_synthetic_source(synthetic, years, tmp_path):
    choice, v2, source = synthetic
    models = list(SMALL) if years == [2017] else ["ridge"]
    clean = learn(choice, v2, source, "w_total_median_profit", models, tmp_path / "clean")
    dirty = learn(choice, poisoned(v2, years), source, "w_total_median_profit", models, tmp_path / "dirty")
    check(clean, dirty, years, models)


def test_poisoned_last_year_of_uneven_years(tmp_path):
    choice = ["data_sources=medicare_csv", f"data_sources.path={extract('medicare_ny_2011_2019.csv.gz')}"]
    frame, source = cleaned(choice)
    clean = learn(choice, frame, source, "mean_charge", ["ridge"], tmp_path / "clean")
    dirty = learn(choice, poisoned(frame, [2019]), source, "mean_charge", ["ridge"], tmp_path / "dirty")
    check(clean, dirty, [2019], ["ridge"])


def check(clean, dirty, years, models):
    upto = range(2009, min(years) + 1)
    before = range(2009, min(years))
    features, other = clean[0], dirty[0]
    assert same(features, other, upto) > 500
    pd.testing.assert_frame_equal(
        *(f[f["year"].isin(before)].reset_index(drop=True) for f in (features, other)), check_exact=True
    )
    shared = clean[1][clean[1]["year"].isin(years)].merge(dirty[1][dirty[1]["year"].isin(years)], on=KEYS)
    assert len(shared) and (shared["target_x"] != shared["target_y"]).mean() > 0.99, (
        "the poison did not reach the target"
    )
    assert set(map(tuple, clean[1].loc[clean[1]["year"].isin(years), KEYS].to_numpy())) != set(
        map(tuple, dirty[1].loc[dirty[1]["year"].isin(years), KEYS].to_numpy())
    )
    for key in ("folds", "features", "categorical", "train_years", "validation_years", "test_years"):
        assert clean[2][key] == dirty[2][key], key
    for name in models:
        left, right = clean[3][name], dirty[3][name]
        for key in ("name", "best", "loss"):
            assert left[key] == right[key], (name, key)
        assert repr(left["trials"]) == repr(right["trials"]), name
        assert same(left["predictions"], right["predictions"], upto, ["prediction"]) > 500
        at_test = [
            t["predictions"].query(
                "split == 'test' and year == @min_year", local_dict=dict(min_year=min(years))
            )
            for t in (left, right)
        ]
        assert all(len(t) for t in at_test)


def test_a_leak_would_be_seen(synthetic, tmp_path):
    "The comparison is not blind: a feature taken from the rows that exist in the year itself fails it."
    choice, v2, source = synthetic
    tables = [chain(choice, frame, STEPS) for frame in (v2, poisoned(v2, [2017]))]
    leaked = [
        t["v12"].assign(
            lag_leak=t["v12"].groupby(["year", "facility_id"])["lag_sum_discharges"].transform("mean")
        )
        for t in tables
    ]
    with pytest.raises(AssertionError):
        same(*leaked, [2017])
