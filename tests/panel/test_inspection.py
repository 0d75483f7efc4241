"""Inspection: the quirks are found, growth is like for like, and the real extracts read in place."""

import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import EXTRACTS

from drg_lib.base.names import SEVERITY, DataError
from drg_lib.base.tables import write_json
from drg_lib.inspection import find_all
from drg_lib.panel import pictures as draw
from drg_lib.panel.prices import (
    coverage,
    matched_cells,
    money_columns,
    price_index,
    steadiness,
    with_last_value,
)
from drg_lib.panel.profile import as_canonical, by_year, largest, make_profile, spread
from drg_lib.panel.quirks import find_quirks
from drg_lib.reporting.style import listed

SHARED = EXTRACTS
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real extracts are not at {SHARED}")

SPARCS = dict(
    name="sparcs_csv",
    title="SPARCS Hospital Inpatient Cost Transparency",
    synthetic=False,
    max_gap_years=1,
    statistics=["mean", "median"],
    measures=["charge", "cost"],
    note="",
    columns={
        "year": [],
        "facility_id": ["facility_id_pfi", "pfi"],
        "apr_drg_code": [],
        SEVERITY: [],
        "discharges": [],
        "mean_charge": [],
        "median_charge": [],
        "mean_cost": [],
        "median_cost": [],
    },
    optional_columns={"facility_name": [], "apr_drg_description": [], "apr_medical_surgical_code": []},
)
MEDICARE = dict(
    name="medicare_csv",
    title="CMS Medicare inpatient hospitals, New York",
    synthetic=False,
    max_gap_years=3,
    statistics=["mean"],
    measures=["charge", "payment", "medicare_payment"],
    note="no costs",
    columns={
        "year": [],
        "facility_id": ["provider_id"],
        "apr_drg_code": ["ms_drg_code"],
        "mean_charge": ["mean_covered_charge"],
        "mean_payment": ["mean_total_payment"],
    },
    optional_columns={
        "discharges": [],
        "mean_medicare_payment": [],
        "facility_name": ["provider_name"],
        "apr_drg_description": ["drg_description"],
    },
)
FIVE = pd.DataFrame(
    {
        "Year": ["2016", "2015", "2016", "2017", "2017"],
        "Facility Id (PFI)": ["4", "4", "4", "4", "1,458"],
        "Facility Name": [
            "Albany Memorial",
            "Albany Memorial Hospital",
            "Albany Memorial",
            "Albany Memorial",
            "NYP",
        ],
        "APR DRG Code": ["194"] * 5,
        "APR DRG Description": ["Heart Failure"] * 4 + ["HEART FAILURE"],
        "APR Severity of Illness Code": ["1", "1", "1", "1", "0"],
        "APR Medical Surgical Code": ["M", "M", "NA", "M", "M"],
        "Discharges": ["2", "1", "2", "1,000", "3"],
        "Mean Charge": ["8,375.41", "8000", "8,375.41", "9000", "10"],
        "Median Charge": ["8,375.41", "8000", "8,375.41", "9000", "10"],
        "Mean Cost": ["3,585.05", "3500", "3,585.05", "-1", "20"],
        "Median Cost": ["3,585.05", "3500", "3,585.05", "0", "x"],
    }
)


def inspect(raw, source):
    frame = as_canonical(raw, source)
    columns = money_columns(frame.columns, source)
    years, index, gap = by_year(frame, source), price_index(frame, columns), source["max_gap_years"]
    profile = make_profile(
        frame,
        source,
        years,
        index,
        steadiness(frame, columns),
        spread(frame, source),
        coverage(frame, gap),
        with_last_value(frame, gap),
    )
    return frame, columns, years, index, profile


def pictures(frame, columns, years, index, source):
    syn = dict(note="Made up for a test.", synthetic=source["synthetic"])
    yield draw.plot_years(years, **syn)
    if len(years) > 1:
        yield draw.plot_growth(index, **syn)
    yield draw.plot_spread(frame, [c for c in columns if c.startswith("mean_")], **syn)
    yield draw.plot_largest(
        largest(frame, "facility_id", "facility_name"), frame.facility_id.nunique(), "hospitals", **syn
    )
    yield draw.plot_largest(
        largest(frame, "apr_drg_code", "apr_drg_description"), frame.apr_drg_code.nunique(), "DRGs", **syn
    )
    yield draw.plot_coverage(coverage(frame, source["max_gap_years"]), source["max_gap_years"], **syn)


