"""Further files of the kinds that users bring: folders, twins, vintages, encodings, pages, near names."""

import functools
import gzip
import json
import shutil
import zipfile

import pandas as pd
import pytest
from test_fuzz import workbook

from drg_lib.base.names import DataError
from drg_lib.cleaning.sanitize_column_names import sanitize_column_names
from drg_lib.pipeline.config import as_dict, compose
from drg_lib.sources.files import Told, year_in_name
from drg_lib.sources.read import (
    read_batches,
    read_source,
    read_with_set_aside,
    source_record,
    with_what_was_read,
)
from drg_lib.sources.recognize import described

COSTS = (
    "Year,Facility Id,Facility Name,APR DRG Code,APR Severity of Illness Code,Discharges,"
    "Mean Charge,Median Charge,Mean Cost,Median Cost"
)
STAYS = "Discharge Year,Facility Id,APR DRG Code,APR Severity of Illness Code,Total Charges,Total Costs"
OLD = (
    "DRG Definition,Provider Id,Provider Name,Provider State, Total Discharges , Average Covered Charges ,"
    " Average Total Payments ,Average Medicare Payments"
)
NEW = (
    "Rndrng_Prvdr_CCN,Rndrng_Prvdr_Org_Name,Rndrng_Prvdr_State_Abrvtn,Rndrng_Prvdr_Zip5,DRG_Cd,DRG_Desc,"
    "Tot_Dschrgs,Avg_Submtd_Cvrd_Chrg,Avg_Tot_Pymt_Amt,Avg_Mdcr_Pymt_Amt"
)


@functools.cache
def configured(name):
    chosen = [f"data_sources={name}"]
    return as_dict(compose(chosen).data_sources), as_dict(
        compose([*chosen, "data_versions=v1"]).transformation
    )


def read(path, source="sparcs_csv", **settings):
    config, parameters = configured(source)
    told = Told()
    batches, _ = read_batches(config | dict(path=str(path)) | settings, told=told)
    raw = pd.concat([batch.to_pandas() for batch in batches], ignore_index=True)
    return sanitize_column_names(raw, **parameters | dict(source="the file"))[0], told


def costs(years=(2014, 2015), facilities=6):
    return [
        f"{year},{facility},Hospital {facility},194,{severity},{facility * 7},"
        f"{facility}000.25,900.5,700.75,600"
        for year in years
        for facility in range(1, facilities + 1)
        for severity in (1, 2)
    ]


def stays(year=2016, n=40):
    return [f"{year},{1 + i % 3},194,{1 + i % 4},{1000 + i}.50,{500 + i}.25" for i in range(n)]


def write(path, *lines, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, ""]), encoding=encoding)
    return path


def new_rows(state="NY", first="330001", n=4):
    return [
        f"{int(first) + i:06d},HOSPITAL {i},{state},12208,039,EXTRACRANIAL PROCEDURES,{20 + i},900{i}.5,"
        f"300{i},2500"
        for i in range(n)
    ]


def old_rows(n=4):
    return [
        f"039 - EXTRACRANIAL PROCEDURES W/O CC/MCC,33000{i},HOSPITAL {i},NY,{20 + i},"
        f'"$9,00{i}.50 ","$3,00{i}",$2500'
        for i in range(1, n + 1)
    ]


# ---------------------------------------------------------------- twins
def as_copy(file, folder):
    shutil.copy(file, folder / "stays (1).csv")


def as_gzip(file, folder):
    (folder / "stays.csv.gz").write_bytes(gzip.compress(file.read_bytes()))


def as_zip_below(file, folder):
    (folder / "archive").mkdir()
    with zipfile.ZipFile(folder / "archive" / "stays.zip", "w") as archive:
        archive.write(file, "2016/stays.csv")


@pytest.mark.parametrize("twin", [as_copy, as_gzip, as_zip_below])
def test_the_same_content_counts_once(tmp_path, twin):
    file = write(tmp_path / "stays.csv", STAYS, *stays())
    twin(file, tmp_path)
    tidy, told = read(tmp_path, "sparcs_discharges")
    assert tidy["discharges"].sum() == 40 and "holds the same as" in told.remarks[0]


def semicolons(lines):
    return [line.replace(",", ";") for line in [STAYS, *lines]]


def shuffled(lines):
    return [STAYS, *lines[::-1]]


def other_columns(lines):
    return [",".join(line.split(",")[::-1]) for line in [STAYS, *lines]]


def cut(lines):
    return [STAYS, *lines[:-3]]


