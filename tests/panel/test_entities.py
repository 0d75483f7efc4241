"""Entities: one label for each id with its history, and DRG codes that moved between grouper versions."""

import numpy as np
import pandas as pd
import pytest
from conftest import extract

from drg_lib.base.names import DESCRIPTIONS, KEYS, SEVERITY, DataError
from drg_lib.cleaning.drop_description_columns import NAMES, drop_description_columns
from drg_lib.cleaning.sanitize_column_names import sanitize_column_names
from drg_lib.panel.entities import apply_crosswalk, crosswalk_rows, label_key
from drg_lib.panel.oddities import entities
from drg_lib.pipeline.config import as_dict, compose
from drg_lib.sources.calibration import load_calibration
from drg_lib.sources.synthetic import generate
from drg_lib.versions.rules import thresholds_of
from drg_lib.versions.step import write_checked


@pytest.fixture(scope="module")
def thresholds():
    return thresholds_of()


@pytest.fixture(scope="module")
def crosswalk():
    return as_dict(compose(["crosswalk=apr_drg_v38"]).crosswalk)


def step(version, *overrides):
    return as_dict(compose([f"data_versions={version}", *overrides]).transformation)


# ---- labels


@pytest.fixture(scope="module")
def facilities():
    "The names that facilities went by in 2016 and in 2022, as rows of v1."
    names = pd.read_csv(extract("facility_name_variants.csv"), dtype=str)
    years = {"sparcs2016_hip": 2016, "sparcs2016_rand": 2016, "sparcs2022": 2022}
    names = names[names["src"].isin(years)]
    return pd.DataFrame(
        {
            "year": names["src"].map(years).astype("int32"),
            "facility_id": names["pfi"],
            "apr_drg_code": "194",
            "facility_name": names["name"],
            "k": names["k"],
        }
    )


def test_names_that_differ_in_case_and_punctuation_alone_are_one(facilities):
    "The extract brings a key of its own, made elsewhere: letters and digits in capitals."
    ours, theirs = label_key(facilities["facility_name"]), facilities["k"]
    ampersand = facilities["facility_name"].str.contains("&")
    assert (ours[~ampersand] == theirs[~ampersand].str.lower()).all() and ours[ampersand].str.contains(
        "and"
    ).all()
    assert facilities["facility_name"].nunique() > ours.nunique() > 150


def test_labels_without_letters_and_missing_ones_stay_what_they_are():
    keys = label_key(pd.Series(["--", "+", None, "Ö & Söhne", "o AND sohne", "李医院"]))
    assert (
        keys.isna().to_list() == [False, False, True, False, False, False]
        and keys[0] != keys[1]
        and keys[3] == keys[4]
        and keys[5] == "李医院"
    )


def test_the_name_of_the_latest_year_stands_for_a_facility(facilities):
    lookups = drop_description_columns(facilities.drop(columns="k"), ["facility_name"])[1]
    canonical, history = lookups["facilities"].set_index("facility_id"), lookups["facility_names"]
    assert canonical.index.is_unique and set(canonical.index) == set(facilities["facility_id"])
    latest = facilities[facilities["year"] == facilities.groupby("facility_id")["year"].transform("max")]
    labels = latest.assign(key=label_key(latest["facility_name"])).groupby("facility_id")["key"].agg(set)
    assert all(key in labels[i] for i, key in label_key(canonical["facility_name"]).items())
    assert set(zip(history["facility_id"], history["facility_name"])) == set(
        zip(facilities["facility_id"], facilities["facility_name"])
    )
    assert (
        history["rows"].sum() == len(facilities)
        and (history.groupby("facility_id")["canonical"].sum() == 1).all()
    )
    seen = facilities.groupby(["facility_id", "facility_name"])["year"].agg(["min", "max"]).reset_index()
    both = history.merge(seen, on=["facility_id", "facility_name"])
    assert (both["first_year"] == both["min"]).all() and (both["last_year"] == both["max"]).all()
    renamed = history.loc[~history["same_label"], "facility_id"].nunique()
    assert 30 < renamed < 60  # 41 of those that are in both years, by DATA_FACTS


def test_a_name_on_two_facilities_and_two_names_on_one_are_found(facilities, thresholds):
    findings = pd.DataFrame(
        entities(drop_description_columns(facilities.drop(columns="k"), ["facility_name"])[1], thresholds)
    ).set_index("check")
    shared = facilities.groupby(label_key(facilities["facility_name"]))["facility_id"].nunique()
    assert findings.loc["one name on several ids", "count"] == (shared > 1).sum() == 2
    assert {"several names on one id", "spelt in several ways"} <= set(findings.index) and (
        findings["severity"] == "report"
    ).all()
    assert (
        " and " in findings.loc["one name on several ids", "example"]
        and "(2016-2016); " in findings.loc["several names on one id", "example"]
    )


