"""Cleaning (v1, v2): what is refused and with which words, what is kept; descriptions are moved, not lost."""

import numpy as np
import pandas as pd
import pytest
from conftest import extract

from drg_lib.base.names import DESCRIPTIONS, KEYS, SEVERITY, DataError
from drg_lib.base.parse import clean_ids, clean_text, parse_numbers
from drg_lib.cleaning.drop_description_columns import drop_description_columns
from drg_lib.cleaning.sanitize_column_names import sanitize_column_names
from drg_lib.pipeline.config import as_dict, compose

NEEDED = {
    name: []
    for name in ["year", "facility_id", "apr_drg_code", SEVERITY, "discharges", "mean_charge", "mean_cost"]
} | {"facility_id": ["pfi"]}
OPTIONAL = {
    "facility_name": [],
    "apr_drg_description": [],
    "apr_severity_of_illness_description": [],
    "apr_medical_surgical_code": [],
}


def published(rows=12):
    "Rows as published in 2025: text, with thousands commas; facility 4, DRG 194 by year and severity."
    number = np.arange(rows)
    return pd.DataFrame(
        {
            "Year": (2015 + number // 4).astype(str),
            "Facility Id": "4",
            "Facility Name": "Albany Memorial Hospital",
            "APR DRG Code": "194",
            "APR Severity of Illness Code": (number % 4 + 1).astype(str),
            "APR DRG Description": "Heart Failure",
            "APR Medical Surgical Code": "M",
            "Discharges": "1,040",
            "Mean Charge": "8,375.41",
            "Mean Cost": "3,585.05",
        }
    ).astype("str")


def change(column, value, row=4):
    frame = published()
    frame.loc[row, column] = value
    return frame


BAD = {
    "text in a number column": (
        change("Mean Charge", "n/a"),
        [
            "row 5 of the file",
            "Year 2016",
            "Facility Id 4",
            "APR DRG Code 194",
            "'Mean Charge' holds 'n/a'",
            "not a number",
            "Remedy",
        ],
    ),
    "a comma that is no thousands comma": (
        change("Mean Cost", "35,85.05"),
        ["row 5", "'Mean Cost' holds '35,85.05'", "not a number"],
    ),
    "a decimal comma": (change("Mean Cost", "1,5"), ["'1,5'", "not a number"]),
    "infinite": (change("Mean Cost", "inf"), ["row 5", "'Mean Cost' holds 'inf'", "infinite", "Remedy"]),
    "negative infinite": (change("Mean Cost", "-Infinity"), ["infinite"]),
    "nan as text": (change("Mean Cost", "nan"), ["'Mean Cost' holds 'nan'", "not a number"]),
    "negative": (change("Mean Cost", "-0.01"), ["row 5", "'-0.01'", "negative", "Remedy"]),
    "a year with a fraction": (
        change("Year", "2016.5"),
        ["row 5", "'Year' holds '2016.5'", "calendar year", "Remedy"],
    ),
    "an implausible year": (change("Year", "216"), ["'216'", "calendar year from 1980 to 2100"]),
    "a missing year": (change("Year", ""), ["row 5", "'Year' holds ''", "key must not be missing"]),
    "no discharges": (change("Discharges", "0"), ["row 5", "'Discharges' holds '0'", "at least 1", "Remedy"]),
    "unknown discharges": (
        change("Discharges", "NA"),
        ["row 5", "'Discharges' holds 'NA'", "optional_columns"],
    ),
    "an unknown severity": (
        change("APR Severity of Illness Code", "5"),
        ["row 5", "'5'", "severity of illness from 0 to 4", "Remedy"],
    ),
    "a severity in words": (change("APR Severity of Illness Code", "Major"), ["'Major'", "not a number"]),
    "no facility in any row": (
        published().assign(**{"Facility Id": "0"}),
        ["no row names a facility ('Facility Id' is empty or 0)", "Remedy"],
    ),
    "a DRG in words": (change("APR DRG Code", "Heart Failure"), ["'Heart Failure'", "not a DRG code"]),
    "a DRG of four digits": (change("APR DRG Code", "1194"), ["'1194'", "not a DRG code"]),
    "a repeated key": (
        change("APR Severity of Illness Code", "2"),
        ["row 6", "row 5 has the same year, facility, DRG and severity", "Remedy"],
    ),
    "a row twice": (
        pd.concat([published(), published().iloc[[2]]], ignore_index=True),
        ["row 13", "row 3 has the same"],
    ),
    "a missing column": (published().drop(columns="Mean Cost"), ["lacks mean_cost", "Remedy"]),
    "two columns for one": (published().assign(PFI="4"), ["'Facility Id'", "'PFI'", "Remedy"]),
    "no rows": (published().iloc[:0], ["no rows", "Remedy"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_by_name(case):
    frame, words = BAD[case]
    with pytest.raises(DataError) as error:
        sanitize_column_names(frame, NEEDED, OPTIONAL, source="the cost file")
    assert str(error.value).startswith("the cost file")
    for word in words:
        assert word in str(error.value), f"{word!r} is not in: {error.value}"


@pytest.mark.parametrize("text", ["", " ", "NA", "0", "000", "0.0", "Redacted for Confidentiality"])
def test_rows_of_a_withheld_facility_are_set_aside_with_their_row(text):
    kept, aside = sanitize_column_names(change("Facility Id", text), NEEDED, OPTIONAL)
    assert len(kept) == len(published()) - 1 and aside["reason"].tolist() == ["no facility id"]
    assert aside["row"].tolist() == [5] and aside["mean_cost"].notna().all()


def test_other_faults_of_a_withheld_row_are_still_refused():
    frame = change("Facility Id", "")
    frame.loc[4, "Year"] = "Total"
    with pytest.raises(DataError, match="row 5 of the file.*'Year' holds 'Total'"):
        sanitize_column_names(frame, NEEDED, OPTIONAL)


def test_remedies_do_not_name_what_is_refused_next():
    for column, remedy in [
        ("Discharges", "remove the row"),
        ("Year", "remove the row"),
        ("Mean Cost", "empty"),
    ]:
        with pytest.raises(DataError, match=f"'\\*', which is not a number.*Remedy.*{remedy}"):
            sanitize_column_names(change(column, "*"), NEEDED, OPTIONAL)
    kept, _ = sanitize_column_names(change("Mean Cost", ""), NEEDED, OPTIONAL)
    assert kept["mean_cost"].isna().sum() == 1 + published()["Mean Cost"].eq("").sum()


def test_a_message_stays_short_whatever_a_cell_holds():
    with pytest.raises(DataError) as refusal:
        sanitize_column_names(change("Mean Cost", "x" * 100_000), NEEDED, OPTIONAL)
    assert len(str(refusal.value)) < 600


def test_a_refusal_counts_the_rows_like_it():
    frame = published()
    frame.loc[3:, "Mean Cost"] = "unknown"
    with pytest.raises(DataError, match=r"row 4 of the file.*8 more rows like it"):
        sanitize_column_names(frame, NEEDED, OPTIONAL)


def test_a_severity_must_be_mapped_or_declared_absent():
    needed = {k: v for k, v in NEEDED.items() if k != SEVERITY}
    with pytest.raises(DataError, match="has_severity: false"):
        sanitize_column_names(published(), needed, OPTIONAL)
    with pytest.raises(DataError, match="row 2 of the file.*row 1 has the same year, facility, DRG"):
        sanitize_column_names(published(), needed, OPTIONAL, has_severity=False)


def test_names_types_and_order():
    kept, set_aside = sanitize_column_names(published().iloc[::-1].reset_index(drop=True), NEEDED, OPTIONAL)
    assert list(kept) == [
        *KEYS,
        SEVERITY,
        "discharges",
        "mean_charge",
        "mean_cost",
        "facility_name",
        "apr_drg_description",
        "apr_medical_surgical_code",
    ]
    assert kept.dtypes.astype(str).to_dict() == {c: "str" for c in kept} | {
        "year": "int32",
        SEVERITY: "int8",
        "discharges": "float64",
        "mean_charge": "float64",
        "mean_cost": "float64",
    }
    assert kept.equals(kept.sort_values([*KEYS, SEVERITY], ignore_index=True)) and not len(set_aside)
    assert kept.discharges.eq(1040).all() and kept.mean_charge.eq(8375.41).all()


def test_either_vintage_gives_the_same_table():
    plain = published().assign(**{"Discharges": 1040, "Mean Charge": 8375.41, "Mean Cost": 3585.05})
    plain = plain.assign(
        **{
            c: plain[c].astype(int)
            for c in ["Year", "Facility Id", "APR DRG Code", "APR Severity of Illness Code"]
        }
    )
    floats = plain.assign(**{"Facility Id": 4.0, "Year": plain.Year.astype(float)})[plain.columns[::-1]]
    api = (
        published()
        .rename(columns={"Facility Id": "pfi", "Year": "year", "Mean Cost": "mean_cost"})
        .assign(**{"mean_cost": " 3585.05 "})
    )
    kept = sanitize_column_names(published(), NEEDED, OPTIONAL)[0]
    for other in (plain, floats, api):
        pd.testing.assert_frame_equal(sanitize_column_names(other, NEEDED, OPTIONAL)[0], kept)


def test_the_order_of_rows_does_not_matter():
    frame = published(40)
    kept = sanitize_column_names(frame, NEEDED, OPTIONAL)[0]
    for seed in range(5):
        pd.testing.assert_frame_equal(
            sanitize_column_names(
                frame.sample(frac=1, random_state=seed, ignore_index=True), NEEDED, OPTIONAL
            )[0],
            kept,
        )


def test_the_input_is_left_as_it_was():
    frame, copy = published(), published()
    sanitize_column_names(frame, NEEDED, OPTIONAL)
    pd.testing.assert_frame_equal(frame, copy)


def test_known_faults_are_kept_or_set_aside():
    "Literal NA in descriptions is missing; all repeated keys of DRG 956 go aside; others of that DRG stay."
    frame = published().assign(**{"APR Medical Surgical Code": "NA"})
    double = frame.iloc[[0, 1, 1, 2, 2, 2]].assign(**{"APR DRG Code": "956"})
    kept, set_aside = sanitize_column_names(pd.concat([double, frame], ignore_index=True), NEEDED, OPTIONAL)
    assert (
        kept.apr_medical_surgical_code.isna().all()
        and len(kept) == 13
        and (kept.apr_drg_code == "956").sum() == 1
    )
    assert (
        len(set_aside) == 5
        and set(set_aside.reason) == {"duplicate key of an ungroupable DRG"}
        and set_aside.reason.dtype == "str"
    )


def test_years_may_lack_discharges_where_the_source_says_so():
    frame = published()
    frame.loc[:3, "Discharges"] = ""
    optional = OPTIONAL | {"discharges": []}
    needed = {k: v for k, v in NEEDED.items() if k != "discharges"}
    assert sanitize_column_names(frame, needed, optional)[0].discharges.isna().sum() == 4
    assert "discharges" not in sanitize_column_names(frame.drop(columns="Discharges"), needed, optional)[0]


def test_ids():
    ids = pd.Series(["1,458", "4.0", "0004", "33T014", "0", "1,45", "1458"], dtype="str")
    assert clean_ids(ids).to_list() == ["1458", "4", "4", "33T014", "0", "1,45", "1458"]
    assert clean_ids(ids, 6).to_list() == ["001458", "000004", "000004", "33T014", "000000", "1,45", "001458"]


def test_numbers_are_read_as_python_reads_them():
    rng = np.random.default_rng(0)
    values = np.round(np.exp(rng.normal(9, 4, 2000)), 2)
    for form in ("{}", "{:,.2f}", " {:.17g} "):
        text = [form.format(v) for v in values.tolist()]
        numbers, wrong = parse_numbers(pd.Series(text, dtype="str"))
        assert not wrong.any() and numbers.tolist() == [float(t.replace(",", "")) for t in text]


def test_text_is_the_same_after_reading_it_by_distinct_values():
    text = pd.Series([" a", "NA", None, "b ", "a", ""], dtype="str")
    assert clean_text(text).astype("object").where(lambda s: s.notna(), None).to_list() == [
        "a",
        None,
        None,
        "b",
        "a",
        None,
    ]


# ---- v2

ALL = DESCRIPTIONS


def test_labels_are_the_latest_years_most_frequent():
    frame = pd.DataFrame(
        {
            "year": [2015] * 3 + [2016] * 3 + [2017],
            "facility_id": "4",
            "apr_drg_code": ["1", "2", "3"] * 2 + ["1"],
            "facility_name": ["Old"] * 3 + ["New", "New", "Newer"] + [None],
        }
    ).astype({"facility_name": "str"})
    kept, lookups = drop_description_columns(frame, ALL)
    (label,) = lookups["facilities"].to_dict("records")
    assert label == dict(facility_id="4", facility_name="New", first_year=2015, last_year=2017)
    assert list(kept) == KEYS and lookups["facilities_by_year"]["rows"].sum() == len(frame)


def test_ties_are_settled_by_the_text():
    frame = pd.DataFrame(
        {"year": 2016, "facility_id": ["4", "4"], "apr_drg_code": ["1", "2"], "facility_name": ["B", "A"]}
    )
    for rows in (frame, frame.iloc[::-1]):
        assert drop_description_columns(rows, ALL)[1]["facilities"].facility_name.to_list() == ["A"]


def test_an_id_without_a_label_stays_in_the_lookup():
    frame = pd.DataFrame(
        {"year": 2016, "facility_id": ["4", "5"], "apr_drg_code": "1", "facility_name": ["A", None]}
    )
    assert drop_description_columns(frame, ALL)[1]["facilities"].facility_id.to_list() == ["4", "5"]
    bare = drop_description_columns(frame.drop(columns="facility_name"), ALL)[1]
    assert list(bare["facilities"]) == ["facility_id", "first_year", "last_year"] and "severities" not in bare


def test_a_description_that_belongs_to_no_id_is_refused():
    with pytest.raises(DataError, match="mean_cost.*Remedy"):
        drop_description_columns(pd.DataFrame(), ["mean_cost"])


# ---- the real extracts, read in place

REAL = {
    "sparcs_csv": ["sparcs_cost_2020_musculoskeletal.csv.gz", "sparcs_cost_2021_severity2.csv"],
    "medicare_csv": ["medicare_ny_2011_2019.csv.gz"],
}
FILES = [(source, name) for source, names in REAL.items() for name in names]


def raw(name):
    return pd.read_csv(extract(name), dtype=str, keep_default_na=False)


def parameters(version, source):
    return as_dict(compose([f"data_versions={version}", f"data_sources={source}"]).transformation)


@pytest.mark.build
@pytest.mark.parametrize(("source", "name"), FILES)
def test_nothing_of_a_real_file_is_lost(source, name):
    v0 = raw(name)
    v1, set_aside = sanitize_column_names(v0, **parameters("v1", source))
    assert len(v1) + len(set_aside) == len(v0) and not len(set_aside)
    v2, lookups = drop_description_columns(v1, **parameters("v2", source))
    assert len(v2) == len(v1) and not set(v2) & set(DESCRIPTIONS)
    assert lookups["facilities"].facility_id.is_unique and lookups["drgs"].apr_drg_code.is_unique
    for table, key in (("facilities", "facility_id"), ("drgs", "apr_drg_code")):
        spellings = lookups[f"{table}_by_year"]
        texts = [c for c in spellings if c in DESCRIPTIONS]
        expected = v1.groupby([key, *texts, "year"], dropna=False).size().rename("rows").reset_index()
        pd.testing.assert_frame_equal(spellings, expected)
        assert set(v2[key]) == set(lookups[table][key])


@pytest.mark.build
def test_golden_values_of_the_2020_extract():
    v0 = raw("sparcs_cost_2020_musculoskeletal.csv.gz")
    v1, _ = sanitize_column_names(v0, **parameters("v1", "sparcs_csv"))
    row = v1.query("facility_id == '1' and apr_drg_code == '301' and apr_severity_of_illness_code == 2").iloc[
        0
    ]
    assert row[
        ["year", "discharges", "mean_charge", "median_charge", "mean_cost", "median_cost"]
    ].to_list() == [2020, 12, 78952.38, 76493.84, 25632.38, 24480.22]
    assert row.facility_name == "Albany Medical Center Hospital" and row.apr_medical_surgical_code == "P"
    assert (
        v1.discharges.sum() == v0["Discharges"].astype(float).sum()
        and v1.facility_id.nunique() == 169
        and v1.apr_drg_code.nunique() == 31
    )


@pytest.mark.build
def test_golden_values_of_the_medicare_panel():
    v1, _ = sanitize_column_names(raw("medicare_ny_2011_2019.csv.gz"), **parameters("v1", "medicare_csv"))
    row = v1.query("year == 2011 and facility_id == '330002' and apr_drg_code == '064'").iloc[0]
    assert row[["discharges", "mean_charge", "mean_payment", "mean_medicare_payment"]].to_list() == [
        12,
        36450.5,
        17272.17,
        16638.08,
    ]
    assert v1[v1.discharges.isna()].year.unique().tolist() == [2013] and SEVERITY not in v1
    assert v1[v1.year == 2011].mean_medicare_payment.notna().sum() == 5214
