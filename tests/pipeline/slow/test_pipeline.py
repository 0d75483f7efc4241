"""`dvc repro` on a copy of the project with a tiny synthetic source: what runs, and what a kill leaves."""

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
from conftest import copy_build, environment, run

TARGET = "w_total_median_profit"


def ran(printed):
    """Names of the stages that a dvc command ran."""
    return re.findall(r"Running stage '([^']+)'", printed)


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
    printed = run(project, "dvc", "metrics", "show", "--json").stdout
    assert "rmse" in printed and TARGET in printed
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


def forget(project, *stages):
    """As if `stages` had never run: not in dvc.lock, no outputs, no earlier run that DVC could bring back."""
    lock = yaml.safe_load((project / "dvc.lock").read_text())
    for stage in stages:
        for output in lock["stages"].pop(stage)["outs"]:
            path = project / output["path"]
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (project / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
    shutil.rmtree(project / ".dvc/cache/runs")


def test_a_killed_run_is_completed_with_the_same_bytes(synthetic_build, tmp_path):
    whole, project = synthetic_build, copy_build(synthetic_build, tmp_path / "project")
    forget(project, "cleaning@v2", "transformation@v3", "transformation@v4")
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
    assert ran(done.stdout) == ["transformation@v3", "transformation@v4"]  # v2 was whole, and stays
    names = ["v0", "v1", "v2", "v3", "v4"]
    assert versions(project, names) == versions(whole, names)
    assert not list((project / "data").glob(".*.part"))