@pytest.mark.build
def test_the_medicare_panel_keeps_every_name(thresholds):
    raw = pd.read_csv(extract("medicare_ny_2011_2019.csv.gz"), dtype=str, keep_default_na=False)
    v1, _ = sanitize_column_names(raw, **step("v1", "data_sources=medicare_csv"))
    v2, lookups = drop_description_columns(v1, **step("v2", "data_sources=medicare_csv"))
    assert "crosswalk" not in lookups and v2["apr_drg_code"].equals(v1["apr_drg_code"])
    for name, (key, label, canonical) in NAMES.items():
        history = lookups[name]
        assert history["rows"].sum() == v1[label].notna().sum() and not history.duplicated([key, label]).any()
        assert (history["last_year"] >= history["first_year"]).all() and (
            history["years"] <= v1["year"].nunique()
        ).all()
        assert set(history.loc[history["canonical"], label]) == set(lookups[canonical][label])
        assert history[history["canonical"]].equals(history[history["canonical"] & history["same_label"]])
    albany = lookups["facility_names"].query("facility_id == '330003'")
    assert (
        albany["facility_name"].str.lower().nunique() == 1
        and albany["same_label"].all()
        and lookups["facilities"].set_index("facility_id").facility_name["330003"]
        == "Albany Memorial Hospital"
    )
    assert {"several names on one id", "spelt in several ways"} <= {
        f["check"] for f in entities(lookups, thresholds)
    }


# ---- codes that moved


@pytest.fixture(scope="module")
def v1():
    "A synthetic panel of 2009 to 2017, and 2021 made of 2017's rows, where hips and knees have new codes."
    raw = generate(load_calibration(), 0.01, 5, 2024)
    frame, _ = sanitize_column_names(raw, **step("v1", "data_sources=synthetic"))
    frame = frame[~frame["apr_drg_code"].isin(["301", "302", "324", "326"])]
    hip, knee = frame["apr_drg_code"].value_counts().index[:2]  # a small draw may lack the real ones
    frame = frame.assign(apr_drg_code=frame["apr_drg_code"].replace({hip: "301", knee: "302"}))
    later = frame[frame["year"] == 2017].assign(year=np.int32(2021))
    later["apr_drg_code"] = later["apr_drg_code"].replace({"301": "324", "302": "326"})
    return pd.concat([frame, later]).sort_values([*KEYS, SEVERITY], ignore_index=True)


