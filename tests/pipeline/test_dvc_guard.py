"""dvc.yaml lists what each stage reaches: the imports of its notebook, followed through the rooms.

Two rooms are left out, each with its reason. tests/pipeline/slow/test_what_reruns.py shows on a built copy
what follows from the list: a changed colour trains no model.
"""

import ast
import json
import re
from pathlib import PurePosixPath

import grimp
import pytest
from conftest import ROOT
from dvc.repo import Repo

from drg_lib.pipeline.config import choices
from drg_lib.pipeline.reruns import outputs, reruns, stages_with

LEFT_OUT = {
    "drg_lib.reporting": "how a picture looks changes no data",
    "drg_lib.pipeline": "it runs the stages; the walk does not go through it either",
}


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("drg_lib")


@pytest.fixture(scope="module")
def repo():
    return Repo(ROOT)


@pytest.fixture(scope="module")
def stages(repo):
    """The dependencies of each stage of dvc.yaml, templates resolved; a params file is none of them."""
    return {
        stage.addressing: [dep.def_path for dep in stage.deps if dep not in stage.params]
        for stage in repo.index.stages
    }


def notebook_of(dependencies):
    """The one notebook that a stage runs."""
    (notebook,) = [path for path in dependencies if path.startswith("nbs/")]
    return notebook


def code(notebook):
    """The Python of a notebook's cells, without IPython's own commands."""
    for cell in json.loads((ROOT / notebook).read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            lines = "".join(cell["source"]).splitlines()
            yield "\n".join(line for line in lines if not line.startswith(("%", "!")))


def imported(sources, modules):
    """Those of `modules` that the sources import anywhere, also inside functions."""
    names = set()
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name in modules}


def left_out(module):
    """Reading what reports hold is no matter of looks: the documentation stage depends on it."""
    if module == "drg_lib.reporting.executed":
        return False
    return any(module == room or module.startswith(f"{room}.") for room in LEFT_OUT)


def reached(graph, modules):
    """`modules` and what they import, directly or not; rooms that are left out end the walk."""
    seen, ahead = set(), set(modules)
    while ahead:
        module = ahead.pop()
        if module not in seen and not left_out(module):
            seen.add(module)
            ahead |= graph.find_modules_directly_imported_by(module)
    return seen


def file_of(module):
    """The file of a module; a package is its folder's __init__.py."""
    path = module.replace(".", "/")
    return f"{path}/__init__.py" if (ROOT / path).is_dir() else f"{path}.py"


def covers(dependency, file):
    return file == dependency or PurePosixPath(dependency) in PurePosixPath(file).parents


def files_reached(graph, notebook):
    return {file_of(module) for module in reached(graph, imported(code(notebook), graph.modules))}


def not_listed(files, dependencies):
    return sorted(file for file in files if not any(covers(dependency, file) for dependency in dependencies))


def test_each_stage_depends_on_its_notebook_and_on_every_room_that_it_reaches(graph, stages):
    assert {"ingestion", "transformation@v10", "documentation", "deployment"} <= set(stages)
    for stage, dependencies in stages.items():
        notebook = notebook_of(dependencies)
        missing = not_listed(files_reached(graph, notebook), dependencies)
        assert not missing, f"{notebook} reaches {', '.join(missing)}, which stage {stage} does not depend on"


def test_every_stage_notebook_belongs_to_a_stage(stages):
    notebooks = {path.relative_to(ROOT).as_posix() for path in (ROOT / "nbs").rglob("*.ipynb")}
    numbered = {name for name in notebooks if re.match(r"v?\d+_", PurePosixPath(name).name)}
    assert {notebook_of(dependencies) for dependencies in stages.values()} == numbered


def test_no_stage_depends_on_a_room_that_it_does_not_reach(graph, stages):
    """Such a stage would run again for nothing."""
    for stage, dependencies in stages.items():
        files = files_reached(graph, notebook_of(dependencies))
        exported = f"/{PurePosixPath(notebook_of(dependencies)).stem.partition('_')[2]}.py"
        rooms = [d for d in dependencies if d.startswith("drg_lib/") and not d.endswith(exported)]
        for dependency in rooms:
            assert any(covers(dependency, file) for file in files), f"{stage} does not reach {dependency}"


def test_a_room_that_dvc_yaml_forgets_is_named(graph, stages):
    """The walk is not blind: without any one of its rooms, each stage fails."""
    for dependencies in stages.values():
        files = files_reached(graph, notebook_of(dependencies))
        for room in {"drg_lib/base", "drg_lib/versions", "drg_lib/forecasting"} & set(dependencies):
            assert not_listed(files, [path for path in dependencies if path != room])


