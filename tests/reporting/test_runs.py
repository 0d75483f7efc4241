"""Runs side by side, for a reader and for another program."""

import json
import os

import nbformat
import pytest
import yaml
from conftest import copy_build, run

from drg_lib.base.names import DataError
from drg_lib.reporting.runs import REPORTED, compare, from_dvc, from_reports, print_comparison

FIGURES = {"rmse": 26639.2, "mae": 12466.2, "skill": 0.1863, "r2": 0.9}
HEADLINE = {"champion": "ridge", "rmse": 26639.2, "mae": 12466.2, "skill": 0.1863, "gain": 0.073}


def report(path, n_trials=5, **scraps):
    """An executed notebook with scraps, and its config beside it."""
    outputs = [
        nbformat.v4.new_output(
            "display_data", data={"application/scrapbook.scrap.json+json": {"name": name, "data": value}}
        )
        for name, value in scraps.items()
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=outputs)])
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    config = {"stage": "modeling", "ml_experiments": {"name": "quick", "n_trials": n_trials}}
    config |= {"paths": {"runs": str(path.parent)}}
    path.with_suffix(".yaml").write_text(yaml.safe_dump(config))


@pytest.fixture
def runs(tmp_path):
    """The pipeline's two reports of one target, and a sweep over trials."""
    losses = {"validation_loss": {"ridge": 0.88}}
    baseline = {"last_value": FIGURES | {"rmse": 3e4}}
    metrics = {"ridge": FIGURES, **baseline, "champion": "ridge", **losses}
    tuned = dict(target="mean_cost", model="ridge")
    report(tmp_path / "5_modeling/mean_cost-ridge.ipynb", validation_loss=0.88, **tuned)
    about = dict(target="mean_cost", champion="ridge", headline=HEADLINE, metrics=metrics)
    report(tmp_path / "6_evaluation/mean_cost.ipynb", **about)
    for job, (n_trials, loss) in enumerate([(5, 0.88), (9, 0.87)]):
        folder = tmp_path / f"multirun/2026-01-31T12-00-00/{job}/5_modeling"
        report(folder / "mean_cost-ridge.ipynb", n_trials, validation_loss=loss, **tuned)
    return tmp_path


def test_a_run_has_one_row_a_model_and_a_sweep_says_what_it_changed(runs, capsys):
    print_comparison(runs, dvc=False)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[:2] == ["mean_cost", "run model validation_loss rmse mae skill gain changed"]
    assert lines[3:] == [
        "2026-01-31T12-00-00/1 ridge 0.8700 - - - - ml_experiments.n_trials=9",
        "2026-01-31T12-00-00/0 ridge 0.8800 - - - -",
        "pipeline ridge 0.8800 26,639 12,466 0.1863 0.07300",
    ]


def test_json_holds_the_whole_numbers_of_the_runs_that_were_asked_for(runs, capsys):
    print_comparison(runs, ["pipe"], ["rmse", "r2"], dvc=False, as_json=True)
    about = dict(target="mean_cost", run="pipeline", model="ridge", changed="")
    assert json.loads(capsys.readouterr().out) == [about | dict(validation_loss=0.88, rmse=26639.2, r2=0.9)]
    print_comparison(runs, ["2026"], dvc=False, as_json=True)
    assert [row["rmse"] for row in json.loads(capsys.readouterr().out)] == [None, None]


def test_what_is_not_there_is_refused_with_what_is(runs, tmp_path):
    with pytest.raises(DataError, match="No run is called 2025. Remedy: one of pipeline, 2026-01-31T12-"):
        print_comparison(runs, ["2025"], dvc=False)
    with pytest.raises(DataError, match="has the figure rsme. Remedy: some of gain, mae, r2, rmse, skill."):
        print_comparison(runs, figures=["rsme"], dvc=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: no report with figures. Remedy: run `dvc repro`."):
        print_comparison(tmp_path / "empty", dvc=False)


def test_broken_notebooks_are_passed_over(tmp_path):
    (tmp_path / "half.ipynb").write_text('{"cells": [')
    assert not len(from_reports(tmp_path)) and list(from_reports(tmp_path)) == REPORTED


def test_dvc_shows_what_headline_json_holds(medicare_build):
    shown = from_dvc(medicare_build).query("run == 'workspace' and target == 'mean_charge'")
    headline = json.loads((medicare_build / "results/evaluation/mean_charge/headline.json").read_text())
    figures = {f"champion.{name}": value for name, value in headline.items() if name != "champion"}
    assert shown.set_index("metric")["value"].to_dict() == figures
    assert set(shown["champion"]) == {headline["champion"]}


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_dvc_shows_one_row_a_target_and_eight_figures(medicare_build):
    header, _, *rows = (
        run(medicare_build, "dvc", "metrics", "show", "--md").stdout.split("\n\n")[0].splitlines()
    )
    figures = ["champion", "coverage_90", "gain", "mae", "rmse", "skill", "weighted_ape", "width_90"]
    assert cells(header) == ["Path", *figures]
    assert [cells(row)[0] for row in rows] == [
        f"results/evaluation/{target}/headline.json" for target in ("mean_payment", "mean_charge")
    ]
    assert all(cells(row)[1] in ("ridge", "catboost", "blend") for row in rows)


def test_a_sweep_and_a_commit_stand_beside_the_pipeline(medicare_build, tmp_path, monkeypatch, capsys):
    project = copy_build(medicare_build, tmp_path / "copy")
    sweep = ["target=mean_charge", "models=ridge", "ml_experiments.n_trials=1,3", "--multirun"]
    run(project, "drg", "run", "modeling", *sweep)
    monkeypatch.setitem(os.environ, "DRG_LIB_ROOT", str(project))
    compare(figures=["rmse", "coverage_90"], json=True)
    rows = [row for row in json.loads(capsys.readouterr().out) if row["target"] == "mean_charge"]
    by_run = {}
    for row in rows:
        by_run.setdefault(row["run"], []).append(row)
    commit = next(name for name in by_run if name.startswith("commit "))
    jobs = sorted(name for name in by_run if name.endswith(("/0", "/1")))
    assert {row["model"] for row in by_run["pipeline"]} >= {"ridge", "catboost"} and len(jobs) == 2
    assert [by_run[job][0]["changed"] for job in jobs] == [f"ml_experiments.n_trials={n}" for n in (1, 3)]
    (champion,) = [row for row in by_run["pipeline"] if row["coverage_90"] is not None]
    (committed,) = by_run[commit]
    same = ("model", "rmse", "coverage_90")
    assert [committed[name] for name in same] == [champion[name] for name in same]
