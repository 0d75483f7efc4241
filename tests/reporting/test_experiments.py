"""Experiments side by side: a report, MLflow and DVC say the same."""

import json

import pytest
from conftest import copy_build, run

from drg_lib.experiments import agreement, from_mlflow
from drg_lib.reporting.runs import from_dvc, from_reports
from drg_lib.reporting.scraps import read_scraps


@pytest.fixture(scope="module")
def places(medicare_build):
    reported = from_reports(medicare_build / "runs")
    return reported, from_mlflow(reported["run_id"], medicare_build), from_dvc(medicare_build)


def test_two_runs_have_the_same_figures_in_all_places(places):
    """DVC has the headline; a report and MLflow have every figure."""
    figures = agreement(*places)
    assert (figures["same"] == "yes").all() and figures[["scrap", "mlflow"]].notna().all(axis=None)
    in_dvc = figures["metric"].str.startswith("champion.")
    assert figures["dvc"].notna().equals(in_dvc) and in_dvc.sum() == 2 * 7 and len(figures) > 100
    by_report = figures.set_index(["report", "metric"])
    for target in ("mean_payment", "mean_charge"):
        row = by_report.loc[(f"6_evaluation/{target}.ipynb", "champion.rmse"), ["scrap", "mlflow", "dvc"]]
        assert row.nunique() == 1 and row.iloc[0] > 0
        loss = by_report.loc[(f"5_modeling/{target}-catboost.ipynb", "validation_loss.catboost")]
        assert loss["scrap"] == loss["mlflow"] > 0


def test_a_figure_that_differs_is_found(places):
    reported, tracked, shown = places
    other = tracked["value"].where(tracked["metric"] != "ridge.mae", 0.0)
    figures = agreement(reported, tracked.assign(value=other), shown)
    assert set(figures.loc[figures["same"] == "no", "metric"]) == {"ridge.mae"}


def test_the_notebook_runs_on_demand(medicare_build, tmp_path):
    project = copy_build(medicare_build, tmp_path / "copy")
    run(project, "drg", "run", "experiments")
    scraps = read_scraps(project / "runs" / "experiments.ipynb")
    assert scraps["differing"] == 0 and scraps["in_mlflow"] == scraps["figures_compared"] > 100
    assert scraps["in_dvc"] == 2 * 7


def test_mlflow_keeps_the_source_apart_and_names_what_each_run_read(medicare_build):
    """The experiment is called as the source; each run of a stage read the partition, and all its rows."""
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{medicare_build / 'mlflow.db'}")
    source = json.loads((medicare_build / "data/v0.json").read_text())["source"]["title"]
    (experiment,) = [e for e in client.search_experiments() if e.name != "Default"]
    assert experiment.name == source
    tracked = client.search_runs([experiment.experiment_id], max_results=1000)
    assert {"modeling", "evaluation", "deployment"} <= {r.data.tags.get("stage") for r in tracked}
    assert all(r.inputs.dataset_inputs for r in tracked)
    partition = json.loads((medicare_build / "data/partitions/mean_charge.json").read_text())
    sets = {i.dataset.name: i for r in tracked for i in r.inputs.dataset_inputs}
    assert set(sets) == {"mean_charge v12", "mean_payment v12", "v9"}
    tags = {tag.key: tag.value for tag in sets["mean_charge v12"].tags}
    assert (tags["sha256"], tags["source"]) == (partition["data_sha256"], source)
    rows = json.loads(sets["mean_charge v12"].dataset.profile)["num_rows"]
    assert rows == sum(partition["rows"].values())
