"""The MLflow store: made once, by whoever comes first; nothing at all when tracking is off."""

import json
import shutil
import sqlite3
import subprocess
import sys
import threading

import optuna
import pandas as pd
import pytest
from conftest import environment

from drg_lib.base.files import project_root
from drg_lib.base.names import DataError
from drg_lib.reporting.tracking import (
    connect,
    end_dead_runs,
    ensure_database,
    flat,
    folder_name,
    log_report,
    relocate,
    sorted_metrics,
    start_run,
)

MEDICARE = "CMS Medicare inpatient stays by hospital and MS-DRG (New York)"

ONE_RUN = """
import sys
from pathlib import Path
from drg_lib.reporting.tracking import log_report, start_run
root = Path(sys.argv[1])
with start_run(sys.argv[2], "nbs/5_modeling.ipynb", root=root, tags={"stage": "modeling"}) as run:
    run.log({"alpha": 1.0}, {"rmse": 2.0, "none": float("nan")})
log_report(run.run_id, root / "report.ipynb", root=root)
"""

NO_RUN = """
import sys
from drg_lib.reporting.tracking import start_run
with start_run("a", "b", tracking=False) as run:
    run.log({"a": 1}, {"b": 2})
    run.read(None, {})
    run.trial(None, None)
assert run.run_id is None and "mlflow" not in sys.modules
"""


