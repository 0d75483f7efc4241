"""The check of a file: what it is, what its columns become, all that does not fit, the settings it needs."""

import gzip

import pytest
from conftest import ROOT, extract

from drg_lib.base.names import DataError
from drg_lib.pipeline.source_check import check, typed_path
from drg_lib.sources.check import MOST_LINES, check_file, report
from drg_lib.sources.known import source_configs

HEADER = (
    "Year,Facility Id,APR DRG Code,APR Severity of Illness Code,Discharges,"
    "Mean Charge,Median Charge,Mean Cost,Median Cost"
)
OWN = dict(
    kind="csv",
    columns=dict(
        year=["yr"], facility_id=["hosp_no"], apr_drg_code=["drg"], discharges=["cases"], mean_charge=[]
    ),
    measures=["charge", "cost"],
    statistics=["mean", "median"],
    has_severity=True,
    max_gap_years=1,
    n_test_years=2,
    n_validation_years=3,
    rare_drg_discharges=5000,
)


def costs(years, rows=3, **change):
    row = dict(zip(HEADER.split(","), ["", "", "194", "1", "9000", "10.5", "9.5", "5.5", "4.5"])) | change
    lines = [
        ",".join(str(value) for value in (row | {"Year": year, "Facility Id": facility}).values())
        for year in years
        for facility in range(1, rows + 1)
    ]
    return "\n".join([HEADER, *lines, ""])


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_that_fits_needs_nothing(tmp_path):
    checked = check_file(write(tmp_path / "costs.csv", costs(range(2009, 2018))))
    assert checked.fits and checked.source == "sparcs_csv" and checked.whole
    assert checked.years == list(range(2009, 2018)) and checked.rows == checked.counted == 27
    assert checked.columns["Facility Id"] == "facility_id" and not checked.faults and not checked.remarks
    assert "fits the source sparcs_csv" in report(checked) and "27 rows, 2009 to 2017" in report(checked)


def test_all_faults_of_an_own_source_are_told_at_once(tmp_path):
    rows = ["2014;1;194;12;x", "2016;1;194;0;5,50", "2018;;194;30;7,25", "2018;2;1940;3;1", "2018;3;194;9;1"]
    text = "\n".join(["Yr;Hosp No;DRG;Cases;Mean Charge", *rows, ""])
    checked = check_file(write(tmp_path / "own.csv", text), configs=dict(neighbour=OWN))
    said = "\n".join(checked.faults)
    assert len(checked.faults) == 3 and all(
        words in said for words in ("'x', which is not a number", "at least 1 discharge", "not a DRG code")
    )
    assert "1 rows name no facility" in checked.remarks[0]
    assert checked.recognized == {"own.csv": ["divided by semicolons", "amounts with a decimal comma"]}
    wrong = {setting.name: setting.instead for setting in checked.settings if not setting.fits}
    assert wrong == {
        "statistics": ["mean"],
        "measures": ["charge"],
        "has_severity": False,
        "max_gap_years": 2,
        "n_test_years": None,
        "n_validation_years": None,
        "rare_drg_discharges": None,
    }
    lines = report(checked)
    assert (
        "set max_gap_years: 2" in lines
        and "rare_drg_discharges: null" in lines
        and "bring more years" in lines
    )


def test_every_lacking_column_is_named_with_the_one_that_may_be_it(tmp_path):
    text = costs([2016]).replace("Discharges", "Dischargs").replace("Median Cost", "Typical")
    checked = check_file(write(tmp_path / "costs.csv", text), "sparcs_csv")
    assert [fault.split(".")[0] for fault in checked.faults] == [
        "No column stands for discharges",
        "No column stands for median_cost",
    ]
    assert "'Dischargs' may be it" in checked.faults[0]
    assert checked.columns["Dischargs"] == "" and checked.columns["Mean Cost"] == "mean_cost"


def test_a_file_of_another_source_is_recognized(tmp_path):
    path = extract("sparcs_discharges_2016_sample.csv")
    checked = check_file(path, "sparcs_csv")
    assert not checked.fits and "make run SOURCE=sparcs_discharges DATA=" in checked.faults[0]
    assert check_file(path).source == "sparcs_discharges"
    assert check_file(extract("medicare_ny_2011_2019.csv.gz")).fits