def draw_all(frame, columns, years, index, source, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        titles = []
        for i, figure in enumerate(pictures(frame, columns, years, index, source)):
            figure.savefig(tmp_path / f"{i}.png")
            titles.append(figure._suptitle.get_text().replace("\n", " "))
    return titles


def test_quirks_of_five_rows():
    frame = as_canonical(FIVE, SPARCS)
    quirks = find_quirks(FIVE, frame, SPARCS).set_index("finding")["count"].to_dict()
    assert quirks == {
        "key (year, facility, DRG, severity) on more than one row": 2,
        "severity 0: not graded": 1,
        "thousands comma in facility_id": 1,
        "thousands comma in discharges": 1,
        "thousands comma in an amount": 2,
        "median_cost is not a finite number": 1,
        "apr_medical_surgical_code is blank or the text NA": 1,
        "mean_cost is negative": 1,
        "median_cost is 0": 1,
        "mean cost above mean charge": 1,
        "a single discharge": 1,
        "rows that come after a later year's: not sorted": 1,
        "facility_name changes within one facility_id": 1,
        "apr_drg_description changes within one apr_drg_code": 1,
        "apr_drg_description changes in capital letters only": 1,
    }


def test_a_clean_file_has_no_findings():
    clean = FIVE.iloc[[1, 3]].replace(
        {
            "Mean Cost": {"-1": "5"},
            "Median Cost": {"0": "5"},
            "Discharges": {"1": "7", "1,000": "8"},
            "Facility Name": {"Albany Memorial Hospital": "Albany Memorial"},
        }
    )
    clean = clean.assign(Year=["2016", "2017"])
    assert find_quirks(clean, as_canonical(clean, SPARCS), SPARCS).empty


def test_all_faults_of_a_file_are_found_at_once():
    rows = pd.DataFrame(
        {
            "Year": ["2016", "2017", "2017", "2017", "2021"],
            "pfi": ["4", "4", "10", "4/5", "10"],
            "DRG": ["194", "194", "194", "194", "560"],
            "Mean Charge": ["1", "n/a", "inf", "3", "4"],
        }
    )
    columns = {"year": [], "facility_id": ["pfi"], "apr_drg_code": ["drg"], "mean_charge": []}
    findings = find_all(rows, dict(columns=columns, has_severity=False, title="five rows"))
    stops = findings[findings["severity"] == "stop"]
    assert len(stops) == 3 and set(stops["column"]) == {"Mean Charge", "pfi"}


def test_bad_tables_are_refused():
    with pytest.raises(DataError, match="no rows"):
        as_canonical(FIVE.iloc[:0], SPARCS)
    with pytest.raises(DataError, match="mean_cost"):
        as_canonical(FIVE.drop(columns="Mean Cost"), SPARCS)
    with pytest.raises(DataError, match="no value of year"):
        as_canonical(FIVE.assign(Year="x"), SPARCS)
    with pytest.raises(DataError, match="no value of mean_charge"):
        as_canonical(FIVE.assign(**{"Mean Charge": "inf"}), SPARCS)


def test_growth_is_of_the_same_cells():
    frame = pd.DataFrame(
        dict(
            year=[2015.0, 2016, 2016, 2017, 2017],
            facility_id=["1", "1", "2", "1", "2"],
            apr_drg_code="194",
            discharges=[10.0, 10, 90, 10, 90],
            mean_charge=[100.0, 110, 9000, 121, 9000],
        )
    )
    index = price_index(frame, ["mean_charge"]).set_index("year")["index"]
    assert index[2016] == pytest.approx(1.1)
    assert index[2017] == pytest.approx(1.1 * (121 * 10 + 9000 * 90) / (110 * 10 + 9000 * 90))


def test_growth_without_discharges_weighs_cells_alike():
    frame = pd.DataFrame(
        dict(
            year=[2011.0, 2011, 2013, 2013],
            facility_id=["1", "2"] * 2,
            apr_drg_code="064",
            discharges=np.nan,
            mean_charge=[100.0, 300, 110, 300],
        )
    )
    assert price_index(frame, ["mean_charge"])["index"].tolist() == pytest.approx([1, 410 / 400])
    assert len(matched_cells(frame, "mean_charge")) == 2


def test_coverage_counts_the_longest_run():
    frame = pd.DataFrame(
        dict(
            year=[2011, 2013, 2016, 2017, 2019, 2011, 2017],
            facility_id=["1"] * 5 + ["2"] * 2,
            apr_drg_code="064",
        )
    )
    assert coverage(frame, 1)[["years_in_a_row", "pairs"]].values.tolist() == [[1, 1], [2, 1]]
    assert coverage(frame, 3)[["years_in_a_row", "pairs"]].values.tolist() == [[1, 1], [5, 1]]
    assert with_last_value(frame, 1).to_dict() == {2013: 0, 2016: 0, 2017: 0.5, 2019: 0}


def test_year_lists():
    assert listed([2012, 2014, 2015, 2018, 2019, 2020]) == "2012, 2014, 2015 and 2018–2020"


@pytest.mark.build
def test_titles_follow_the_data(tmp_path):
    rows = FIVE.iloc[[1, 0, 3]].replace({"Mean Cost": {"-1": "5"}, "Median Cost": {"0": "5"}})
    titles = [
        draw_all(*inspect(raw, SPARCS)[:4], SPARCS, tmp_path)
        for raw in (rows, rows.replace({"Mean Charge": {"9000": "16000"}}))
    ]
    assert titles[0][1] != titles[1][1] and "charge +100 %" in titles[1][1]


@pytest.mark.build
def test_a_synthetic_source_says_so_in_every_picture():
    source = {**SPARCS, "synthetic": True}
    frame, columns, years, index, profile = inspect(FIVE, source)
    assert profile["synthetic"] and all(
        "Synthetic data" in f._supxlabel.get_text() for f in pictures(frame, columns, years, index, source)
    )


@pytest.mark.build
@needs_shared
def test_the_real_medicare_panel(tmp_path):
    raw = pd.read_csv(SHARED / "medicare_ny_2011_2019.csv.gz", dtype=str, keep_default_na=False)
    frame, columns, years, index, profile = inspect(raw, MEDICARE)
    assert (
        profile["rows"] == 44_956
        and profile["years"] == [2011, 2013, 2016, 2017, 2019]
        and profile["absent_years"] == [2012, 2014, 2015, 2018]
    )
    assert years.set_index("year").discharges.isna().to_dict() == {
        2011: False,
        2013: True,
        2016: False,
        2017: False,
        2019: False,
    }
    quirks = find_quirks(raw, frame, MEDICARE).set_index("finding")
    assert quirks.loc["discharges is unknown for a whole year", "example"] == "2013"
    assert 0.004 < quirks.loc["mean payment above mean charge", "share"] < 0.026
    titles = draw_all(frame, columns, years, index, MEDICARE, tmp_path)
    assert "2017 covers only 58 hospitals" in titles[0]
    write_json(profile, tmp_path / "a.json")
    write_json(inspect(raw, MEDICARE)[-1], tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


@pytest.mark.build
@needs_shared
def test_a_real_single_year_of_the_cost_file(tmp_path):
    raw = pd.read_csv(SHARED / "sparcs_cost_2020_musculoskeletal.csv.gz", dtype=str, keep_default_na=False)
    frame, columns, years, index, profile = inspect(raw, SPARCS)
    assert profile["rows"] == 7_515 and profile["years"] == [2020] and profile["with_last_value"] == {}
    assert (
        0.003
        < find_quirks(raw, frame, SPARCS).set_index("finding").loc["mean cost above mean charge", "share"]
        < 0.02
    )
    draw_all(frame, columns, years, index, SPARCS, tmp_path)


@needs_shared
def test_real_rows_without_optional_columns(tmp_path):
    raw = pd.read_csv(SHARED / "sparcs_cost_2021_severity2.csv", dtype=str, keep_default_na=False)
    frame, columns, years, index, profile = inspect(raw, SPARCS)
    assert len(frame) == 870 and frame.mean_charge.iloc[0] == 45_808
    assert "apr_medical_surgical_code" not in frame