def test_histories_go_on_under_the_new_code(v1, crosswalk, thresholds):
    before = v1[v1["apr_drg_code"].isin(["301", "302", "324", "326"])]
    v2, lookups = drop_description_columns(v1, DESCRIPTIONS, crosswalk, "apr")
    report = lookups["crosswalk"].set_index("old")
    assert (
        not set(v2["apr_drg_code"]) & {"301", "302"}
        and len(v2) == len(v1)
        and not v2.duplicated([*KEYS, SEVERITY]).any()
    )
    for old, new in (("301", "324"), ("302", "326")):
        old_rows = before[before["apr_drg_code"] == old]
        assert report.loc[old, "rows_moved"] == len(old_rows) > 0 and report.loc[old, "rows_kept_apart"] == 0
        assert (
            report.loc[old, ["old_first_year", "old_last_year", "new_first_year", "new_last_year"]]
            == [old_rows["year"].min(), old_rows["year"].max(), 2021, 2021]
        ).all()
        assert set(v2.loc[v2["apr_drg_code"] == new, "year"]) == {*old_rows["year"], 2021}
        assert (
            lookups["drg_names"].query("apr_drg_code == @new")["first_year"].min() == old_rows["year"].min()
        )
    money = ["discharges", "mean_charge", "median_cost"]
    pd.testing.assert_series_equal(v1[money].sum(), v2[money].sum())
    rest = v2[~v2["apr_drg_code"].isin(["324", "326"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(
        rest, v1[~v1["apr_drg_code"].isin(["301", "302", "324", "326"])][list(rest)].reset_index(drop=True)
    )
    findings = [f for f in entities(lookups, thresholds) if f["check"] == "code moved"]
    assert [f["example"] for f in findings] == ["301 to 324", "302 to 326"] and sum(
        f["count"] for f in findings
    ) == report["rows_moved"].sum()


def test_without_a_crosswalk_codes_stay(v1):
    none = as_dict(compose(["crosswalk=none"]).crosswalk)
    v2, lookups = drop_description_columns(v1, DESCRIPTIONS, none, "apr")
    assert v2["apr_drg_code"].equals(v1["apr_drg_code"]) and "crosswalk" not in lookups


def test_the_choice_reaches_the_step_and_the_sidecar(v1, crosswalk, tmp_path):
    chosen = step("v2", "crosswalk=apr_drg_v38")
    assert chosen["crosswalk"] == crosswalk and step("v2")["crosswalk"]["rows"] == []
    v2, lookups = drop_description_columns(v1, **chosen)
    parent = dict(version="v1", rows=len(v1), sha256="0" * 64, source={}, config={})
    sidecar, findings = write_checked(v1, v2, "v2", tmp_path, parent, None, lookups, chosen)
    assert (
        sidecar["config"]["parameters"]["crosswalk"]["name"] == "apr_drg_v38"
        and sidecar["findings"]["code moved"] == 2
    )
    assert pd.read_parquet(tmp_path / "v2/crosswalk.parquet")["rows_moved"].sum() > 0 and len(
        pd.read_parquet(tmp_path / "v2/findings.parquet")
    ) == len(findings)


def cells(*rows):
    return pd.DataFrame(
        [(y, f, d, s, 10.0) for y, f, d, s in rows], columns=[*KEYS, SEVERITY, "discharges"]
    ).astype({"year": "int32", SEVERITY: "int8"})


def test_where_a_facility_uses_both_codes_in_a_year_all_its_rows_of_that_year_stay(thresholds):
    frame = cells(
        (2016, "4", "301", 1),
        (2017, "4", "301", 1),
        (2017, "4", "301", 2),
        (2017, "4", "324", 1),
        (2017, "10", "301", 1),
        (2021, "4", "324", 1),
    )
    moved, report = apply_crosswalk(frame, [("301", "324", 2021)])
    assert not moved.duplicated([*KEYS, SEVERITY]).any() and report[
        ["rows_moved", "rows_kept_apart"]
    ].values.tolist() == [[2, 2]]
    assert moved.query("facility_id == '4' and year == 2017")["apr_drg_code"].to_list() == [
        "301",
        "301",
        "324",
    ]
    (finding,) = [f for f in entities(dict(crosswalk=report), thresholds) if f["check"] == "code kept apart"]
    assert (
        finding["severity"] == "stop" and "largest_kept_apart" in finding["message"]
    )  # half of them is no renaming
    (finding,) = [
        f
        for f in entities(dict(crosswalk=report), thresholds | dict(largest_kept_apart=0.6))
        if f["check"] == "code kept apart"
    ]
    assert finding["severity"] == "report" and finding["count"] == 2


def test_an_old_code_after_its_year_stays_and_is_reported(thresholds):
    moved, report = apply_crosswalk(
        cells((2020, "4", "301", 1), (2021, "4", "301", 1)), [("301", "324", 2021)]
    )
    assert moved["apr_drg_code"].to_list() == ["324", "301"] and report["old_from_year_on"].to_list() == [1]
    assert "old code still in use" in {f["check"] for f in entities(dict(crosswalk=report), thresholds)}


def test_a_code_may_move_twice():
    rows = crosswalk_rows(
        dict(
            name="x",
            grouper="apr",
            rows=[dict(old="2", new="3", from_year=2018), dict(old="1", new="2", from_year=2015)],
        ),
        "apr",
    )
    moved, _ = apply_crosswalk(
        cells((2014, "4", "001", 1), (2016, "4", "002", 1), (2019, "4", "003", 1)), rows
    )
    assert set(moved["apr_drg_code"]) == {"003"}


@pytest.mark.parametrize(
    ("rows", "grouper", "words"),
    [
        ([dict(old="301", new="324", from_year=2021)], "ms", "crosswalk=none"),
        ([dict(old="301", new="301", from_year=2021)], "apr", "itself"),
        ([dict(old="301", new="324")], "apr", "row 1.*from_year"),
        ([dict(old="hip", new="324", from_year=2021)], "apr", "three digits"),
        (
            [dict(old="301", new="324", from_year=2021), dict(old="301", new="323", from_year=2021)],
            "apr",
            "moves twice",
        ),
    ],
)
def test_a_wrong_crosswalk_is_refused(rows, grouper, words):
    with pytest.raises(DataError, match=f"configs/crosswalk/mine.yaml.*{words}"):
        crosswalk_rows(dict(name="mine", grouper="apr", rows=rows), grouper)