@pytest.mark.parametrize("form", [semicolons, shuffled, other_columns, cut])
def test_the_same_rows_in_another_form_stop_the_run_with_both_names(tmp_path, form):
    write(tmp_path / "a.csv", STAYS, *stays())
    write(tmp_path / "b.csv", *form(stays()))
    with pytest.raises(DataError, match=r"(?s)(a\.csv.*b\.csv|b\.csv.*a\.csv).*twice.*Remedy: keep one"):
        read(tmp_path, "sparcs_discharges")


def test_two_years_in_a_folder_are_no_twins_though_alike(tmp_path):
    write(tmp_path / "2015" / "stays.csv", STAYS, *stays(2015))
    write(tmp_path / "2016" / "stays.csv", STAYS, *stays(2016))
    (tmp_path / "notes.pdf").write_bytes(b"%PDF")
    (tmp_path / ".hidden.csv").write_text("x")
    tidy, told = read(tmp_path, "sparcs_discharges")
    assert tidy["discharges"].sum() == 80 and told.remarks == [
        "1 files of the folder are no data files and not read: notes.pdf."
    ]
    record = source_record(configured("sparcs_discharges")[0] | dict(path=str(tmp_path)))
    assert [file["name"] for file in record["files"]] == ["2015/stays.csv", "2016/stays.csv"]


@pytest.mark.parametrize("between", [[], [STAYS]])
def test_stays_that_stand_twice_in_a_file_stop_the_run(tmp_path, between):
    write(tmp_path / "stays.csv", STAYS, *stays(), *between, *stays())
    with pytest.raises(DataError, match="row 41 of the file: from here on.*Remedy: keep the first 40 rows"):
        read(tmp_path / "stays.csv", "sparcs_discharges")


def test_cells_that_stand_twice_in_a_file_stop_the_run(tmp_path):
    write(tmp_path / "costs.csv", COSTS, *costs(), COSTS, *costs())
    with pytest.raises(DataError, match="row 25 of the file.*row 1 has the same year, facility, DRG"):
        read(tmp_path / "costs.csv")


def test_years_that_were_put_below_one_another_are_read(tmp_path):
    write(tmp_path / "costs.csv", COSTS, *costs([2014]), COSTS, *costs([2015]))
    tidy, told = read(tmp_path / "costs.csv")
    assert len(tidy) == 24 and "the header stands 1 times more" in told.remarks[0]


# ---------------------------------------------------------------- vintages
def test_a_folder_of_medicare_years_in_both_forms(tmp_path):
    write(tmp_path / "Medicare_Provider_Charge_Inpatient_DRGALL_FY2016.csv", OLD, *old_rows())
    write(tmp_path / "MUP_INP_RY24_P03_V10_DY22_PrvSvc.csv", NEW, *new_rows(), encoding="utf-8-sig")
    write(tmp_path / "2023" / "MUP_INP_PrvSvc.csv", NEW, *new_rows(), encoding="cp1252")
    tidy, told = read(tmp_path, "medicare_csv")
    assert tidy.groupby("year").size().to_dict() == {2016: 4, 2022: 4, 2023: 4}
    assert set(tidy["apr_drg_code"]) == {"039"} and tidy["mean_medicare_payment"].notna().all()
    words = tidy.groupby("year")["apr_drg_description"].first().to_dict()
    assert words[2016].startswith("EXTRACRANIAL PROCEDURES W/O") and words[2022] == "EXTRACRANIAL PROCEDURES"
    assert tidy["discharges"].notna().all() and tidy["zip"].dropna().eq("12208").all()
    assert [file.form.year for file in told.files] == [2023, 2022, 2016]
    assert with_what_was_read(dict(note="Means only."), told)["note"] == (
        "Means only. It holds 2016, 2022 and 2023; 2017 to 2021 are absent."
    )


@pytest.mark.parametrize(
    "name, year",
    [
        ("MUP_IHP_RY23_P03_V10_DY21_PRVSVC.CSV", 2021),
        ("Medicare_IP_Hospitals_by_Provider_and_Service_2019.csv", 2019),
        ("inpatient-fy14.csv", 2014),
        ("DRG100_FY2011 (1).csv", 2011),
        ("export_20240711.csv", None),
        ("costs_2016_2017.csv", None),
        ("rows.csv", None),
        ("12016.csv", None),
    ],
)
def test_the_year_that_a_name_says(name, year):
    assert year_in_name(name) == year


