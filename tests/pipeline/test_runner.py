"""drg run and drg choose as a person meets them: what runs, what is refused, what is left behind."""

import json
import logging
import os
import shutil
import signal
import subprocess

import pytest
import yaml
from click.testing import CliRunner
from conftest import ROOT, copy_project, environment, run

from drg_lib.base.notebooks import title_and_sentence
from drg_lib.pipeline import execute, runner
from drg_lib.pipeline.cli import drg as command

MINI = {
    "cells": [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# Mini\n> A stage for the tests."},
        {
            "cell_type": "code",
            "id": "b",
            "metadata": {"tags": ["parameters"]},
            "execution_count": None,
            "outputs": [],
            "source": "number: int = 1  # a number\ntext: str | None = None  # a text",
        },
        {
            "cell_type": "code",
            "id": "c",
            "metadata": {},
            "execution_count": None,
            "outputs": [],
            "source": "#papermill_description=divide\n12 / number",
        },
        {
            "cell_type": "code",
            "id": "d",
            "metadata": {},
            "execution_count": None,
            "outputs": [],
            "source": "#papermill_description=after\ntext",
        },
    ],
    "metadata": {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = copy_project(tmp_path_factory.mktemp("runner") / "project")
    (project / "nbs/mini.ipynb").write_text(json.dumps(MINI))
    (project / "configs/project_sections/mini.yaml").write_text(
        "# @package project_sections.mini\norder: 9\ntitle: Mini\n"
        "notebook: nbs/mini.ipynb\nreport: mini.ipynb\n"
        "parameters:\n  number: 3\n  text: null\n"
    )
    config = project / "configs/config.yaml"
    config.write_text(
        config.read_text().replace("      - 8_deployment\n", "      - 8_deployment\n      - mini\n")
    )
    return project


def drg(project, *arguments, **options):
    return run(project, "drg", "run", *arguments, check=False, **options)


@pytest.fixture
def refused(project, monkeypatch):
    """Call `drg` here, without a process of its own: its exit status and what it printed."""

    def call(*arguments):
        monkeypatch.chdir(project)
        done = CliRunner().invoke(command, arguments)
        return done.exit_code, done.output

    return call


def test_a_stage_runs_and_leaves_report_log_and_config(project):
    done = drg(project, "stage=mini", "project_sections.mini.parameters.number=4")
    assert done.returncode == 0, done.stderr
    report = json.loads((project / "runs/mini.ipynb").read_text())
    assert "3.0" in json.dumps(report) and not (project / "runs/mini.partial.ipynb").exists()
    log = (project / "runs/mini.log").read_text()
    assert "divide" in log and "done in" in log
    assert yaml.safe_load((project / "runs/mini.yaml").read_text())["parameters"]["number"] == 4
    assert "divide" in done.stderr and "after" in done.stderr


def test_the_log_has_the_format_of_the_logging_group(project):
    drg(project, "stage=mini", "logging.format='%(levelname)s|%(message)s'")
    assert all(line.startswith("INFO|") for line in (project / "runs/mini.log").read_text().splitlines())


@pytest.mark.build
@pytest.mark.parametrize(
    "arguments, words",
    [
        (["stage=mini", "project_sections.mini.parameters.number=four"], ["number", "must be int", "Remedy"]),
        (
            ["stage=mini", "+project_sections.mini.parameters.alpha=1"],
            ["unknown parameter 'alpha'", "number, text"],
        ),
        (["stage=mini", "~project_sections.mini.parameters.number"], ["missing parameter 'number'"]),
        (["stage=nothing"], ["no stage 'nothing'", "modeling"]),
        ([], ["No stage given", "ingestion"]),
        (["stage=transformation", "data_versions=v1"], ["does not make v1", "drg run cleaning"]),
        (["modeling", "ml_experiments.n_trialz=3"], ["n_trialz"]),
        (["modeling", "ml_experiments.n_trials=three"], ["n_trials", "three"]),
        (["modeling", "+ml_experiments.n_trialz=3"], ["n_trialz"]),
        (["modeling", "models=forest"], ["models/forest", "ridge"]),
        (["modeling", "modles=ridge"], ["modles", "Did you mean models"]),
        (["mini", "nonsense"], ["nonsense"]),
        (["mini", "stage=modeling", "models=ridge"], ["stage", "twice"]),
        (
            ["stage=mini", "project_sections.mini.parameters.text='postgresql://me:secret@host/db'"],
            ["password", "environment"],
        ),
        (["ingestion", "data_sources.url='https://x?$$app_token=secret'"], ["token", "environment"]),
        (["ingestion", "data_sources.url='redis://:secret@host'", "--multirun"], ["password", "environment"]),
        (["partitioning", "target.name=../../elsewhere/x"], ["target.name", "is not a name"]),
        (["mini", "project_sections.mini.report=../../x.ipynb"], ["outside", "x.ipynb"]),
        (["partitioning", "target=mean_payment"], ["has no mean_payment", "Remedy: targets of"]),
        (["partitioning", "data_versions=v5"], ["models cannot learn from v5", "v12"]),
        (["modeling", "+models.preparation.scal=true"], ["unknown scal", "did you mean scale"]),
        (["modeling", "models=ridge,lasso", "--multirun"], ["models/lasso", "ridge"]),
        (["modeling", "models=ridge,catboost"], ["models"]),
        (["modeling", "models=[ridge", "-m"], ["models=[ridge: not an override"]),
        (["modeling", "models=[ridge"], ["models=[ridge: not an override"]),
        (["modeling", "models=lasso", "--cfg", "job"], ["models/lasso"]),
        (["cleaning", "data_versions=v2", "crosswalk=apr_drg_v38", "data_sources=medicare_csv"], ["ms DRGs"]),
    ],
)
def test_wrong_overrides_are_refused_and_nothing_runs(project, refused, arguments, words):
    shutil.rmtree(project / "runs")
    (project / "runs").mkdir()
    status, printed = refused("run", *arguments)
    assert status == 2, printed
    assert all(word in printed for word in words) and "secret" not in printed, printed
    assert "Remedy" in printed and not list((project / "runs").iterdir())


def test_a_refusal_is_the_command_s_exit_status_and_no_traceback(project):
    done = drg(project, "stage=mini", "project_sections.mini.parameters.number=four")
    assert done.returncode == 2 and "must be int" in done.stderr and "Traceback" not in done.stderr
    done = run(project, "drg", "choose", "color=red", check=False)
    assert done.returncode == 2 and "no choice" in done.stderr and "Traceback" not in done.stderr


TAKES = """\
# @package project_sections.taking
order: 9
title: Taking
notebook: nbs/taking.ipynb
report: taking.ipynb
takes: [%s]
"""


@pytest.fixture
def taking(project):
    """A stage whose parameters are `seed` of a group, and `data_dir`, which every notebook may declare."""
    notebook = json.loads(json.dumps(MINI))
    source = "seed: int = 1\ndata_dir: str = 'data/explore'\nmax_gap_years: int = 0"
    notebook["cells"][1]["source"] = source
    notebook["cells"][2:] = []
    (project / "nbs/taking.ipynb").write_text(json.dumps(notebook))
    config, section = project / "configs/config.yaml", project / "configs/project_sections/taking.yaml"
    before = config.read_text()
    config.write_text(before.replace("      - mini\n", "      - mini\n      - taking\n"))

    def takes(*groups):
        section.write_text(TAKES % ", ".join(groups))

    yield takes
    config.write_text(before)
    section.unlink()


def test_a_stage_takes_its_parameters_from_the_groups_that_its_section_names(project, taking):
    taking("ml_experiments", "deployment")
    done = drg(project, "stage=taking", "ml_experiments.seed=7", "paths.data=data/elsewhere")
    assert done.returncode == 0, done.stderr
    parameters = yaml.safe_load((project / "runs/taking.yaml").read_text())["parameters"]
    assert parameters == {"seed": 7, "data_dir": "data/elsewhere", "max_gap_years": 1}


def test_a_name_that_no_group_gives_or_that_two_give_is_refused(project, taking):
    taking("ml_experiments")
    done = drg(project, "stage=taking")
    assert done.returncode == 2 and "missing parameter 'max_gap_years'" in done.stderr
    taking("ml_experiments", "deployment", "data_sources")
    done = drg(project, "stage=taking")
    assert done.returncode == 2 and "stands in deployment and in data_sources" in done.stderr
    taking("ml_experiments", "deploiment")
    done = drg(project, "stage=taking")
    assert done.returncode == 2 and "takes deploiment, which is no config group" in done.stderr


def test_a_group_without_a_schema_is_handed_over_whole(project):
    done = drg(project, "stage=transformation", "data_versions=v8", "+transformation.n_binz=4")
    assert done.returncode == 2 and "unknown parameter 'n_binz'" in done.stderr


def test_a_typo_in_a_config_file_names_the_key(project):
    path = project / "configs/ml_experiments/quick.yaml"
    before = path.read_text()
    try:
        path.write_text(before + "\nn_trails: 3\n")
        done = drg(project, "modeling", "ml_experiments=quick")
    finally:
        path.write_text(before)
    assert done.returncode == 2 and "n_trails" in done.stderr and "ml_experiments/quick" in done.stderr


def test_a_failed_cell_is_named_and_the_partial_notebook_kept(project):
    (project / "runs/mini.ipynb").unlink(missing_ok=True)
    done = drg(project, "stage=mini", "project_sections.mini.parameters.number=0")
    assert done.returncode == 1
    assert (
        "ZeroDivisionError" in done.stderr
        and "Failed in: divide" in done.stderr
        and "runs/mini.partial.ipynb" in done.stderr
    )
    assert (project / "runs/mini.partial.ipynb").exists() and not (project / "runs/mini.ipynb").exists()
    assert "ZeroDivisionError" in (project / "runs/mini.log").read_text()


HANGS_OR_DIES = "import os, time\nos.kill(os.getpid(), 9) if number else time.sleep(99)"


def test_a_kernel_that_dies_and_a_cell_that_hangs_are_named(project, taking):
    taking()
    notebook = json.loads((project / "nbs/taking.ipynb").read_text())
    notebook["cells"][1]["source"] = "number: int = 1"
    notebook["cells"].append(MINI["cells"][2] | {"source": f"#papermill_description=work\n{HANGS_OR_DIES}"})
    (project / "nbs/taking.ipynb").write_text(json.dumps(notebook))
    section = "project_sections.taking"
    died = drg(project, "taking", f"+{section}.parameters.number=1")
    assert died.returncode == 1 and "Traceback" not in died.stderr
    assert "the kernel died, as happens when memory runs out" in died.stderr and "GB are free" in died.stderr
    assert "Failed in: work, of nbs/taking.ipynb" in died.stderr
    hung = drg(project, "taking", f"+{section}.parameters.number=0", f"{section}.cell_timeout=2")
    assert hung.returncode == 1 and "the cell reached its time limit" in hung.stderr
    assert "Failed in: work" in hung.stderr and "Traceback" not in hung.stderr


def test_ctrl_c_ends_a_run_with_one_line(project):
    number = "project_sections.mini.parameters.number=1"
    running = subprocess.Popen(
        ["drg", "run", "mini", number, "logging.level=DEBUG"],
        cwd=project,
        env=environment(project),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    head = running.stderr.readline()
    os.killpg(running.pid, signal.SIGINT)
    rest = running.communicate(timeout=60)[1]
    assert running.returncode == 130 and head.startswith("9 Mini")
    assert rest.splitlines()[-1] == "drg run: stopped by Ctrl-C." and "Traceback" not in rest


def test_the_next_run_clears_what_a_killed_one_left(project):
    (project / "data/v1").mkdir(exist_ok=True)
    dead, alive = (
        project / "data/v1/.findings.parquet.4194305.part",
        project / f"results/.x.json.{os.getpid()}.part",
    )
    for path in (dead, alive, project / "runs/mini.partial.ipynb"):
        path.write_text("half a file")
    assert drg(project, "mini").returncode == 0
    assert not dead.exists() and alive.exists() and not (project / "runs/mini.partial.ipynb").exists()
    assert "removed data/v1/.findings.parquet.4194305.part" in (project / "runs/mini.log").read_text()
    alive.unlink()


def test_a_report_that_cannot_be_added_to_mlflow_is_a_warning(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(execute, "read_scraps", lambda report: {"mlflow_run_id": "0"})
    execute.keep_report(tmp_path / "report.ipynb", logging.getLogger("quiet"), tmp_path)
    printed = capsys.readouterr().err
    assert "warning: the report is done, but not in MLflow" in printed and "holds no run 0" in printed


def test_cfg_job_and_help_run_nothing(project):
    shown = drg(project, "stage=mini", "project_sections.mini.parameters.number=7", "--cfg", "job")
    assert (
        shown.returncode == 0
        and yaml.safe_load(shown.stdout)["project_sections"]["mini"]["parameters"]["number"] == 7
    )
    helped = drg(project, "--help").stdout
    assert "drg run modeling models=ridge" in helped
    sentence = title_and_sentence(ROOT / "nbs/0_ingestion.ipynb")[1]
    assert f"  ingestion       {sentence[:40]}" in helped and "v1 to v2" in helped


def test_a_sweep_keeps_its_jobs_apart(project):
    done = drg(project, "stage=mini", "project_sections.mini.parameters.number=1,2", "--multirun")
    assert done.returncode == 0, done.stderr
    reports = sorted((project / "runs/multirun").rglob("mini.ipynb"))
    assert len(reports) == 2 and ["12.0" in r.read_text() for r in reports] == [True, False]
    shutil.rmtree(project / "runs/multirun")


def test_a_sweep_ends_with_a_table_of_its_runs(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(runner, "read_scraps", lambda path: {"key_figure": f"loss of {path.stem}"})
    done = [
        {"overrides": ["stage=mini", f"models={name}", "seed=1"], "report": f"{name}.ipynb", "seconds": 3.2}
        for name in ("ridge", "catboost")
    ]
    runner.show_sweep(done, tmp_path)
    assert capsys.readouterr().out.splitlines() == [
        "models    key figure        seconds  report",
        "ridge     loss of ridge     3        ridge.ipynb",
        "catboost  loss of catboost  3        catboost.ipynb",
    ]


def test_a_sweep_that_fails_says_which_runs_it_made(project):
    done = drg(project, "mini", "project_sections.mini.parameters.number=1,0", "--multirun")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "ZeroDivisionError" in done.stderr and len(done.stdout.splitlines()) == 2, done.stdout
    shutil.rmtree(project / "runs/multirun")


def test_run_prints_json_and_nothing_else_where_a_program_asks(project):
    done = drg(project, "mini", "--json")
    made = json.loads(done.stdout)
    assert done.stderr == "" and made["report"] == "runs/mini.ipynb" and made["stage"] == "mini"
    assert drg(project, "mini", "--quiet").stdout == ""
    assert "order: 9" in drg(project, "mini", "--json", "--cfg", "job").stdout


def test_a_config_that_is_no_yaml_is_named_with_its_line(project, refused):
    path = project / "configs/models/ridge.yaml"
    before = path.read_text()
    try:
        for broken in ("name: [ridge\nlabel: x\n", "name: ridge\nname: ridge\n"):
            path.write_text(broken)
            for command in (["run", "modeling", "models=ridge"], ["choose", "models=ridge"]):
                status, printed = refused(*command)
                assert status == 2 and "configs/models/ridge.yaml" in printed and "line 2" in printed, printed
    finally:
        path.write_text(before)


def test_a_notebook_that_is_not_one(project):
    path = project / "nbs/mini.ipynb"
    before = path.read_text()
    try:
        path.write_text("{")
        done = drg(project, "stage=mini")
    finally:
        path.write_text(before)
    assert done.returncode == 2 and "mini.ipynb" in done.stderr and "Remedy" in done.stderr


def test_outside_a_project(tmp_path):
    done = run(tmp_path, "drg", "run", "mini", check=False, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 1 and "not inside a drg_lib project" in done.stderr


CHOICES = [
    (["data=2016"], "would change nothing"),
    (["data="], "data: no value is given"),
    (["data=a: b.csv"], "would change nothing"),
    (["data_sources=medicare_csv", "data=a: b.csv"], "a: b.csv is not a file"),
    (["data_sources=medicare_csv", "data=README.md"], "README.md does not fit medicare_csv (and 3 more)"),
    (["data_sources=medicare_csv", "data=configs/config.yaml"], "is a config"),
    (["data=postgresql://host/costs?password=sesame"], "holds a password"),
    (["models=[ridge"], "models=[ridge: not a list of names"),
    (["models=ridge,,catboost"], "not a list of names"),
    (["models=ridge", "models=catboost"], "models is given twice"),
    (["modles=ridge"], "Did you mean models?"),
    (["data_versions=v9"], "models cannot learn from v9"),
    (["data_versions=../../x"], "no configs/data_versions/../../x.yaml"),
    (["data_sources=medicare_csv"], "needs a file"),
    (["data_sources=medicare_csv", "data=missing.csv"], "missing.csv is not a file"),
    (["data_sources=nowhere"], "no configs/data_sources/nowhere.yaml"),
    (["models=ridge,forest"], "no configs/models/forest.yaml"),
    pytest.param(
        ["targets=mean_payment"], "has no mean_payment", marks=pytest.mark.build
    ),  # composes each source
    (["color=red"], "no choice"),
]


@pytest.mark.build
@pytest.mark.parametrize("arguments, words", CHOICES)
def test_wrong_choices_change_nothing(project, refused, arguments, words):
    before = (project / "params.yaml").read_text()
    status, printed = refused("choose", *arguments)
    assert status == 2 and words in printed, printed
    assert "sesame" not in printed and "Remedy" in printed
    assert (project / "params.yaml").read_text() == before


def test_a_choice_brings_its_targets_and_goes_back(project):
    before = (project / "params.yaml").read_text()
    header = "year,provider_id,ms_drg_code,mean_covered_charge,mean_total_payment"
    (project / "panel.csv").write_text(f"{header}\n2019,330001,470,50000,12000\n")
    run(project, "drg", "choose", "data_sources=medicare_csv", "data=panel.csv")
    chosen = yaml.safe_load((project / "params.yaml").read_text())
    assert chosen["data_sources"] == "medicare_csv" and chosen["targets"] == ["mean_payment", "mean_charge"]
    run(project, "drg", "choose", "data_sources=synthetic")
    assert yaml.safe_load((project / "params.yaml").read_text()) == yaml.safe_load(before)


@pytest.mark.build
def test_a_choice_says_what_it_reruns_and_a_dry_run_writes_nothing(project, refused):
    before = (project / "params.yaml").read_text()
    (project / "dvc.lock").touch()
    status, printed = refused("choose", "models=ridge,hist_gradient_boosting", "--dry-run")
    assert status == 0 and (project / "params.yaml").read_text() == before
    assert (
        "Reruns at the next `dvc repro`: modeling (1 of 2), evaluation, documentation, deployment" in printed
    )
    status, printed = refused("choose", "models=ridge", "--dry-run", "--json")
    said = json.loads(printed)
    assert said["choices"]["models"] == ["ridge"] and said["before"]["models"][0] == "ridge"
    assert "evaluation@w_total_median_profit" in said["reruns"]


@pytest.mark.build
@pytest.mark.parametrize(
    ("file", "before", "after", "words"),
    [
        ("models/ridge.yaml", "signed_log:", "signed_lag:", "unknown signed_lag (did you mean signed_log?)"),
        ("models/ridge.yaml", "low: 10.0", "lo: 10.0", "search_space.alpha: unknown lo (did you mean low?)"),
        ("models/ridge.yaml", "encoding: one_hot", "encoding: one_hit", "encoding 'one_hit'"),
        ("data_sources/base.yaml", "forecast_year: null", "forecast_year: 2030", "the data end in 2017"),
        ("data_sources/base.yaml", "max_gap_years: 1", "max_gap_years: 0", "no value is recent enough"),
    ],
)
def test_what_stands_in_the_configs_is_checked_when_choices_are_shown(
    project, refused, file, before, after, words
):
    path = project / "configs" / file
    whole = path.read_text()
    assert before in whole
    try:
        path.write_text(whole.replace(before, after, 1))
        status, printed = refused("choose")
    finally:
        path.write_text(whole)
    assert status == 2 and words in printed and "Remedy" in printed, printed


@pytest.mark.build
@pytest.mark.parametrize(
    "file, typo",
    [
        ("evaluation/base.yaml", "sample_rowz: 3"),
        ("partitioning/by_year.yaml", "n_tests: 3"),
        ("deployment/base.yaml", "registr: true"),
        ("models/ridge.yaml", "paramters: {}"),
        ("target/mean_cost.yaml", "transfrom: level"),
        ("data_sources/synthetic.yaml", "scal: 1.0"),
    ],
)
def test_a_typo_in_any_group_is_named(tmp_path, file, typo):
    from drg_lib.pipeline.config import compose

    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    path = tmp_path / "configs" / file
    path.write_text(path.read_text() + f"\n{typo}\n")
    group, option = file.removesuffix(".yaml").split("/")
    with pytest.raises(Exception) as refused:
        compose([f"{group}={option}"], root=tmp_path)
    assert (
        typo.split(":")[0] in f"{refused.value} {refused.value.__cause__}"
        and group in f"{refused.value} {refused.value.__cause__}"
    )


@pytest.mark.build
def test_resolvers():
    from drg_lib.pipeline.config import compose

    config = compose(["data_versions=v10", "data_sources=synthetic", "data_sources.scale=0.1"])
    assert config.data_sources.rare_drg_discharges == 500
    assert (config.data_versions.parent, config.data_versions.step) == ("v9", "create_lag_features")
    assert (
        list(config.project_sections.evaluation.parameters.models)
        == yaml.safe_load((ROOT / "params.yaml").read_text())["models"]
    )


GROUPS = ["data_sources", "data_versions", "models", "target", "ml_experiments", "crosswalk"]


def test_every_config_file_composes():
    """One option of every group at a time: as many compositions as the largest group has files."""
    from drg_lib.pipeline.choices import options
    from drg_lib.pipeline.config import as_dict, compose

    files = {group: options(group) for group in GROUPS}
    for turn in range(max(map(len, files.values()))):
        choice = {group: names[turn % len(names)] for group, names in files.items()}
        config = compose([f"{group}={name}" for group, name in choice.items()])
        for group, name in choice.items():
            assert as_dict(config[group])["name"] == name
    for group in ("partitioning", "evaluation", "deployment", "comparison", "checks", "paths", "logging"):
        assert as_dict(config[group])


@pytest.mark.build
def test_versions_and_their_configs_agree():
    from drg_lib.pipeline.config import compose
    from drg_lib.versions.chain import known_versions

    for version, entry in known_versions().items():
        config = compose([f"data_versions={version}"])
        assert (config.data_versions.section, config.data_versions.parent, config.data_versions.step) == (
            entry["section"],
            entry["parent"],
            entry["step"],
        )
        assert config.data_versions.name == version and config.data_versions.description
        assert (
            list((ROOT / "nbs").rglob(f"{version}_{entry['step']}.ipynb"))
            and (ROOT / f"drg_lib/{entry['section']}/{entry['step']}.py").is_file()
        )
