"""JupyterLab's start page, and the notebook that loads any data version, model and forecast."""

import json
import re

import nbformat
import pytest
from conftest import ROOT, environment
from nbclient import NotebookClient

from drg_lib.base.names import DataError
from drg_lib.pipeline import explore as load


def natural(path):
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path)]


def start_page():
    cells = json.loads((ROOT / "nbs/start.ipynb").read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells)


def test_the_start_page_links_to_every_stage_in_order():
    stages = sorted(
        (
            p.relative_to(ROOT / "nbs").as_posix()
            for p in (ROOT / "nbs").rglob("*.ipynb")
            if re.match(r"(v?\d+[a-z]?)_", p.name) and ".ipynb_checkpoints" not in p.parts
        ),
        key=natural,
    )
    linked = re.findall(r"\]\(([^)]+\.ipynb)\)", start_page())
    assert [name for name in linked if name in stages] == stages
    assert {"comparison.ipynb", "experiments.ipynb", "explore.ipynb"} <= set(linked)


def test_the_start_page_says_of_every_room_what_is_in_it_and_its_links_lead_to_notebooks():
    rooms = {p.parent.name for p in (ROOT / "nbs").glob("[a-z]*/*.ipynb")}
    listed = re.findall(r"^\| (\w+) \| \[\w+\]\((\w+)/\w+\.ipynb\) \| .+ \|$", start_page(), re.MULTILINE)
    assert rooms and {room for room, _ in listed} == rooms and all(a == b for a, b in listed)
    for name in re.findall(r"\]\(([^)]+)\)", start_page()):
        assert (ROOT / "nbs" / name).is_file(), name


def test_make_lab_opens_the_start_page():
    assert "jupyter lab nbs/start.ipynb" in (ROOT / "Makefile").read_text()
    for name in ("start", "explore"):
        assert (
            json.loads((ROOT / f"nbs/{name}.ipynb").read_text())["metadata"]["kernelspec"]["name"]
            == "python3"
        )


@pytest.mark.parametrize("name", ["start", "explore"])
def test_it_runs_in_lab_after_the_pipeline_and_writes_nothing(synthetic_build, name):
    before = {
        p: p.stat().st_mtime_ns
        for folder in ("data", "results", "runs")
        for p in (synthetic_build / folder).rglob("*")
        if p.is_file()
    }
    notebook = nbformat.read(ROOT / f"nbs/{name}.ipynb", 4)
    NotebookClient(
        notebook,
        timeout=200,
        kernel_name="python3",
        resources={"metadata": {"path": str(synthetic_build / "nbs")}},
    ).execute(env=environment(synthetic_build))
    assert {p: p.stat().st_mtime_ns for p in before} == before
    shown = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
    assert any("data version" in str(o.get("data", {}).get("text/plain", "")) for o in shown)
    assert name == "start" or any("image/png" in o.get("data", {}) for o in shown)


@pytest.fixture
def project(synthetic_build, monkeypatch):
    monkeypatch.setenv("DRG_LIB_ROOT", str(synthetic_build))
    return synthetic_build


def test_what_is_here_can_be_loaded(project):
    here = load.what_is_here()
    for name, rows in here[here.what == "data version"][["name", "rows"]].itertuples(index=False):
        assert len(load.version(name)) == rows
    target = load.forecast()["target"].iloc[0]
    for name in here[here.what == "model"].name:
        model, record = load.model(*name.split(", "))
        assert record["validation_loss"] > 0 and hasattr(model, "predict")
    best = min(
        load.model(*name.split(", "))[1]["validation_loss"]
        for name in here[here.what == "model"].name
        if name.startswith(target + ",")
    )
    assert load.model(target)[1]["validation_loss"] == best
    assert set(load.forecast(target)["target"]) == {target}


def test_what_is_not_here_is_said_with_its_remedy(project, tmp_path, monkeypatch):
    for call, words in [
        (lambda: load.version("v99"), "v12"),
        (lambda: load.model("nothing"), "dvc repro"),
        (lambda: load.forecast("nothing"), "Remedy: one of"),
    ]:
        with pytest.raises(DataError, match=words):
            call()
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/versions.yaml").write_text((ROOT / "configs/versions.yaml").read_text())
    monkeypatch.setenv("DRG_LIB_ROOT", str(tmp_path))
    assert load.what_is_here().empty
    for call in (lambda: load.version("v9"), lambda: load.model("mean_cost"), load.forecast):
        with pytest.raises(DataError, match="dvc repro"):
            call()
