"""The whole pipeline on the real Medicare panel, as the README says, and both vintages of the cost file."""

import gzip
import json
import re

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, edit, git_project, run

from drg_lib.pipeline.config import as_dict, compose
from drg_lib.pipeline.explore import apply_step
from drg_lib.sources.read import read_source
from drg_lib.sources.synthetic import generate, load_calibration
from drg_lib.versions.step import write_checked
from drg_lib.versions.store import save_version

VERSIONS = [f"v{i}" for i in range(13)]
KEYS = ["year", "facility_id", "apr_drg_code"]


def table(project, version):
    return pd.read_parquet(project / f"data/{version}.parquet")


def sidecar(project, version):
    return json.loads((project / f"data/{version}.json").read_text())


@pytest.fixture(scope="module")
def panel(medicare_build):
    return medicare_build


@pytest.fixture(scope="module")
def forecast(panel):
    return pd.read_parquet(panel / "data/forecast.parquet")


def test_the_forecast_is_of_the_year_that_the_source_asks_for(forecast):
    assert set(forecast["year"]) == {2022} and set(forecast["target"]) == {"mean_payment", "mean_charge"}
    assert not forecast.duplicated(["facility_id", "apr_drg_code", "target"]).any()
    assert (forecast.groupby("target").size() > 10_000).all()
    assert np.isfinite(forecast["prediction"]).all() and (forecast["prediction"] > 0).all()


def test_the_forecast_says_where_it_starts(panel, forecast):
    assert (forecast.loc[forecast["method"] == "model", "last_year"] == 2019).mean() > 0.9
    assert (forecast.loc[forecast["method"] == "hierarchy", "last_year"] < 2019).all() and (
        forecast["years_ahead"] == 2022 - forecast["last_year"]
    ).all()
    v9 = table(panel, "v9")
    for target, rows in forecast.groupby("target"):
        start = rows.merge(
            v9, left_on=["last_year", "facility_id", "apr_drg_code"], right_on=KEYS, validate="one_to_one"
        )
        assert len(start) == len(rows) and (start["last_value"] == start[f"w_{target}"]).all()
        assert 0.5 < (rows["prediction"] / rows["last_value"]).median() < 2
    assert forecast["facility_name"].notna().all() and forecast["apr_drg_description"].notna().all()


def test_a_table_for_those_without_python(panel, forecast):
    read = pd.read_csv(panel / "data/forecast.csv", dtype={"facility_id": str, "apr_drg_code": str})
    assert list(read.columns) == list(forecast.columns) and len(read) == len(forecast)
    np.testing.assert_allclose(read["prediction"], forecast["prediction"])


def test_what_the_source_lacks_is_not_made_up(panel):
    for version in VERSIONS[3:]:
        assert not [c for c in table(panel, version) if re.search("profit|median|severity|cost", c)], version
    v1, v9, v12 = table(panel, "v1"), table(panel, "v9"), table(panel, "v12")
    assert sorted(v1["year"].unique()) == sorted(v9["year"].unique()) == [2011, 2013, 2016, 2017, 2019]
    assert (
        v1.loc[v1["year"] == 2013, ["discharges", "mean_medicare_payment"]].isna().all().all()
        and v1.loc[v1["year"] != 2013, "discharges"].notna().all()
    )
    assert v1.loc[v1["year"] == 2011, "mean_medicare_payment"].notna().sum() == 5214
    unknown = v9.loc[
        v9["year"] == 2013,
        ["sum_discharges", "w_mean_medicare_payment", "w_total_mean_charge", "yearly_discharge_bin"],
    ]
    assert unknown.isna().all().all()
    same = v9.merge(v1, on=KEYS, validate="one_to_one")
    assert (
        len(same) == len(v1) == len(v9) == 44_956
        and (same["w_mean_charge"] == same["mean_charge"]).all()
        and (same["w_mean_payment"] == same["mean_payment"]).all()
    )
    assert (
        v12.loc[v12["year"] == 2016, "lag_sum_discharges"].notna().sum()
        < v12.loc[v12["year"] == 2019, "lag_sum_discharges"].notna().sum()
    )


def test_uneven_years_become_a_feature(panel):
    v12 = table(panel, "v12")
    gaps = v12.groupby("year")["lag_gap_years"].agg(lambda gap: sorted(gap.dropna().unique())).to_dict()
    assert gaps == {2013: [2], 2016: [3], 2017: [1], 2019: [2, 3]}
    assert v12["lag_w_mean_payment"].notna().equals(v12["lag_gap_years"].notna())