def test_the_whole_country_is_filtered_and_counted(tmp_path):
    lines = [
        *new_rows(),
        *new_rows("TX", "450001", 3),
        *new_rows("AL", "010001", 2),
        *new_rows(" ny ", "330101", 1),
    ]
    path = write(tmp_path / "DY22.csv", NEW, *lines)
    tidy, told = read(path, "medicare_csv")
    assert (
        len(tidy) == 5
        and "5 rows are of NY; 5 of other states were passed over (TX 3, AL 2)" in told.remarks[0]
    )
    everything, told = read(path, "medicare_csv", states=[])
    assert len(everything) == 10 and not told.remarks and "010001" in set(everything["facility_id"])
    alabama, _ = read(path, "medicare_csv", states=["AL"])
    assert alabama["facility_id"].tolist() == ["010001", "010002"]
    with pytest.raises(DataError, match="no rows of VT; it has NY.*Remedy: set states"):
        read(path, "medicare_csv", states=["VT"])


def test_ids_keep_their_zero_when_a_spreadsheet_took_it(tmp_path):
    rows = [row.replace("010001", "10001").replace(",039,", ",39,") for row in new_rows("AL", "010001", 1)]
    tidy, _ = read(write(tmp_path / "FY2022.csv", NEW, *rows), "medicare_csv", states=["AL"])
    assert tidy["facility_id"].tolist() == ["010001"] and tidy["apr_drg_code"].tolist() == ["039"]


@pytest.mark.parametrize(
    "facility, severity, words",
    [
        ("Facility ID", "APR Severity of Illness Code", "APR Severity of Illness Description"),
        ("Permanent Facility Id", "APR Severity of Illness Code", "APR Severity of Illness Description"),
        ("permanent_facility_identifier", "apr_severity_of_illness_code", "apr_severity_of_illness"),
        ("pfi", "apr_severity_of_illness", "apr_severity_of_illness_description"),
    ],
)
def test_stays_under_the_names_of_every_year(tmp_path, facility, severity, words):
    names = ["discharge_year", facility, "apr_drg_code", severity, words, "apr_medical_surgical"]
    header = ",".join([*names, "total_charges", "total_costs"])
    path = write(tmp_path / "stays.csv", header, '2024,"1,458",005,3,Major,Surgical,"1,000.50",500')
    tidy, _ = read(path, "sparcs_discharges")
    row = tidy.iloc[0]
    assert (row["facility_id"], row["apr_drg_code"], row["apr_severity_of_illness_code"]) == (
        "1458",
        "005",
        3,
    )
    assert row["apr_severity_of_illness_description"] == "Major"
    assert row["apr_medical_surgical_description"] == "Surgical"


# ---------------------------------------------------------------- what programs make of a file
def test_a_european_spreadsheet_is_read(tmp_path):
    rows = [row.replace(",", ";").replace(".", ",") for row in costs()]
    tidy, told = read(write(tmp_path / "costs.csv", COSTS.replace(",", ";"), *rows, encoding="utf-8-sig"))
    plain, _ = read(write(tmp_path / "plain.csv", COSTS, *costs()))
    pd.testing.assert_frame_equal(tidy, plain)
    assert described(told.files[0].form) == ["divided by semicolons", "amounts with a decimal comma"]


def test_a_comma_that_may_be_either_is_refused_with_its_row(tmp_path):
    rows = [row.replace(",", ";").replace(".", ",") for row in costs()]
    rows[17] = rows[17].replace("900,5", "8,375")
    with pytest.raises(
        DataError, match="row 18 of the file: '8,375' may be thousands or a decimal comma.*Remedy"
    ):
        read(write(tmp_path / "costs.csv", COSTS.replace(",", ";"), *rows))


def test_one_amount_with_cents_settles_points_before_three_digits(tmp_path):
    rows = [
        row.replace(".25", ".255").replace("900.5", "900.500").replace("700.75", "700.750") for row in costs()
    ]
    with pytest.raises(DataError, match="may be thousands"):
        read(write(tmp_path / "costs.csv", COSTS, *[row.replace("000.255", "1.255") for row in rows]))
    tidy, _ = read(write(tmp_path / "costs.csv", COSTS, *rows[:-1], rows[-1].replace("700.750", "700.7")))
    assert tidy["median_charge"].eq(900.5).all()


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "cp1252", "latin-1"]
)
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encoding_separator_and_line_ends_in_any_combination(tmp_path, encoding, separator, end):
    lines = [line.replace(",", separator).replace("Hospital 1", "Hôtel-Dieu") for line in [COSTS, *costs()]]
    path = tmp_path / "costs.csv"
    path.write_bytes((f"sep={separator}{end}" + end.join([*lines, ""])).encode(encoding))
    tidy, _ = read(path)
    assert len(tidy) == 24 and tidy.loc[tidy["facility_id"] == "1", "facility_name"].eq("Hôtel-Dieu").all()