def test_a_year_that_is_not_said_hides_no_other_fault(tmp_path):
    text = costs([2016]).replace("Year,", "").replace("2016,", "").replace("10.5", "x")
    checked = check_file(write(tmp_path / "costs.csv", text), "sparcs_csv")
    assert "lacks year" in checked.faults[0] and "'x', which is not a number" in checked.faults[1]
    assert checked.years == [] and not any("year" in setting.name for setting in checked.settings)


def test_every_file_of_a_folder_is_told(tmp_path):
    write(tmp_path / "a.csv", costs([2015]).replace("Mean Cost", "x"))
    write(tmp_path / "b.csv", costs([2016]).replace("Mean Charge", "y"))
    checked = check_file(tmp_path, "sparcs_csv")
    assert len(checked.faults) >= 1 and "mean_cost" in checked.faults[0]
    write(tmp_path / "a.csv", costs([2015]))
    checked = check_file(tmp_path, "sparcs_csv")
    assert list(checked.recognized) == ["a.csv", "b.csv"] and "b.csv" in checked.faults[0]


@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"PK\3\4", b"\x1f\x8b", b"\0" * 5000, b"%PDF-1.7\n%%EOF", b"[1, 2]", b"{", b"<html>"],
)
def test_what_is_no_table_is_told_in_few_lines(tmp_path, content):
    path = tmp_path / "thing"
    path.write_bytes(content)
    checked = check_file(path)
    assert checked.faults and not checked.fits
    assert len(report(checked).splitlines()) <= 20 and len(report(checked)) < 6_000


def test_a_report_stays_short_whatever_a_file_holds(tmp_path):
    wide = ",".join(f"column_{i}" for i in range(5000))
    checked = check_file(write(tmp_path / "wide.csv", f"{wide}\n{wide}\n"))
    assert len(report(checked).splitlines()) <= 20 + MOST_LINES and len(report(checked)) < 8_000
    rows = "\n".join(f'{{"a": {i}}}' for i in range(2_500))
    checked = check_file(write(tmp_path / "rows.json", rows))
    assert len(report(checked)) < 6_000


def test_a_large_file_is_judged_by_all_its_years(tmp_path, monkeypatch):
    from drg_lib.sources import check, files

    monkeypatch.setattr(check, "MOST_ROWS", 5)
    monkeypatch.setattr(files, "BATCH_ROWS", 4)
    checked = check_file(write(tmp_path / "costs.csv", costs(range(2009, 2018))))
    assert not checked.whole and checked.rows == 5 and checked.counted == 27 and len(checked.years) == 9
    assert not any(setting.name == "rare_drg_discharges" for setting in checked.settings)


def test_an_unknown_source_and_one_without_files_are_refused():
    for name in ("sparks", "synthetic", "database"):
        with pytest.raises(DataError, match=f"source {name}.*Remedy: one of medicare_csv, sparcs_csv"):
            check_file("x.csv", name)


def test_the_command_says_by_its_status_whether_a_file_fits(tmp_path, capsys, monkeypatch):
    good = tmp_path / "costs.csv.gz"
    good.write_bytes(gzip.compress(costs(range(2009, 2018)).encode()))
    assert check(str(good)) == 0 and "compressed (gzip)" in capsys.readouterr().out
    assert check(str(write(tmp_path / "bad.csv", costs([2016], **{"Mean Cost": "x"}))), "sparcs_csv") == 1
    assert check(str(good), "sparks") == 2 and "Remedy" in capsys.readouterr().err
    monkeypatch.setenv("HOME", str(tmp_path))
    assert typed_path("~/costs.csv.gz") == str(good)
    monkeypatch.setenv("DRG_LIB_ROOT", str(ROOT))
    monkeypatch.chdir(tmp_path)
    assert typed_path("costs.csv.gz") == str(good) and check("nowhere.csv") == 1


def test_the_configs_are_read_as_hydra_composes_them():
    from drg_lib.pipeline.config import as_dict, compose

    for name, config in source_configs(ROOT).items():
        composed = as_dict(compose([f"data_sources={name}"]).data_sources)
        for key in ("columns", "optional_columns", "measures", "max_gap_years", "n_test_years", "states"):
            assert config[key] == composed[key], (name, key)


def test_values_and_settings_are_tried_though_a_column_is_lacking(tmp_path):
    text = costs([2015, 2016, 2017], **{"Mean Cost": "x"}).replace(",Median Charge", ",Typical")
    checked = check_file(write(tmp_path / "costs.csv", text), "sparcs_csv")
    assert "No column stands for median_charge" in checked.faults[0] and "'x'" in checked.faults[1]
    assert checked.years == [2015, 2016, 2017] and checked.settings
