"""nbdev's own commands on a copy of the project: export, clean and the lessons in the notebooks."""

import filecmp
import json
import re

import pytest
from conftest import ROOT, copy_project, run

STAGES = [p.relative_to(ROOT) for p in (ROOT / "nbs").rglob("*.ipynb") if re.match(r"v?\d+\w*_", p.name)]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return copy_project(tmp_path_factory.mktemp("nbdev") / "project")


def sources(folder):
    return {
        p.relative_to(folder.parent)
        for p in folder.rglob("*")
        if p.suffix in (".py", ".ipynb") and ".ipynb_checkpoints" not in p.parts
    }


def differences(folder, copy):
    here, there = sources(ROOT / folder), sources(copy / folder)
    changed = [p for p in here & there if not filecmp.cmp(ROOT / p, copy / p, shallow=False)]
    return sorted(changed) + sorted(here ^ there)


def test_export_and_clean_leave_no_difference(copy):
    run(copy, "nbdev_export")
    run(copy, "nbdev_clean")
    assert not differences("drg_lib", copy)
    assert not differences("nbs", copy)


def test_nbdev_test_passes(copy):
    run(copy, "nbdev_test", "--n_workers", "2")


def test_parameters_tags_survive_cleaning(copy):
    run(copy, "nbdev_clean")
    for notebook in STAGES:
        tagged = [
            cell
            for cell in json.loads((copy / notebook).read_text())["cells"]
            if "parameters" in cell["metadata"].get("tags", [])
        ]
        assert len(tagged) == 1, notebook


def test_the_tag_is_lost_without_the_setting(copy):
    """The setting that the test above relies on does the work."""
    settings = (copy / "settings.ini").read_text()
    notebook = copy / STAGES[0]
    before = notebook.read_text()
    try:
        (copy / "settings.ini").write_text(settings.replace("allowed_cell_metadata_keys = tags", ""))
        run(copy, "nbdev_clean", "--fname", notebook)
        assert '"parameters"' not in notebook.read_text()
    finally:
        (copy / "settings.ini").write_text(settings)
        notebook.write_text(before)
