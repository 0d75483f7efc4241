"""`dvc repro` on a copy of the project with a tiny synthetic source: what runs, what does not, and what a kill leaves."""

import json
import os
import re
import shutil
import signal
import subprocess
import time

import pandas as pd
import pytest
import yaml
from conftest import copy_build, edit, environment, git_project, run

TARGET = "w_total_median_profit"


def ran(said):
    """Names of the stages that a dvc command ran."""
    return re.findall(r"Running stage '([^']+)'", said)


def versions(project, names):
    return {name: (project / "data" / f"{name}.parquet").read_bytes() for name in names}


@pytest.fixture(scope="module")
def built(synthetic_build, tmp_path_factory):
    return copy_build(synthetic_build, tmp_path_factory.mktemp("pipeline") / "project")


def test_a_clean_repro_builds_everything(built):
    project = built
    stages = run(project, "dvc", "stage", "list", "--name-only").stdout.split()
    assert set(ran((project / "repro.log").read_text())) == set(stages)
    for version in [f"v{i}" for i in range(13)]:
        sidecar = json.loads((project / f"data/{version}.json").read_text())
        table = pd.read_parquet(project / f"data/{version}.parquet")
        assert sidecar["rows"] == len(table) and list(sidecar["columns"]) == list(table.columns)
    forecast = pd.read_parquet(project / "data/forecast.parquet")
    assert {"facility_id", "apr_drg_code", "year", "target", "prediction", "last_year", "last_value"} <= set(
        forecast
    )
    assert (
        set(forecast["target"]) == {TARGET}
        and set(forecast["year"]) == {2018}
        and forecast["prediction"].notna().all()
    )
    assert not forecast.duplicated(["facility_id", "apr_drg_code", "target"]).any()
    reports = {p.relative_to(project / "runs").as_posix() for p in (project / "runs").rglob("*.ipynb")}
    assert len(reports) == len(stages) and not any("partial" in r for r in reports)


def test_every_report_has_its_config_and_log(built):
    project = built
    for report in (project / "runs").rglob("*.ipynb"):
        assert report.with_suffix(".yaml").is_file() and "done in" in report.with_suffix(".log").read_text()


def test_every_report_says_that_the_data_are_synthetic(built):
    project = built
    for report in (project / "runs").rglob("*.ipynb"):
        outputs = json.dumps(
            [
                c.get("outputs", [])
                for c in json.loads(report.read_text())["cells"]
                if "injected-parameters" not in c["metadata"].get("tags", [])
            ]
        )
        assert "Synthetic data" in outputs, report


def test_a_second_repro_does_nothing(built):
    project = built
    done = run(project, "dvc", "repro")
    assert not ran(done.stdout) and "up to date" in done.stdout


def test_metrics_and_plots_are_shown(built):
    project = built
    shown = run(project, "dvc", "metrics", "show", "--json").stdout
    assert "rmse" in shown and TARGET in shown
    run(project, "dvc", "plots", "show", "--out", "plots_page")
    assert list((project / "plots_page").glob("*.html"))
    shutil.rmtree(project / "plots_page")


def test_another_model_by_experiment_reruns_no_data_stage(built):
    project = built
    done = run(project, "dvc", "exp", "run", "-S", "models=[randomforest]")
    assert set(ran(done.stdout)) == {
        f"modeling@{TARGET}-randomforest",
        f"evaluation@{TARGET}",
        "documentation",
        "deployment",
    }
    run(project, "git", "checkout", "-q", ".")
    run(project, "dvc", "checkout", "-f")


def test_an_edit_of_a_model_reruns_only_what_it_feeds(built):
    project = built
    path = project / "configs/models/ridge.yaml"
    before = path.read_text()
    space = yaml.safe_load(before)["search_space"]
    name = next(k for k, v in space.items() if v["type"] == "float")
    space[name]["high"] *= 2
    edit(path, search_space=space)
    done = run(project, "dvc", "repro")
    assert set(ran(done.stdout)) - {"deployment"} == {
        f"modeling@{TARGET}-ridge",
        f"evaluation@{TARGET}",
        "documentation",
    }
    path.write_text(before)


def test_a_change_of_the_lag_config_reruns_v10_and_later_only(built):
    project = built
    path = project / "configs/data_versions/v10.yaml"
    before = path.read_text()
    step = yaml.safe_load(before)["transformation"]
    edit(path, transformation=step | dict(columns=step["columns"][:-1]))
    done = run(project, "dvc", "repro", "transformation@v12")
    assert set(ran(done.stdout)) == {"transformation@v10", "transformation@v11", "transformation@v12"}
    path.write_text(before)


def test_a_killed_run_is_completed_with_the_same_bytes(built, tmp_path):
    whole = built
    project = git_project(tmp_path / "project")
    running = subprocess.Popen(
        ["dvc", "repro", "transformation@v4"],
        cwd=project,
        env=environment(project),
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 300
    partial = project / "runs/3_transformation/v3_profit.partial.ipynb"
    while not partial.exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert partial.exists() and running.poll() is None, "the run ended before it could be killed"
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert not (project / "data/v3.parquet").exists() or not (project / "data/v4.parquet").exists()
    done = run(project, "dvc", "repro", "transformation@v4")
    assert "transformation@v3" in ran(done.stdout) and "ingestion" not in ran(done.stdout)
    names = ["v0", "v1", "v2", "v3", "v4"]
    assert versions(project, names) == versions(whole, names)
    assert not list((project / "data").glob(".*.part"))
