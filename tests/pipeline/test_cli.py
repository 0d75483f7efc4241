"""`drg` itself: its help, what it imports, how it ends; and what the shell offers."""

import os
import subprocess
import sys

import click
import pytest
import yaml
from click.testing import CliRunner
from conftest import ROOT, environment

from drg_lib.pipeline import cli
from drg_lib.pipeline.uses import groups, is_used, key_of, refuse_unused, taken, uses

COMMANDS = ["run", "choose", "score", "lineage", "docs"]


def call(*arguments, **more):
    return CliRunner().invoke(cli.drg, arguments, prog_name="drg", **more)


@pytest.fixture(autouse=True)
def in_project(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.parametrize("command", [[], *[[name] for name in COMMANDS], ["run", "modeling"]])
def test_the_help_of_each_command_fits_on_a_screen(command):
    shown = call(*command, "--help")
    lines = shown.output.splitlines()
    assert shown.exit_code == 0 and lines[0].startswith(f"Usage: {' '.join(['drg', *command])}")
    assert len(lines) <= 40 and max(map(len, lines)) <= 100


def test_help_and_completion_import_nothing_slow():
    code = (
        "import sys; from drg_lib.pipeline.cli import drg\n"
        "for name in drg.list_commands(None): drg.get_command(None, name)\n"
        "print([m for m in ('pandas', 'hydra', 'papermill', 'dvc', 'mlflow', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(ROOT), capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [["chose"], ["run", "--nonsense"], ["lineage", "--remove"], ["score"]])
def test_what_is_typed_wrong_is_refused_with_status_2(arguments):
    refused = call(*arguments)
    assert refused.exit_code == 2 and "Traceback" not in refused.output


def test_a_new_command_is_one_line_of_the_table_and_may_stand_in_a_group():
    table = {"source check": ("tests_of_cli:command", "Read a file."), "source list": ("x:y", "All of them.")}
    group = cli.Commands(table, name="drg")
    shown = CliRunner().invoke(group, ["source", "--help"])
    assert shown.exit_code == 0 and "check  Read a file." in shown.output and "list" in shown.output
    assert cli.GROUPS["source"] in CliRunner().invoke(group, ["--help"]).output


def ending(error):
    @click.command()
    def command():
        raise error

    group = cli.Commands({"end": ("", "")}, name="drg")
    group.get_command = lambda context, name: command
    return CliRunner().invoke(group, ["end"])


def test_ctrl_c_and_a_file_that_cannot_be_read_end_with_one_line():
    stopped = ending(KeyboardInterrupt())
    assert stopped.exit_code == 130 and stopped.output == "drg end: stopped by Ctrl-C.\n"
    denied = ending(PermissionError(13, "Permission denied", "data/v0.json"))
    assert denied.exit_code == 1 and denied.output == "drg end: data/v0.json: Permission denied.\n"


@pytest.mark.build
def test_a_closed_pipe_ends_without_a_word():
    ends = "import sys; from drg_lib.pipeline.cli import main; sys.argv = ['drg', 'run', '--help']; main()"
    done = subprocess.run(
        ["bash", "-c", f'{sys.executable} -c "{ends}" | head -1'],
        cwd=ROOT,
        env=environment(ROOT),
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("Usage: drg run") and done.stderr == ""


def test_messages_have_colors_at_a_terminal_only_and_never_with_no_color(monkeypatch):
    assert "\x1b" not in call("choose", "color=red").output
    assert "\x1b[31m" in call("choose", "color=red", color=True).output
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in call("choose", "color=red", color=True).output


# What a stage uses


def stages():
    return yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


@pytest.mark.parametrize("stage", stages())
def test_what_dvc_yaml_passes_is_used_by_the_stage(stage):
    entry = stages()[stage]
    command = entry.get("do", entry)["cmd"].split()
    assert command[:3] == ["drg", "run", stage]
    used = uses(stage)
    assert all(is_used(key_of(override), used) for override in command[3:]), taken(used)


@pytest.mark.parametrize(
    ("stage", "override", "words"),
    [
        (
            "modeling",
            "data_versions=v11",
            ["modeling does not use data_versions", "models, target", "partitioning"],
        ),
        ("evaluation", "models=ridge", ["evaluation does not use models", "modeling"]),
        (
            "evaluation",
            "ml_experiments.n_trials=9",
            ["Of ml_experiments it takes experiment, seed, tracking"],
        ),
        ("cleaning", "data_sources.scale=0.1", ["cleaning does not use data_sources.scale"]),
        ("documentation", "crosswalk=none", ["documentation does not use crosswalk"]),
        ("modeling", "models=ridge models=catboost", ["models is given twice"]),
    ],
)
def test_an_override_that_the_stage_does_not_use_is_refused(stage, override, words):
    refused = call("run", stage, *override.split())
    assert refused.exit_code == 2 and all(word in refused.output for word in [*words, "Remedy"]), (
        refused.output
    )


@pytest.mark.parametrize(
    ("stage", "override"),
    [
        ("transformation", "data_sources.scale=0.1"),  # v5's threshold is a share of it
        ("partitioning", "data_sources.n_test_years=1"),
        ("modeling", "target.loss=[rmse]"),
        ("modeling", "models.parameters.alpha=3"),
        ("deployment", "data_sources=medicare_csv"),
        ("ingestion", "logging.level=DEBUG"),
        ("modeling", "paths.data=data/explore"),
    ],
)
def test_an_override_that_reaches_the_stage_over_a_reference_is_taken(stage, override):
    refuse_unused([f"stage={stage}", override], ROOT)


@pytest.mark.build
@pytest.mark.parametrize("stage", ["partitioning", "modeling", "evaluation", "deployment", "transformation"])
def test_a_key_that_is_not_used_changes_no_parameter_of_the_stage(stage):
    """The other way round: what is refused would really have changed nothing."""
    from drg_lib.pipeline.config import as_dict, compose
    from drg_lib.pipeline.parameters import stage_parameters

    used, first = uses(stage), [f"stage={stage}"] + ["data_versions=v10"] * (stage == "transformation")
    config = compose(first)
    before, tried = stage_parameters(config, ROOT), 0
    for group in set(groups()) - {"hydra", "paths", "logging", "transformation", "data_versions"}:
        for key, value in as_dict(config[group]).items():
            other = {bool: not value, int: 97, float: 0.97, str: "another"}.get(type(value))
            if other is None or is_used(f"{group}.{key}", used):
                continue
            tried += 1
            assert stage_parameters(compose([*first, f"{group}.{key}={other}"]), ROOT) == before, (group, key)
            if tried > 4:
                return
    assert tried


# What the shell offers


def offered(words, shell="bash"):
    """What the shell's script would be told behind `words`, whose last one is unfinished."""
    answer = call(
        env={
            "_DRG_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": " ".join(words),
            "COMP_CWORD": str(len(words) - 1),
        }
    ).output
    return [line.split(",", 1)[1] for line in answer.splitlines() if "," in line]


@pytest.mark.parametrize(
    ("words", "some"),
    [
        (["drg", "li"], {"lineage"}),
        (["drg", "run", "part"], {"partitioning"}),
        (["drg", "run", "modeling", "models=r"], {"models=ridge", "models=randomforest"}),
        (["drg", "run", "modeling", "models", "=", "ri"], {"ridge"}),  # as bash has it
        (["drg", "run", "modeling", "models=ridge,cat"], {"models=ridge,catboost"}),
        (["drg", "run", "cleaning", "data_versions="], {"data_versions=v1", "data_versions=v2"}),
        (["drg", "run", "modeling", "ml_experiments.see"], {"ml_experiments.seed=0"}),
        (["drg", "run", "modeling", "--cfg", "j"], {"job"}),
        (["drg", "choose", "ml_experiments=f"], {"ml_experiments=full"}),
        (["drg", "choose", "targets", "=", "mean_p"], {"mean_payment"}),
        (["drg", "lineage", "--ver"], {"--verify"}),
    ],
)
def test_the_shell_offers_what_fits(words, some):
    assert set(offered(words)) == some


def test_the_shell_offers_no_group_that_the_stage_does_not_take():
    assert not offered(["drg", "run", "modeling", "data_v"]) and not offered(
        ["drg", "run", "evaluation", "models="]
    )


def test_outside_a_project_the_shell_offers_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DRG_LIB_ROOT", raising=False)
    assert offered(["drg", "run", "mod"]) == [] and os.listdir(tmp_path) == []


# What `make run` ends with


def test_the_summary_of_a_run_fits_a_screen(tmp_path, monkeypatch, capsys):
    import pandas as pd

    from drg_lib.base.tables import write_json, write_parquet
    from drg_lib.pipeline.choices import print_summary
    from drg_lib.versions.store import save_version

    for name in ("settings.ini", "params.yaml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    targets = [path.stem for path in (ROOT / "configs/target").glob("*.yaml")]
    params = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"targets": targets}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.setenv("DRG_LIB_ROOT", str(tmp_path))
    title = yaml.safe_load((ROOT / "configs/data_sources/medicare_csv.yaml").read_text())["title"]
    save_version(pd.DataFrame({"year": ["2019"]}), "v0", tmp_path / "data", config={"title": title})
    forecast = pd.DataFrame({"facility_id": ["4"], "target": ["mean_cost"], "year": [2022]})
    write_parquet(forecast, tmp_path / "data/forecast.parquet")
    for target in targets:
        metrics = {"champion": "hist_gradient_boosting", "hist_gradient_boosting": {"skill": 0.0312}}
        write_json(metrics, tmp_path / "results/evaluation" / target / "metrics.json")
    print_summary()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 100
    assert len([line for line in lines if line.startswith("Champion:")]) == len(targets)
    (tmp_path / "data/v0.json").write_text("{}")
    with pytest.raises(SystemExit):
        print_summary()
    assert "not a whole sidecar" in capsys.readouterr().err
