"""Files in the forms that users bring (../shared/data/cases): each has its right outcome."""

import functools
import shutil

import pytest
from conftest import EXTRACTS

from drg_lib.base.names import DataError
from drg_lib.cleaning.sanitize_column_names import sanitize_column_names
from drg_lib.inspection import find_all
from drg_lib.panel.profile import as_canonical
from drg_lib.pipeline.config import as_dict, compose
from drg_lib.sources.files import Told
from drg_lib.sources.read import read_batches, read_with_set_aside
from drg_lib.sources.recognize import described
from drg_lib.versions.checks import check_table

CASES = EXTRACTS / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the files ../shared/data/cases are not here")
MONEY = ["mean_charge", "median_charge", "mean_cost", "median_cost"]
PLAIN = [100_683, 5_324_623.86, 4_792_161.58, 2_129_849.63, 1_863_618.34]


@functools.cache
def configured(name):
    chosen = [f"data_sources={name}"]
    return as_dict(compose(chosen).data_sources), as_dict(
        compose([*chosen, "data_versions=v1"]).transformation
    )


def read(case, source="sparcs_csv", **settings):
    "v1 of a case, the rows that v1 and v0 set aside, and what reading told."
    config, parameters = configured(source)
    config, told = config | dict(path=str(CASES / case)) | settings, Told()
    for _ in read_batches(config, told=told)[0]:
        pass
    raw, stays_aside = read_with_set_aside(config)
    tidy, aside = sanitize_column_names(raw, **parameters | dict(source=case))
    return tidy, aside, stays_aside, told


def sums(tidy, columns=("discharges", *MONEY)):
    return [round(float(tidy[column].sum()), 2) for column in columns]


SAME = {
    "s_plain.csv": [],
    "s_dollar.csv": [],
    "s_cp1252.csv": ["read as Windows-1252"],
    "s_semicolon.csv": ["divided by semicolons"],
    "s_utf16_tab.tsv": ["UTF-16", "tabs"],
    "s_rows.json": ["JSON records"],
    "s_excel_extra_cols.csv": ["3 columns without a name passed over"],
    "s_preamble.csv": ["2 lines above the header", "New York State Department of Health"],
    "names/two words.csv": [],
    "names/it's.csv": [],
    "names/Hospital Inpatient Cost (1).csv": [],
}


@pytest.mark.parametrize("case", SAME)
def test_every_form_of_the_cost_file_gives_the_same_sums_and_says_what_it_was(case):
    tidy, aside, _, told = read(case)
    assert len(tidy) == 144 and not len(aside) and sums(tidy) == PLAIN
    assert sorted(set(tidy["facility_id"])) == ["1", "1458", "58"]
    assert sorted(set(tidy["apr_drg_code"])) == ["005", "194", "720"]
    said = "; ".join([*described(told.files[0].form), *told.remarks])
    assert all(words in said for words in SAME[case]) and (SAME[case] or not said), said


def test_a_name_in_windows_1252_keeps_its_dash():
    tidy, *_ = read("s_cp1252.csv")
    assert "–" in tidy.loc[tidy["facility_id"] == "58", "facility_name"].iloc[0]


def test_a_workbook_that_is_not_whole_is_refused():
    with pytest.raises(DataError, match="s_as_xlsx.xlsx: not a whole workbook.*Remedy: .*save it again"):
        read("s_as_xlsx.xlsx")


def test_a_suppressed_value_is_refused_with_its_row_and_a_remedy():
    with pytest.raises(
        DataError, match=r"row 8 of the file.*'Discharges' holds '\*'.*Remedy: .*remove the row"
    ):
        read("s_suppressed_star.csv")


def test_rows_of_a_withheld_facility_are_set_aside_and_stop_nothing():
    tidy, aside, _, _ = read("s_blank_facility.csv")
    assert len(tidy) == 141 and set(aside["reason"]) == {"no facility id"}
    assert aside["row"].tolist() == [4, 51, 78]
    raw, _ = read_with_set_aside(configured("sparcs_csv")[0] | dict(path=str(CASES / "s_blank_facility.csv")))
    findings = check_table(tidy, "v1", configured("sparcs_csv")[0], before=raw, set_aside=aside)
    assert not (findings["severity"] == "stop").any()


def test_a_limit_in_shares_does_not_stop_a_small_extract():
    tidy, aside, _, _ = read("s_ungroupable.csv")
    assert len(tidy) == 144 and len(aside) == 2 and "row" not in aside
    raw, _ = read_with_set_aside(configured("sparcs_csv")[0] | dict(path=str(CASES / "s_ungroupable.csv")))
    findings = check_table(tidy, "v1", configured("sparcs_csv")[0], before=raw, set_aside=aside)
    assert not (findings["severity"] == "stop").any()


def test_a_download_of_exactly_a_thousand_rows_is_read_with_a_remark():
    tidy, _, _, told = read("s_api_1000_rows.csv")
    assert len(tidy) == 1000
    assert "exactly 1,000 rows, which is what the service gives when no limit is asked for" in told.remarks[0]


def test_points_that_may_stand_between_thousands_are_refused():
    with pytest.raises(DataError, match="'7.725', which may be thousands.*Remedy: write the amounts without"):
        read("s_dot_thousands.csv")