def test_imports_are_found_wherever_they_stand(graph):
    source = """
import drg_lib.base.names
def fit():
    from drg_lib.forecasting import tuning, no_module
    if True:
        from drg_lib.champion.blend import anything
"""
    assert imported([source], graph.modules) == {
        "drg_lib.base.names",
        "drg_lib.forecasting",
        "drg_lib.forecasting.tuning",
        "drg_lib.champion.blend",
    }


def test_the_walk_goes_from_import_to_import_and_ends_at_what_is_left_out():
    graph = grimp.ImportGraph()
    for importer, module in [
        ("drg_lib.a", "drg_lib.b"),
        ("drg_lib.b", "drg_lib.c"),
        ("drg_lib.a", "drg_lib.reporting.style"),
        ("drg_lib.reporting.style", "drg_lib.d"),
    ]:
        graph.add_import(importer=importer, imported=module)
    assert reached(graph, {"drg_lib.a"}) == {"drg_lib.a", "drg_lib.b", "drg_lib.c"}


def test_packages_hold_no_code():
    """Importing a module runs the `__init__.py` of its folders, which no stage lists."""
    for path in (ROOT / "drg_lib").rglob("__init__.py"):
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        assert all(line.startswith(("__version__", "#")) for line in lines), path


def test_modules_that_are_named_at_run_time_are_known():
    """No walk sees a module imported by its name: a step, which dvc.yaml lists, an estimator, a command."""
    named = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "drg_lib").rglob("*.py")
        if "import_module(" in path.read_text(encoding="utf-8")
    }
    # The warm interpreter names libraries, none of the project's modules; the command line's are no stage's.
    steps, estimators = "versions/chain.py", "forecasting/forecaster.py"
    assert named <= {f"drg_lib/{path}" for path in (steps, estimators, "pipeline/cli.py", "pipeline/warm.py")}


def test_dvc_shows_the_headline_of_each_target_and_keeps_the_other_metrics_as_a_file(repo):
    evaluations = [stage for stage in repo.index.stages if stage.addressing.startswith("evaluation@")]
    metrics = [out.def_path for stage in repo.index.stages for out in stage.outs if out.metric]
    folders = [f"results/evaluation/{stage.addressing.split('@')[1]}" for stage in evaluations]
    assert metrics == [f"{folder}/headline.json" for folder in folders] and metrics
    plain = {out.def_path for stage in evaluations for out in stage.outs if not out.metric}
    assert plain >= {f"{folder}/metrics.json" for folder in folders}


def test_dvc_shows_the_choices_and_not_the_whole_chain_of_versions(repo):
    """A file of variables is shown line by line, unless a stage names the lines that it depends on."""
    shown = repo.params.show(hide_workspace=False)[""]["data"]
    assert set(shown) == {"params.yaml", "configs/versions.yaml"}
    assert set(shown["configs/versions.yaml"]["data"]) == {"observed"}


def test_the_stages_that_choices_lead_to_are_those_of_dvc():
    """`drg choose` reads dvc.yaml by itself, which is faster than DVC and must come to the same."""
    ours = stages_with(choices(ROOT), ROOT)
    theirs = {stage.addressing: stage for stage in Repo(ROOT).index.stages}
    assert list(ours) == list(theirs)
    for name, stage in theirs.items():
        assert ours[name]["cmd"] == stage.cmd
        files = [dep.def_path for dep in stage.deps if dep.hash_name != "params" and dep.def_path]
        assert set(ours[name]["deps"]) == {path for path in files if path != "params.yaml"}
        assert set(outputs(ours[name])) == {out.def_path for out in stage.outs}


@pytest.mark.parametrize(
    ("changed", "first", "last"),
    [
        ({"data_sources": "medicare_csv", "data": "x.csv"}, "ingestion", 21),
        ({"crosswalk": "apr_drg_v38"}, "cleaning@v1", 19),
        ({"data_versions": "v11"}, "partitioning@w_total_median_profit", 7),
        ({"models": ["ridge"]}, "evaluation@w_total_median_profit", 3),
        ({"ml_experiments": "full"}, "modeling@w_total_median_profit-ridge", 6),
        ({}, None, 0),
    ],
)
def test_a_change_of_a_choice_reruns_what_it_feeds(changed, first, last):
    chosen = choices(ROOT)
    again = reruns(chosen, chosen | changed, ROOT)
    assert (again[0] if again else None) == first and len(again) == last, again