def test_two_processes_at_once_and_a_leftover(tmp_path):
    (tmp_path / ".mlflow.db.part").write_text("half a database of a killed process")
    (tmp_path / "report.ipynb").write_text("{}")
    running = [
        subprocess.Popen(
            [sys.executable, "-c", ONE_RUN, str(tmp_path), name],
            env=environment(project_root()),
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b")
    ]
    errors = [p.communicate(timeout=240)[1] for p in running]
    assert [p.returncode for p in running] == [0, 0], errors
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        assert sorted(store.execute("select name, status from runs")) == [
            ("a", "FINISHED"),
            ("b", "FINISHED"),
        ]
        assert store.execute("select count(*) from experiments where name = 'drg_lib'").fetchone() == (1,)
        assert {
            value for (value,) in store.execute("select value from tags where key = 'mlflow.source.name'")
        } == {"nbs/5_modeling.ipynb"}
    assert len(list((tmp_path / "mlartifacts").rglob("report/report.ipynb"))) == 2
    assert not list(tmp_path.glob(".mlflow.db.part*"))


def test_off_imports_and_writes_nothing(tmp_path):
    subprocess.run([sys.executable, "-c", NO_RUN], cwd=tmp_path, env=environment(project_root()), check=True)
    assert not list(tmp_path.iterdir())


def test_a_report_of_an_unknown_run_is_refused(tmp_path):
    with pytest.raises(DataError, match="no run abc. Remedy"):
        log_report("abc", tmp_path / "report.ipynb", root=tmp_path)


def test_existing_store_is_left_alone(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(b"kept")
    assert ensure_database(tmp_path).read_bytes() == b"kept"


@pytest.mark.build
def test_a_copied_project_keeps_its_runs_and_leaves_the_original_alone(tmp_path):
    old, new = tmp_path / "a project", tmp_path / "copy"
    old.mkdir()
    with start_run("first", "nbs/5_modeling.ipynb", root=old, tags={"source": MEDICARE}) as run:
        run.log(metrics={"rmse": 1.0})
    shutil.copytree(old, new)
    assert relocate(new) > 0 and relocate(new) == 0 and relocate(old) == 0
    (tmp_path / "file.txt").write_text("x")
    with start_run("second", "nbs/5_modeling.ipynb", root=new, tags={"source": MEDICARE}) as run:
        run.log(files=[tmp_path / "file.txt"])
    assert list(new.rglob("file.txt")) and not list(old.rglob("file.txt"))
    with sqlite3.connect(new / "mlflow.db") as store:
        assert store.execute(
            "select count(*) from runs where artifact_uri not like ?", [new.as_uri() + "%"]
        ).fetchone() == (0,)


def test_names_of_metrics_are_those_of_dvc():
    assert flat({"a": {"b": 1, "c": {"d": 2.5}}, "text": "x", "list": [1], "none": None, "yes": True}) == {
        "a.b": 1.0,
        "a.c.d": 2.5,
    }


@pytest.mark.build
def test_each_source_has_an_experiment_of_its_own(tmp_path):
    for source in (MEDICARE, "SPARCS (a/b)", MEDICARE):
        with start_run("run", "nbs/5_modeling.ipynb", root=tmp_path, tags={"source": source}) as run:
            run.log(metrics={"rmse": 1.0})
    with start_run("mine", "nbs/5_modeling.ipynb", "mine", root=tmp_path, tags={"source": MEDICARE}):
        pass
    mlflow = connect("mine", tmp_path)
    counts = {
        name: len(mlflow.search_runs(experiment_names=[name])) for name in (MEDICARE, "SPARCS (a/b)", "mine")
    }
    assert counts == {MEDICARE: 2, "SPARCS (a/b)": 1, "mine": 1}
    folders = {path.name for path in (tmp_path / "mlartifacts").iterdir()}
    assert folders == {"CMS-Medicare-inpatient-stays-by-hospital-and-MS-DRG-New-York", "SPARCS-a-b", "mine"}
    (tmp_path / "report.ipynb").write_text("{}")
    log_report(run.run_id, tmp_path / "report.ipynb", root=tmp_path)


def test_no_experiment_writes_outside_of_the_artifacts():
    assert (
        folder_name("../../elsewhere/x") == "elsewhere-x"
        and folder_name("..") == folder_name("") == "drg_lib"
    )


@pytest.mark.build
def test_a_run_and_its_trials_name_the_table_that_they_read(tmp_path):
    """By its path from the root, which holds in a copy; every row is counted, a hundred are looked at."""
    table = pd.DataFrame({"year": range(250), "target": 1.5, "facility_id": "a"})
    about = {"name": "mean_cost v12", "path": "data/partitions/mean_cost.parquet", "sha256": "ab" * 32}
    study = optuna.create_study()
    with start_run("run", "nbs/5_modeling.ipynb", root=tmp_path, tags={"source": MEDICARE}) as run:
        run.read(table, about | {"source": MEDICARE})
        study.optimize(lambda trial: trial.suggest_float("alpha", 0, 1), n_trials=1, callbacks=[run.trial])
    mlflow = connect(MEDICARE, tmp_path)
    inputs = [tracked.inputs.dataset_inputs for tracked in mlflow.search_runs(output_format="list")]
    assert [len(of_run) for of_run in inputs] == [1, 1]
    for ((dataset, tags),) in (
        [(i.dataset, {t.key: t.value for t in i.tags}) for i in of_run] for of_run in inputs
    ):
        assert (dataset.name, dataset.digest) == ("mean_cost v12", ("ab" * 32)[:36])
        assert json.loads(dataset.source) == {"uri": "data/partitions/mean_cost.parquet"}
        assert json.loads(dataset.profile) == {"num_rows": 250}
        assert {column["name"] for column in json.loads(dataset.schema)["mlflow_colspec"]} == set(table)
        assert tags == {"mlflow.data.context": "training", "sha256": "ab" * 32, "source": MEDICARE}


def test_the_headline_comes_before_all_other_metrics():
    metrics = {"against": {"ridge": {"last_value": {"gain": 0.1}}}, "blend": {"rmse": 2.0}}
    names = list(sorted_metrics({"champion": "blend", "rmse": 2.0, "width_90": 0.4}, metrics))
    assert (
        sorted(names)
        == names
        == [
            "champion/rmse",
            "champion/width_90",
            "details/against.ridge.last_value.gain",
            "details/blend.rmse",
        ]
    )


def status_of(root, name):
    with sqlite3.connect(root / "mlflow.db") as store:
        return store.execute("select status from runs where name = ?", [name]).fetchone()[0]


KILLED = """
import os, sys
from pathlib import Path
from drg_lib.reporting.tracking import start_run
with start_run("killed", "nbs/5_modeling.ipynb", root=Path(sys.argv[1])):
    os.kill(os.getpid(), 9)
"""


def test_the_next_run_ends_one_whose_process_was_killed_and_no_other(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    assert subprocess.run(command, env=environment(project_root())).returncode == -9
    assert status_of(tmp_path, "killed") == "RUNNING"
    with start_run("living", "nbs/5_modeling.ipynb", root=tmp_path):
        assert status_of(tmp_path, "killed") == "KILLED"
        assert end_dead_runs(connect("drg_lib", tmp_path), "drg_lib") == []
        assert status_of(tmp_path, "living") == "RUNNING"


@pytest.mark.build
def test_a_store_that_is_locked_for_a_while_is_waited_for(tmp_path):
    ensure_database(tmp_path)
    store = sqlite3.connect(tmp_path / "mlflow.db", check_same_thread=False, isolation_level=None)
    store.execute("begin exclusive")
    freed = threading.Timer(7, lambda: store.execute("commit"))  # SQLite by itself waits five seconds
    freed.start()
    with start_run("patient", "nbs/5_modeling.ipynb", root=tmp_path) as run:
        run.log({"alpha": 1}, {"rmse": 2.0})
    freed.join()
    store.close()
    assert status_of(tmp_path, "patient") == "FINISHED"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.write_bytes(b"no database" * 999), "file is not a database"),
        (lambda path: path.write_bytes(path.read_bytes()[:3000]), "malformed"),
    ],
)
def test_a_damaged_store_is_named_and_the_remedy_works(tmp_path, spoil, words):
    database = ensure_database(tmp_path)
    spoil(database)
    with pytest.raises(DataError, match=rf"mlflow\.db: .*{words}.*Remedy: `mv mlflow.db mlflow.db.damaged`"):
        connect("drg_lib", tmp_path)
    database.rename(tmp_path / "mlflow.db.damaged")
    (tmp_path / "report.ipynb").write_text("{}")
    command = [sys.executable, "-c", ONE_RUN, str(tmp_path), "b"]  # MLflow keeps a file open in its process
    subprocess.run(command, env=environment(project_root()), check=True)
    assert status_of(tmp_path, "b") == "FINISHED"


def test_an_empty_store_is_made_anew(tmp_path):
    (tmp_path / "mlflow.db").touch()
    with start_run("a", "nbs/5_modeling.ipynb", root=tmp_path):
        pass
    assert status_of(tmp_path, "a") == "FINISHED"
