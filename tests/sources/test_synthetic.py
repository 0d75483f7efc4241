"""The synthetic source: seeded, calibrated, with the faults of the published file."""

import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, extract
from panels import PUBLISHED

from drg_lib.base.names import DataError, match_columns
from drg_lib.base.tables import content_hash
from drg_lib.pipeline.config import as_dict, compose
from drg_lib.sources.calibration import draw_facilities, load_calibration, strata
from drg_lib.sources.realism import cell_statistics, compare_with_calibration, panel_correlation
from drg_lib.sources.synthetic import (
    as_published,
    draw_cells,
    draw_regions,
    generate,
    number_text,
)

MONEY = ["Mean Charge", "Median Charge", "Mean Cost", "Median Cost"]
KEY = ["Year", "Facility Id", "APR DRG Code", "APR Severity of Illness Code"]


@pytest.fixture(scope="module")
def calibration():
    return load_calibration()


@pytest.fixture(scope="module")
def cells(calibration):
    return draw_cells(calibration, 0.1, seed=1)


@pytest.fixture(scope="module")
def published(cells):
    return as_published(cells, 2025)


def test_same_seed_same_content(calibration):
    first, again, other = (generate(calibration, 0.004, seed, 2025) for seed in (3, 3, 4))
    assert content_hash(first) == content_hash(again) != content_hash(other)


def test_columns_are_the_published_ones_and_text(published):
    assert list(published.columns) == PUBLISHED
    assert {str(dtype) for dtype in published.dtypes} == {"str"}
    assert not published.isna().any().any()


def test_the_configs_know_every_published_column(published):
    for name in ("synthetic", "sparcs_csv"):
        source = as_dict(compose([f"data_sources={name}"]).data_sources)
        assert set(match_columns(published.columns, source["columns"], source["optional_columns"])) == set(
            PUBLISHED
        )


def test_a_tenth_agrees_with_the_published_statistics(cells, calibration):
    table = compare_with_calibration(cells, calibration, scale=0.1).set_index("statistic")
    assert table["within"].all(), table[~table["within"]].to_string()
    # These do not depend on which tenth of the facilities was drawn, so they are held close.
    assert abs(table.loc["rows", "ratio"] - 1) < 0.005
    assert (table.loc[table.index.str.startswith("rows 20"), "ratio"] - 1).abs().max() < 0.02
    assert (
        table.loc[
            [
                "mean_charge q25",
                "mean_charge q50",
                "mean_charge q75",
                "mean_cost q25",
                "mean_cost q50",
                "mean_cost q75",
            ],
            "ratio",
        ]
        - 1
    ).abs().max() < 0.12
    assert table.loc[table.index.str.startswith("growth"), "ratio"].sub(1).abs().max() < 0.001


@pytest.mark.parametrize("scale", [0.002, 0.01, 0.05])
def test_rows_follow_the_scale(calibration, scale):
    cells = draw_cells(calibration, scale, seed=2)
    assert len(cells) == pytest.approx(scale * sum(calibration["rows_per_year"].values()), rel=0.05)
    assert sorted(cells["year"].unique()) == list(calibration["rows_per_year"])
    assert cells["facility_id"].nunique() >= 6 and cells["apr_drg_code"].nunique() >= 25
    assert cells.groupby("facility_id")["year"].nunique().min() >= 4


def test_all_facilities_have_the_published_ends_and_giants(calibration):
    facilities = draw_facilities(calibration, np.random.default_rng(0))
    assert len(facilities) == 231 and facilities["facility_id"].is_unique
    assert (facilities["facility_id"].min(), facilities["facility_id"].max()) == (1, 9431)
    assert facilities["discharges"].sum() == pytest.approx(calibration["total_discharges"], rel=0.001)
    assert facilities.nlargest(5, "discharges")["name"].tolist() == [
        f["name"] for f in calibration["largest"]
    ]
    twice = facilities["name"].value_counts()
    assert (twice[twice > 1] == 2).all() and (twice > 1).sum() == 2
    assert (facilities["name"] != facilities["later_name"]).sum() > 20
    assert (facilities["last"] < 8).sum() == calibration["closing_facilities"]


def test_invented_names_are_not_real_ones(calibration):
    real = pd.read_csv(extract("facility_name_variants.csv"))["name"].str.lower()
    facilities = draw_facilities(calibration, np.random.default_rng(0))
    invented = facilities["name"].iloc[5:].str.lower()
    assert not invented.isin(set(real)).any()


def test_no_key_stands_twice_and_rows_are_not_sorted(published):
    assert not published.duplicated(KEY).any()
    assert not published["Year"].is_monotonic_increasing


def test_means_medians_and_severity(cells):
    few = cells["discharges"] <= 2
    for measure in ("charge", "cost"):
        assert (cells.loc[few, f"mean_{measure}"] == cells.loc[few, f"median_{measure}"]).all()
        assert (cells.loc[~few, f"mean_{measure}"] > cells.loc[~few, f"median_{measure}"]).mean() > 0.7
    by_severity = (
        cells[cells["apr_severity_of_illness_code"] > 0]
        .groupby("apr_severity_of_illness_code")["mean_charge"]
        .median()
    )
    assert by_severity.is_monotonic_increasing
    assert 0.001 < (cells["mean_cost"] > cells["mean_charge"]).mean() < 0.04


