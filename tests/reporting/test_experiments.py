"""Experiments side by side: a report, MLflow and DVC say the same."""

import json

import pytest
from conftest import copy_build, run

from drg_lib.experiments import agreement, from_dvc, from_mlflow, from_reports, side_by_side
from drg_lib.reporting.scraps import read_scraps
from drg_lib.reporting.tracking import flat


@pytest.fixture(scope="module")
def places(medicare_build):
    reported = from_reports(medicare_build / "runs")
    return reported, from_mlflow(reported["run_id"], medicare_build), from_dvc(medicare_build)


def test_two_runs_have_the_same_figures_in_all_three(places):
    held = agreement(*places)
    assert (held["same"] == "yes").all() and held[["scrap", "mlflow", "dvc"]].notna().all(axis=None)
    figures = held.set_index(["report", "metric"])
    for target in ("mean_payment", "mean_charge"):
        row = figures.loc[(f"6_evaluation/{target}.ipynb", "ridge.rmse"), ["scrap", "mlflow", "dvc"]]
        assert row.nunique() == 1 and row.iloc[0] > 0
        assert (
            figures.loc[
                (f"5_modeling/{target}-catboost.ipynb", "validation_loss.catboost"),
                ["scrap", "mlflow", "dvc"],
            ].nunique()
            == 1
        )


def test_dvc_shows_what_metrics_json_holds(places, medicare_build):
    shown = (
        places[2].query("experiment == 'workspace' and target == 'mean_charge'").set_index("metric")["value"]
    )
    assert shown.to_dict() == flat(
        json.loads((medicare_build / "results" / "evaluation" / "mean_charge" / "metrics.json").read_text())
    )


def test_a_figure_that_differs_is_found(places):
    reported, tracked, shown = places
    held = agreement(
        reported, tracked.assign(value=tracked["value"].where(tracked["metric"] != "ridge.mae", 0.0)), shown
    )
    assert set(held.loc[held["same"] == "no", "metric"]) == {"ridge.mae"}


def test_side_by_side_has_one_row_a_run_and_model(places):
    table = side_by_side(places[2], "experiment", ["rmse", "mae"])
    assert not table.duplicated(["experiment", "target", "model"]).any() and {
        "ridge",
        "catboost",
        "last_value",
    } <= set(table["model"])
    assert table.loc[table["model"] == "last_value", "validation_loss"].isna().all() and table.loc[
        table["model"] == "ridge", ["rmse", "validation_loss"]
    ].notna().all(axis=None)


def test_broken_notebooks_are_passed_over(tmp_path):
    (tmp_path / "half.ipynb").write_text('{"cells": [')
    assert not len(from_reports(tmp_path)) and list(from_reports(tmp_path)) == [
        "report",
        "target",
        "metric",
        "value",
        "run_id",
    ]


def test_the_notebook_runs_on_demand(medicare_build, tmp_path):
    project = copy_build(medicare_build, tmp_path / "copy")
    run(project, "drg", "run", "experiments")
    scraps = read_scraps(project / "runs" / "experiments.ipynb")
    assert (
        scraps["differing"] == 0
        and scraps["in_mlflow"] == scraps["in_dvc"] == scraps["figures_compared"] > 100
    )