def test_the_inspection_works_on_amounts_with_dollars():
    config = configured("sparcs_csv")[0] | dict(path=str(CASES / "s_dollar.csv"))
    raw, _ = read_with_set_aside(config)
    assert round(as_canonical(raw, config)["mean_charge"].sum(), 2) == PLAIN[1]
    assert not (find_all(raw, config)["severity"] == "stop").any()


@pytest.mark.parametrize(
    "case, stays, cells, aside",
    [
        ("d_plain.csv", 60, 28, 0),
        ("d_pfi_identifier.csv", 60, 28, 0),
        ("d_2024_api.csv", 60, 30, 0),
        ("d_zero_ids.csv", 57, 26, 3),
        ("d_folder_both", 60, 28, 0),
        ("d_folder_nested", 120, 58, 0),
    ],
)
def test_stays_of_every_year_count_once(case, stays, cells, aside):
    tidy, _, set_aside, _ = read(case, "sparcs_discharges")
    assert (tidy["discharges"].sum(), len(tidy), len(set_aside)) == (stays, cells, aside)


def test_words_of_2024_are_descriptions_and_no_codes():
    tidy, *_ = read("d_2024_api.csv", "sparcs_discharges")
    assert set(tidy["apr_severity_of_illness_code"]) <= {1, 2, 3, 4}
    assert set(tidy["apr_severity_of_illness_description"]) <= {"Minor", "Moderate", "Major", "Extreme"}
    assert set(tidy["apr_medical_surgical_description"]) == {"Medical", "Surgical"}
    assert "apr_medical_surgical_code" not in tidy


def test_a_twin_in_a_folder_is_named():
    told = read("d_folder_both", "sparcs_discharges")[3]
    assert "Discharges_2016.zip holds the same as" in told.remarks[0] and ".csv" in told.remarks[0]


MEDICARE = ("discharges", "mean_charge", "mean_payment", "mean_medicare_payment")


@pytest.mark.parametrize("case", ["m_old_combined_year.csv", "m_old_renamed_needed_only.csv"])
def test_the_old_form_of_medicare(case):
    tidy, *_ = read(case, "medicare_csv")
    assert len(tidy) == 36 and sorted(set(tidy["year"])) == [2013, 2014, 2015, 2016]
    assert sums(tidy, MEDICARE) == [16_584, 1_524_131.19, 457_239.34, 381_032.79]
    assert sorted(set(tidy["apr_drg_code"])) == ["039", "064", "470"] and set(tidy["zip"].str.len()) == {5}


def test_a_definition_gives_code_and_words():
    tidy, *_ = read("m_old_combined_year.csv", "medicare_csv")
    words = tidy.set_index("apr_drg_code")["apr_drg_description"]["039"]
    assert set(words) == {"EXTRACRANIAL PROCEDURES W/O CC/MCC"}


@pytest.mark.parametrize("case", ["m_new_cp1252.csv", "m_new_pandas_floats.csv"])
def test_the_new_form_of_medicare(case):
    tidy, *_ = read(case, "medicare_csv")
    assert len(tidy) == 36 and sorted(set(tidy["year"])) == [2018, 2019, 2020, 2021]
    assert sums(tidy, MEDICARE)[:2] == [14_609, 1_689_284.43]
    assert "12208" in set(tidy["zip"]) and tidy["facility_id"].str.fullmatch("[0-9]{6}").all()


def test_a_year_as_published_takes_its_year_from_name_or_config(tmp_path):
    tidy, _, _, told = read("m_2016_raw.csv", "medicare_csv")
    assert (
        len(tidy) == 9 and set(tidy["year"]) == {2016} and "from the name" in described(told.files[0].form)[0]
    )
    with pytest.raises(
        DataError, match="lacks year.*Remedy: let the name end with the year.*or set year: 2022"
    ):
        read("m_new_raw_one_year.csv", "medicare_csv")
    assert set(read("m_new_raw_one_year.csv", "medicare_csv", year=2022)[0]["year"]) == {2022}
    named = tmp_path / "MUP_INP_RY24_P03_V10_DY22_PrvSvc.csv"
    shutil.copy(CASES / "m_new_raw_one_year.csv", named)
    assert set(read(named, "medicare_csv")[0]["year"]) == {2022}


def test_a_panel_to_2023_is_forecast_for_2024():
    config, _ = configured("medicare_csv")
    tidy, *_ = read("m_big_panel_to_2023.csv", "medicare_csv")
    assert len(tidy) == 384 and tidy["year"].max() == 2023 and config["forecast_year"] is None
    assert not any(year in config["title"] + config["note"] for year in ("2011", "2013", "2019", "New York"))


def test_remarks_on_the_files_stand_among_the_findings():
    _, _, _, told = read("s_api_1000_rows.csv")
    config = configured("sparcs_csv")[0] | dict(path=str(CASES / "s_api_1000_rows.csv"))
    found = find_all(read_with_set_aside(config)[0], config, remarks=told.remarks)
    row = found[found["check"] == "remark on the files"].iloc[0]
    assert row["severity"] == "report" and row["version"] == "v0" and "exactly 1,000 rows" in row["message"]


def test_a_table_with_a_dot_in_its_name_is_read():
    config, parameters = configured("database")
    path = CASES / "db_dot_table.sqlite"
    config = config | dict(url=f"sqlite:///{path}", url_variable=None, table="sparcs.2017")
    tidy, _ = sanitize_column_names(read_with_set_aside(config)[0], **parameters)
    assert len(tidy) == 144 and sums(tidy) == PLAIN