def test_changes_shrink_with_discharges(cells):
    keys = ["facility_id", "apr_drg_code", "apr_severity_of_illness_code"]
    now = cells[["year", *keys, "discharges", "mean_charge"]]
    both = now.merge(now.assign(year=now["year"] + 1), on=["year", *keys], suffixes=("", "_before"))
    both = both[both["mean_charge"] > 0.01]
    change = np.log(both["mean_charge"] / both["mean_charge_before"])
    spread = change.groupby(pd.cut(both["discharges"], [0, 1, 5, 20, 100, 10**6])).std()
    assert spread.is_monotonic_decreasing and spread.iloc[0] > 4 * spread.iloc[-1]


def test_cells_come_and_go(cells):
    years = (
        cells[["facility_id", "apr_drg_code", "year"]]
        .drop_duplicates()
        .groupby(["facility_id", "apr_drg_code"])["year"]
        .agg(["count", "min", "max"])
    )
    assert (years["count"] == 9).any() and (years["count"] == 1).any()
    assert (years["max"] - years["min"] + 1 > years["count"]).any()  # a gap between two years


def test_faults_of_the_published_file(published):
    graded = published["APR Severity of Illness Code"] != "0"
    ungraded = published[~graded]
    assert set(published.loc[graded, "APR Medical Surgical Code"]) == {"M", "P"}
    assert set(ungraded["APR Medical Surgical Code"]) == {"NA", "U"} and set(
        ungraded["APR Medical Surgical Description"]
    ) == {"Other"}
    assert (ungraded["APR Severity of Illness Description"] == "NA").any()
    assert set(ungraded["APR DRG Code"]) <= {"955", "956"}
    assert (published["Mean Cost"] == "0").sum() == 1 and (published["Mean Charge"] == "0.01").sum() == 1
    assert published.groupby("APR DRG Code")["APR DRG Description"].nunique().max() == 2
    assert (
        published.groupby("APR DRG Code")["APR DRG Description"].agg(lambda x: x.str.lower().nunique()).max()
        == 1
    )
    assert published.groupby("Facility Id")["Facility Name"].nunique().max() == 2


def test_vintages_differ_in_commas_only(calibration):
    old, new = (generate(calibration, 0.004, 1, vintage) for vintage in (2024, 2025))
    assert new["Mean Charge"].str.contains(",").any() and not old["Mean Charge"].str.contains(",").any()
    pd.testing.assert_frame_equal(
        new.assign(**{c: new[c].str.replace(",", "") for c in ["Discharges", *MONEY]}), old
    )
    assert old["Mean Charge"].str.fullmatch(r"\d+(\.\d{1,2})?").all()


def test_numbers_survive_as_text(published, cells):
    for name, column in {
        "Discharges": "discharges",
        "Mean Charge": "mean_charge",
        "Median Cost": "median_cost",
    }.items():
        assert (
            published[name].str.replace(",", "").astype(float).to_numpy() == cells[column].to_numpy()
        ).all()


def test_number_text():
    assert number_text([999.99, 1000, 999999.5, 1e6, 0.1, 0.05], True).to_pylist() == [
        "999.99",
        "1,000",
        "999,999.5",
        "1,000,000",
        "0.1",
        "0.05",
    ]


def test_strata_keep_the_curve():
    size = np.sort(np.random.default_rng(0).lognormal(0, 1.2, 231))[::-1]
    chosen = strata(size, 23)
    assert len(set(chosen)) == 23 and size[chosen].mean() == pytest.approx(size.mean(), rel=0.1)


@pytest.mark.parametrize("scale", [0, -1, 100.5, float("nan")])
def test_scale_out_of_range(calibration, scale):
    with pytest.raises(DataError, match="data_sources.scale.*Remedy"):
        next(draw_regions(calibration, scale, 1))


def test_figures_of_the_real_extracts_are_those_of_the_calibration(calibration):
    known = calibration["extracts"]
    cells = pd.read_csv(extract("sparcs_cost_2020_musculoskeletal.csv.gz")).rename(
        columns=lambda name: re.sub(r"\W+", "_", name.lower())
    )
    assert cells["apr_drg_code"].between(*known["cells"]["drgs"]).mean() > 0.95
    assert cell_statistics(cells) == pytest.approx(known["cells"]["statistics"], abs=0.0006)
    city = pd.read_csv(extract("sparcs_nyc_2015_2017_charge_per_day.csv")).rename(
        columns={"pfi": "facility_id", "apr_severity_of_illness": "apr_severity_of_illness_code"}
    )
    medicare = pd.read_csv(extract("medicare_ny_2011_2019.csv.gz")).rename(
        columns={
            "provider_id": "facility_id",
            "ms_drg_code": "apr_drg_code",
            "mean_covered_charge": "mean_charge",
        }
    )
    for table, panel in (
        (city.assign(mean_charge=city["mean_los"] * city["mean_charge_per_day"]), known["city"]),
        (medicare, known["medicare"]),
    ):
        for entry in panel["correlations"]:
            assert panel_correlation(table, entry["column"], entry["years"]) == pytest.approx(
                entry["value"], abs=0.0006
            ), entry


