"""Paths that browsers and people make: as a choice, as an override of Hydra, and read."""

import pytest
from conftest import ROOT, copy_project

from drg_lib.pipeline.choices import check_data, parse, write
from drg_lib.pipeline.config import as_dict, choices, compose
from drg_lib.sources.read import read_source

HEADER = "Year,PFI,APR DRG Code,APR Severity of Illness Code,Discharges,Mean Charge,Mean Cost,Median Charge,"
COSTS = f"{HEADER}Median Cost\n2016,4,194,1,2,8375.41,3585.05,8375.41,3585.05\n"
NAMES = [
    "two words.csv",
    "Hospital Inpatient Cost (1).csv",
    "it's.csv",
    'say "costs".csv',
    "Kosten für Größe.csv",
    "a=b.csv",
    "#1.csv",
    "a: b.csv",
    "[draft].csv",
    "{x}.csv",
    "a,b.csv",
    "~old.csv",
    "100%.csv",
    "back\\slash.csv",
    "ends with '.csv",
    "2016",
    "null",
    "-x.csv",
]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return copy_project(tmp_path_factory.mktemp("names") / "project")


@pytest.mark.parametrize("name", NAMES)
def test_a_path_is_kept_as_choice_and_as_override(project, monkeypatch, tmp_path, name):
    monkeypatch.setenv("DRG_LIB_ROOT", str(project))
    path = tmp_path / name
    path.write_text(COSTS)
    write(parse([f"data={path}"], choices()))
    assert choices()["data"] == str(path)
    source = compose(["data_sources=sparcs_csv"]).data_sources
    assert source.path == str(path)
    check_data(choices()["data"], source)
    given = as_dict(compose(["data_sources=sparcs_csv", f"data_sources.path={path}"]).data_sources)
    assert given["path"] == str(path)
    read = read_source(given | dict(columns={"year": [], "facility_id": ["pfi"]}, optional_columns={}))
    assert read["PFI"].tolist() == ["4"]


def test_a_home_folder_is_found(project, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse(["data=~/costs.csv"], choices(ROOT)) == {"data": str(tmp_path / "costs.csv")}


def test_a_name_of_digits_stays_a_name(project, monkeypatch):
    monkeypatch.setenv("DRG_LIB_ROOT", str(project))
    (project / "2016").mkdir(exist_ok=True)
    header = "year,provider_id,ms_drg_code,mean_covered_charge,mean_total_payment"
    (project / "2016" / "costs.csv").write_text(f"{header}\n2019,330001,470,50000,12000\n")
    write(parse(["data=2016"], choices()))
    source = as_dict(compose(["data_sources=medicare_csv"]).data_sources)
    assert source["path"] == "2016"
    check_data("2016", compose(["data_sources=medicare_csv"]).data_sources)
    assert len(read_source(source | dict(columns={"year": []}, optional_columns={}))) == 1
