"""What a change makes DVC run again, on a built copy: a colour nothing, a sentence its own stage.

`dvc status` names the stages whose own dependencies changed, without a run; DVC's graph those after them.
"""

import contextlib
import json
import re

import networkx
import pytest
import yaml
from conftest import copy_build, edit, run
from dvc.repo import Repo

TARGET = "w_total_median_profit"


@pytest.fixture(scope="module")
def built(synthetic_build, tmp_path_factory):
    return copy_build(synthetic_build, tmp_path_factory.mktemp("reruns") / "project")


@pytest.fixture
def project(built):
    """The built copy; what a test changes is put back as it was committed."""
    yield built
    run(built, "git", "checkout", "-q", "--", "nbs", "drg_lib", "configs")


def changed_stages(project):
    """The stages that `dvc status` names: something that they depend on is not what they ran with."""
    with contextlib.chdir(project):
        return set(Repo(project).status())


def stages_after(project, name):
    """The stages that take what stage `name` makes, directly or not."""
    with contextlib.chdir(project):
        graph = Repo(project).index.graph
        (stage,) = [stage for stage in graph if stage.addressing == name]
        return {other.addressing for other in networkx.ancestors(graph, stage)}


def replace(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path.name} no longer says {old!r}"
    path.write_text(text.replace(old, new), encoding="utf-8")


def add_sentence(notebook):
    """Another sentence at the end of a notebook's last text cell."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    cell = [cell for cell in content["cells"] if cell["cell_type"] == "markdown"][-1]
    cell["source"] = "".join(cell["source"]) + "\nA sentence more."
    notebook.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def test_nothing_is_to_run_after_a_build(project):
    assert not changed_stages(project)


def test_a_changed_colour_trains_no_model_and_changes_no_data(project):
    replace(project / "nbs/reporting/style.ipynb", "#08519c", "#08519d")
    run(project, "nbdev_export", "--path", "nbs/reporting/style.ipynb")
    assert "#08519d" in (project / "drg_lib/reporting/style.py").read_text()
    assert not changed_stages(project)


def test_a_change_of_base_names_reruns_everything(project):
    path = project / "drg_lib/base/names.py"
    path.write_text(path.read_text() + "\nANOTHER_NAME = 1\n")
    stages = run(project, "dvc", "stage", "list", "--name-only").stdout.split()
    assert len(stages) > 15 and changed_stages(project) == set(stages)


def test_a_change_of_a_room_reruns_what_reaches_it(project):
    path = project / "drg_lib/champion/intervals.py"
    path.write_text(path.read_text() + "\nANOTHER_NAME = 1\n")
    assert changed_stages(project) == {f"evaluation@{TARGET}", "deployment"}


def test_a_changed_sentence_in_a_rooms_notebook_reruns_nothing(project):
    module = project / "drg_lib/forecasting/metrics.py"
    before = module.read_bytes()
    add_sentence(project / "nbs/forecasting/metrics.ipynb")
    run(project, "nbdev_export", "--path", "nbs/forecasting/metrics.ipynb")
    assert module.read_bytes() == before
    assert run(project, "git", "status", "--short", "nbs", "drg_lib").stdout.split() == [
        "M",
        "nbs/forecasting/metrics.ipynb",
    ]
    assert not changed_stages(project)


def test_a_change_of_the_lag_config_reruns_v10_and_later_only(project):
    path = project / "configs/data_versions/v10.yaml"
    step = yaml.safe_load(path.read_text())["transformation"]
    edit(path, transformation=step | dict(columns=step["columns"][:-1]))
    assert changed_stages(project) == {"transformation@v10"}
    later = stages_after(project, "transformation@v10")
    versions = {name for name in later if re.search(r"@v\d+$", name)}
    assert versions == {"transformation@v11", "transformation@v12"}
    assert later - versions == {
        f"partitioning@{TARGET}",
        f"modeling@{TARGET}-ridge",
        f"modeling@{TARGET}-catboost",
        f"evaluation@{TARGET}",
        "documentation",
        "deployment",
    }


def test_an_edit_of_a_model_reruns_only_what_it_feeds(project):
    path = project / "configs/models/ridge.yaml"
    space = yaml.safe_load(path.read_text())["search_space"]
    name = next(k for k, v in space.items() if v["type"] == "float")
    space[name]["high"] *= 2
    edit(path, search_space=space)
    assert changed_stages(project) == {f"modeling@{TARGET}-ridge"}
    assert stages_after(project, f"modeling@{TARGET}-ridge") == {
        f"evaluation@{TARGET}",
        "documentation",
        "deployment",
    }


def test_compiled_modules_in_a_room_are_no_change(project):
    """.dvcignore leaves them out of a folder that stages depend on; without it they rerun everything."""
    compiled = project / "drg_lib/base/__pycache__/never_imported.cpython-311.pyc"
    compiled.parent.mkdir(exist_ok=True)
    compiled.write_bytes(b"compiled")
    assert not changed_stages(project)
    ignored = project / ".dvcignore"
    before = ignored.read_bytes()
    ignored.write_bytes(b"")
    try:
        assert "ingestion" in changed_stages(project)
    finally:
        ignored.write_bytes(before)
        compiled.unlink()


def trials(project):
    """Number, state, time of its start and of its end of each trial of the ridge model's study."""
    import optuna

    storage = f"sqlite:///{project / f'results/optuna/{TARGET}-ridge.db'}"
    study = optuna.load_study(study_name=None, storage=storage)
    return [(t.number, t.state.name, t.datetime_start, t.datetime_complete) for t in study.trials]


def test_a_changed_sentence_in_a_stages_notebook_reruns_it_and_tuning_goes_on_from_its_trials(project):
    stage = f"modeling@{TARGET}-ridge"
    before = trials(project)
    add_sentence(project / "nbs/5_modeling.ipynb")
    assert changed_stages(project) == {stage, f"modeling@{TARGET}-catboost"}
    printed = run(project, "dvc", "repro", stage).stdout
    assert re.findall(r"Running stage '([^']+)'", printed) == [stage]
    assert len(before) == 2 and trials(project) == before
    assert "A sentence more." in (project / f"runs/5_modeling/{TARGET}-ridge.ipynb").read_text()
