"""Each stage notebook, run top to bottom as JupyterLab would on a clone: its own folder and parameters.

Most run after the ones before them. Two run first of all, on a bare clone: they make what they need.
"""

import re

import nbformat
import pandas as pd
import pytest
from conftest import ROOT, SMALL, copy_project, edit, environment
from nbclient import NotebookClient

from drg_lib.pipeline.provisioner import WarmKernelManager
from drg_lib.versions.chain import known_versions

TARGET = "w_total_median_profit"
MAY_WRITE = ("data/explore/", "results/explore/", "runs/explore/", "mlflow.db", ".mlflow.db", "mlartifacts/")


def order(path):
    return [int(n) for n in re.findall(r"\d+", path.name)]


NOTEBOOKS = sorted(
    [
        p.relative_to(ROOT).as_posix()
        for p in (ROOT / "nbs").rglob("*.ipynb")
        if re.match(r"v?\d", p.name) and ".ipynb_checkpoints" not in p.parts
    ],
    key=lambda name: (name.split("/")[1][0], order(ROOT / name)),
)


def run_all(project, name):
    """Restart the kernel and run all cells; the outputs stay in memory."""
    path = project / name
    notebook = nbformat.read(path, 4)
    notebook.cells.append(nbformat.v4.new_code_cell("import drg_lib\ndrg_lib.__file__"))
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        kernel_manager_class=WarmKernelManager,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute(env=environment(project))
    assert (
        str(project) in notebook.cells[-1].outputs[-1].data["text/plain"]
    )  # not the project it was copied from
    return notebook


def files(project):
    return {
        p.relative_to(project).as_posix(): p.stat().st_mtime_ns
        for p in project.rglob("*")
        if p.is_file() and not {"__pycache__", ".ipynb_checkpoints"} & set(p.parts)
    }


def written(project, before):
    """What appeared or changed outside the folders for exploring."""
    after = files(project)
    return [
        name
        for name in after.keys() | before.keys()
        if after.get(name) != before.get(name) and not name.startswith(MAY_WRITE)
    ]


@pytest.fixture(scope="module")
def explored(tmp_path_factory):
    """A copy of the project in which every notebook ran, in order; and its files at the start."""
    project = copy_project(tmp_path_factory.mktemp("lab") / "project")
    edit(project / "configs/evaluation/base.yaml", **SMALL)
    return project, files(project)


FIRST_OF_ALL = {
    "nbs/3_transformation/v10_create_lag_features.ipynb": [
        "data/explore/v9.parquet",
        "data/explore/v10.parquet",
    ],
    "nbs/8_deployment.ipynb": [
        "data/explore/v12.parquet",
        f"data/explore/partitions/{TARGET}.json",
        f"results/explore/models/{TARGET}/ridge/model.json",
        f"results/explore/evaluation/{TARGET}/champion.json",
        "data/explore/forecast.parquet",
        "data/explore/forecast.csv",
    ],
}


def as_cloned(project, before):
    """Delete all that is not of the clone."""
    for name in files(project).keys() - before.keys():
        (project / name).unlink()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_runs_in_lab_after_the_ones_before_it_or_first_of_all(explored, name):
    project, before = explored
    if name in FIRST_OF_ALL:
        as_cloned(project, before)
    notebook = run_all(project, name)
    assert not written(project, before)
    assert all((project / path).is_file() for path in FIRST_OF_ALL.get(name, []))
    version = re.match(r"v\d+", (project / name).stem)
    if version:
        assert version[0] in known_versions() and (project / f"data/explore/{version[0]}.json").is_file()
        assert len(pd.read_parquet(project / f"data/explore/{version[0]}.parquet"))
    outputs = [o for c in notebook.cells[:-1] if c.cell_type == "code" for o in c.outputs]
    assert outputs and not [
        o.text for o in outputs if o.output_type == "stream" and o.name == "stderr" and "Warning" in o.text
    ]


def test_together_they_made_every_artifact(explored):
    project, _ = explored
    names = {name for name in files(project) if name.startswith(("data/explore", "results/explore"))}
    assert {f"data/explore/v{i}.parquet" for i in range(13)} <= names
    assert {
        f"data/explore/partitions/{TARGET}.parquet",
        f"results/explore/evaluation/{TARGET}/champion.json",
        "data/explore/forecast.parquet",
    } <= names
    assert not [name for name in names if name.endswith(".part")]