def test_empty_columns_and_rows_of_a_spreadsheet_are_passed_over(tmp_path):
    rows = [f"{row},,," for row in costs()]
    rows[3] += "checked"
    path = write(tmp_path / "costs.csv", f"{COSTS},,,", *rows, *["," * 12] * 5)
    tidy, told = read(path)
    assert len(tidy) == 24
    assert told.remarks == [
        "costs.csv: 5 empty rows passed over.",
        "costs.csv: 1 values in columns without a name were not read.",
    ]


def test_a_workbook_is_read_from_the_sheet_that_knows_the_names(tmp_path):
    table = [line.split(",") for line in [COSTS, *costs()]]
    path = tmp_path / "costs.xlsx"
    path.write_bytes(
        workbook({"Notes": [["About"], ["Year", "of the download"]], "Costs": [["SPARCS"], [], *table]})
    )
    tidy, told = read(path)
    plain, _ = read(write(tmp_path / "plain.csv", COSTS, *costs()))
    pd.testing.assert_frame_equal(tidy, plain)
    assert described(told.files[0].form) == [
        "a workbook, read from its sheet 'Costs'",
        "1 lines above the header passed over (SPARCS)",
    ]


def test_records_that_lack_empty_fields_are_read(tmp_path):
    names = [name.lower().replace(" ", "_") for name in COSTS.split(",")]
    rows = [dict(zip(names, line.split(","))) for line in costs()]
    del rows[0]["mean_cost"], rows[1]["facility_name"]
    path = tmp_path / "rows.json.gz"
    path.write_bytes(gzip.compress(json.dumps(rows).encode()))
    tidy, told = read(path)
    assert tidy["mean_cost"].isna().sum() == 1 and len(tidy) == 24
    assert described(told.files[0].form) == ["JSON records", "compressed (gzip)"]


@pytest.mark.parametrize(
    "rows, words", [(1000, "no limit is asked for"), (5000, "by pages"), (50_000, "by pages")]
)
def test_pages_of_the_service_are_read_with_a_remark(tmp_path, rows, words):
    lines = [f"2016,{i},H,194,1,5,10.5,9.5,8.5,7.5" for i in range(1, rows + 1)]
    told = read(write(tmp_path / "costs.csv", COSTS, *lines))[1]
    assert len(told.remarks) == 1 and f"exactly {rows:,} rows" in told.remarks[0] and words in told.remarks[0]
    assert not read(write(tmp_path / "costs.csv", COSTS, *lines[1:]))[1].remarks


def test_an_optional_column_under_a_near_name_is_named(tmp_path):
    path = write(tmp_path / "costs.csv", COSTS.replace("Facility Name", "Facilty Name"), *costs())
    tidy, told = read(path)
    assert "facility_name" not in tidy and told.remarks == [
        "costs.csv: the column 'Facilty Name' is not used. If it holds facility_name, add facilty_name to "
        "facility_name in configs/data_sources/sparcs_csv.yaml."
    ]


# ---------------------------------------------------------------- messages
WIDE = ",".join(f"column {i} {'x' * 200}" for i in range(3000))
HOSTILE = {
    "records of another dataset": json.dumps([{f"field_{i}": "x" * 90 for i in range(400)}] * 2500),
    "a wide header": f"{WIDE}\n{WIDE}\n",
    "a long line": "x" * 900_000 + "\n",
    "a page of the web": "<html>" + "<p>\n" * 9000,
    "a list of numbers": json.dumps(list(range(100_000))),
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("source", ["sparcs_csv", "sparcs_discharges", "medicare_csv"])
def test_no_message_is_longer_than_twenty_lines(tmp_path, case, source):
    path = tmp_path / "thing.dat"
    path.write_text(HOSTILE[case])
    with pytest.raises(DataError, match="(?s)thing.dat.*Remedy") as refusal:
        read_source(configured(source)[0] | dict(path=str(path)))
    assert len(str(refusal.value).splitlines()) <= 20 and len(str(refusal.value)) < 5000


def test_stays_keep_their_file_and_row_below_a_folder(tmp_path):
    write(tmp_path / "a" / "stays.csv", STAYS, *stays(2015)[:20], "2015,,194,1,5,5")
    write(tmp_path / "b" / "stays.csv", STAYS, "2016,0,194,1,5,5", *stays(2016)[:20])
    _, aside = read_with_set_aside(configured("sparcs_discharges")[0] | dict(path=str(tmp_path)))
    assert aside[["file", "row"]].values.tolist() == [["a/stays.csv", 21], ["b/stays.csv", 1]]