def test_marginals_and_correlations_stand_beside_real_ones(cells, calibration):
    table = compare_with_calibration(cells, calibration, scale=0.1)
    assert set(table["known_from"]) == {
        "published",
        "New York City, Medicare",
        "SPARCS 2020, MDC 8",
        "New York City 2015-2017",
        "Medicare 2011-2019",
    }
    real = table[table["known_from"] != "published"].set_index("statistic")
    # Closer than the tolerance for a tenth: correlations, and how a cell's change shrinks with its size.
    assert (real.loc[real.index.str.startswith("correlation of log charge"), "ratio"] - 1).abs().max() < 0.035
    assert (
        real.loc[real.index.str.startswith("correlation of log discharges"), "ratio"] - 1
    ).abs().max() < 0.06
    assert (real.loc[real.index.str.startswith("sd of change"), "ratio"] - 1).abs().max() < 0.2


@pytest.mark.build
def test_a_wrong_table_is_outside_the_tolerances(cells, calibration):
    shuffled = cells.assign(mean_charge=cells["mean_charge"].sample(frac=1, random_state=0).to_numpy())
    outside = compare_with_calibration(shuffled, calibration, scale=0.1).query("not within")["statistic"]
    assert outside.str.startswith("correlation of log charge with").sum() >= 4, outside
    dearer = compare_with_calibration(
        cells.assign(mean_charge=cells["mean_charge"] * 1.5), calibration, scale=0.1
    ).query("not within")["statistic"]
    assert {"mean_charge q50", "mean_charge mean"} <= set(dearer)


SMALL = {
    "rows_per_year": {2016: 20_000, 2017: 20_000},
    "facilities": 40,
    "closing_facilities": 3,
    "opening_facilities": 1,
}


@pytest.mark.build
def test_regions_beyond_the_first_only_add_rows(calibration):
    one, half, three = (list(draw_regions(calibration | SMALL, scale, 1)) for scale in (1, 2.5, 3))
    assert [len(regions) for regions in (one, half, three)] == [1, 3, 3]
    for regions in (half, three):
        pd.testing.assert_frame_equal(regions[0], one[0])
    pd.testing.assert_frame_equal(half[1], three[1])
    ids = [set(region["facility_id"]) for region in three]
    assert (
        not ids[0] & ids[1]
        and not ids[1] & ids[2]
        and len(half[2]) == pytest.approx(len(three[2]) / 2, rel=0.1)
    )
    whole = pd.concat([as_published(region, 2025) for region in half], ignore_index=True)
    assert (
        content_hash(generate(calibration | SMALL, 2.5, 1, 2025)) == content_hash(whole)
        and not whole.duplicated(KEY).any()
    )


def test_memory_is_flat_in_scale():
    code = """if True:
        import resource, sys, tempfile
        from pathlib import Path
        from drg_lib.base import tables
        from drg_lib.sources.calibration import load_calibration
        from drg_lib.sources.synthetic import generate_batches
        tables.ROW_GROUP = 20_000
        with tempfile.TemporaryDirectory() as folder:
            batches = generate_batches(load_calibration() | eval(sys.argv[2]), float(sys.argv[1]), 1, 2025)
            described = tables.write_described(batches, Path(folder, "v0.parquet"))
        print(described["rows"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"""
    (rows, low), (more, high) = (
        map(
            float,
            subprocess.run(
                [sys.executable, "-c", code, scale, repr(SMALL)],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=True,
            ).stdout.split(),
        )
        for scale in ("1", "5")
    )
    # Four more regions as text are 70 MB and more.
    assert more == pytest.approx(5 * rows, rel=0.05) and high - low < 30, (low, high)


def test_unknown_vintage(calibration):
    with pytest.raises(DataError, match="vintage is 2023.*2024 or 2025"):
        generate(calibration, 0.002, 1, 2023)


def test_missing_calibration(tmp_path):
    with pytest.raises(DataError, match="none.yaml: not there.*Remedy"):
        load_calibration(tmp_path / "none.yaml")
    (tmp_path / "some.yaml").write_text("drg_table: lost.csv\n")
    with pytest.raises(DataError, match="lost.csv: not there.*some.yaml"):
        load_calibration(tmp_path / "some.yaml")


def test_facts_stand_in_the_calibration_not_in_the_code(calibration):
    modules = "".join((ROOT / f"drg_lib/sources/{name}.py").read_text() for name in ("synthetic", "realism"))
    code = re.sub(r"(?m)^# %%.*", "", modules)  # those lines hold drawn names
    assert not [
        n
        for n in (
            *calibration["rows_per_year"].values(),
            calibration["total_discharges"],
            9431,
            231,
            49847.99,
            511819,
        )
        if str(n) in code
    ]