def test_rows_add_up_from_the_file_to_the_model(panel):
    for before, version in zip(VERSIONS, VERSIONS[1:]):
        parent, child = sidecar(panel, before), sidecar(panel, version)
        assert (
            child["parent"] == before
            and child["parent_sha256"] == parent["sha256"]
            and child["parent_rows"] == parent["rows"]
        )
        assert (
            child["rows"] + child["rows_set_aside"] == parent["rows"]
            and sum(child["set_aside"].values()) == child["rows_set_aside"]
        )
        assert (
            len(pd.read_parquet(panel / f"data/{version}/set_aside.parquet")) == child["rows_set_aside"]
            and len(table(panel, version)) == child["rows"]
        )
    assert sidecar(panel, "v0")["rows"] == 44_956 and sidecar(panel, "v11")["set_aside"] == {
        "first year of the pair": 15_808
    }


def text_and_outputs(report):
    """What a reader sees of a report: its text and its outputs, without the code."""
    for cell in json.loads(report.read_text())["cells"]:
        if cell["cell_type"] == "markdown":
            yield "".join(cell["source"])
        for output in cell.get("outputs", []):
            yield "".join(output.get("text", []))
            yield from (
                "".join(text)
                for kind, text in output.get("data", {}).items()
                if kind in ("text/plain", "text/html", "text/markdown")
            )


def test_the_reports_tell_of_this_source(panel):
    reports = sorted((panel / "runs").rglob("*.ipynb"))
    assert len(reports) == len(run(panel, "dvc", "stage", "list", "--name-only").stdout.split())
    for report in reports:
        text = "\n".join(text_and_outputs(report))
        text = re.sub(
            r"^synthetic +False$|<th[^>]*>synthetic</th>\s*<td[^>]*>False</td>", "", text, flags=re.M
        )  # the source's record says so in as many words
        lines = [
            line for line in text.splitlines() if re.search(r"synthetic|made.up (data|rows)", line, re.I)
        ]
        assert not lines, f"{report.name}: {lines[:3]}"
        assert not re.search(r"\b(Traceback|\w+Warning)\b", text), report.name
    for name in ("1_inspection", "6_evaluation/mean_payment", "7_documentation", "8_deployment"):
        assert "CMS Medicare" in (panel / f"runs/{name}.ipynb").read_text(), name
    for card in (panel / "results/cards").glob("*.md"):
        assert "CMS Medicare" in card.read_text() and not re.search("synthetic", card.read_text(), re.I)


def test_it_beats_repeating_the_last_value(panel):
    for target in ("mean_payment", "mean_charge"):
        metrics = json.loads((panel / f"results/evaluation/{target}/metrics.json").read_text())
        assert list(metrics["ridge"]["by_year"]) == ["2019"] and metrics["ridge"]["skill"] > 0


def test_all_is_up_to_date_afterwards(panel):
    assert "up to date" in run(panel, "dvc", "repro").stdout


def as_functions(table, choice, versions):
    """`versions` in turn, each made by its own step and config, and checked as its notebook checks it."""
    sidecar = save_version(table, "v0", "data/functions")
    for version in versions:
        config = compose([*choice, f"data_versions={version}"])
        parameters = as_dict(config.transformation)
        child, set_aside, lookups = apply_step(version, table, parameters)
        sidecar, _ = write_checked(
            table,
            child,
            version,
            "data/functions",
            sidecar,
            set_aside,
            lookups,
            parameters,
            as_dict(config.checks),
        )
        table = child
    return table, sidecar


def test_both_vintages_of_the_cost_file_are_one(tmp_path, monkeypatch):
    """2025 with thousands commas; 2024 with plain numbers and columns in another order: the same v1, to v12.

    The first runs as a user runs it, to v1; the rest as functions: two other sources execute the notebooks.
    """
    calibration = load_calibration(ROOT / "configs/calibration/sparcs_2009_2017.yaml")
    project = git_project(tmp_path / "project")
    edit(project / "configs/data_sources/sparcs_csv.yaml", rare_drg_discharges=25)
    files = {}
    for vintage in (2025, 2024):
        rows = generate(calibration, 0.005, 3, vintage)
        assert rows["Mean Charge"].astype(str).str.contains(",").any() == (vintage == 2025)
        if vintage == 2024:
            rows = rows[rows.columns[::-1]]
        files[vintage] = tmp_path / f"costs_{vintage}.csv.gz"
        files[vintage].write_bytes(gzip.compress(rows.to_csv(index=False).encode()))
    run(project, "drg", "choose", "data_sources=sparcs_csv", f"data={files[2025]}")
    run(project, "dvc", "repro", "cleaning@v1")
    monkeypatch.setenv("DRG_LIB_ROOT", str(project))
    choice = ["data_sources=sparcs_csv", f"data_sources.path={files[2024]}"]
    v0 = read_source(as_dict(compose(choice).data_sources))
    v1, plain = as_functions(v0, choice, ["v1"])
    assert plain["sha256"] == sidecar(project, "v1")["sha256"] and v1.equals(table(project, "v1"))
    v12, _ = as_functions(v0, choice, VERSIONS[1:])
    assert len(v12) and "lag_w_total_median_profit" in v12
    v6 = json.loads((project / "data/functions/v6.json").read_text())
    assert v6["config"]["aggregates"]
