"""A version between two others, v9b, in a built project: made by its notebook, seen wherever versions are."""

import html
import json
import re

import pytest
from conftest import copy_build, run

from drg_lib.site.site import stage_site
from drg_lib.versions.lineage import reconcile

CONFIG = """# @package _global_
# drg run transformation data_versions=v9b
defaults:
  - base

data_versions:
  name: v9b
  description: "With the share of the hospital's discharges that each DRG is."

transformation:
  most: 1.0
"""
CELLS = {
    "default_exp": "#| default_exp transformation.share_of_facility",
    "parameters": """data_version: str = "v9b"  # the version to make
data_dir: str = "data/explore"  # where it is written
checks: dict = {}  # thresholds
most: float = 1.0  # the largest share that can be""",
    "imports": "#| export\nimport pandas as pd\n\nfrom drg_lib.base.contract import Check, Contract",
    "step": "#| hide\nfrom drg_lib.versions.step import VersionStep",
    "function": """#| export
def share_of_facility(frame: pd.DataFrame, most: float) -> pd.DataFrame:
    \"\"\"Add the DRG's share of the hospital's discharges.\"\"\"
    in_all = frame.groupby(["year", "facility_id"])["sum_discharges"].transform("sum", min_count=1)
    return frame.assign(share_of_facility=(frame["sum_discharges"] / in_all).clip(upper=most))""",
    "contract": """#| export
def shares(handover) -> list[Check]:
    \"\"\"A share is at most 1.\"\"\"
    return [Check("share", lambda share: share <= 1, "is above 1", "correct it", "share_of_facility")]


CONTRACT = Contract(needs=("share_of_facility",), checks=shares)""",
    "run": """#| eval: false
step = VersionStep(data_version, data_dir, checks)
before = step.load()
step.save(share_of_facility(before, most), parameters=dict(most=most))""",
}


def notebook():
    import nbformat

    title = (
        "# v9b: share of the facility\n> The share of the hospital's discharges in the year that the DRG is."
    )
    code = [
        nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]} if name == "parameters" else {})
        for name, source in CELLS.items()
    ]
    kernel = {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}
    cells = [nbformat.v4.new_markdown_cell(title), *code]
    return nbformat.writes(nbformat.v4.new_notebook(cells=cells, metadata=kernel)) + "\n"


@pytest.fixture(scope="module")
def project(synthetic_build, tmp_path_factory):
    "A copy of the build with v9b: one list, one config and one notebook are written, and no other file."
    project = copy_build(synthetic_build, tmp_path_factory.mktemp("between") / "project")
    path = project / "configs/versions.yaml"
    text = path.read_text()
    line = "  v10: {parent: v9, step: create_lag_features}\n"
    between = (
        "  v9b: {parent: v9, step: share_of_facility}\n  v10: {parent: v9b, step: create_lag_features}\n"
    )
    assert line in text
    path.write_text(text.replace(line, between))
    (project / "configs/data_versions/v9b.yaml").write_text(CONFIG)
    (project / "nbs/3_transformation/v9b_share_of_facility.ipynb").write_text(notebook())
    run(project, "nbdev_export")
    run(project, "dvc", "repro", "transformation@v12", timeout=1800)
    return project


def test_lineage_accounts_and_cards_show_a_version_between_two_others(project, monkeypatch):
    data = project / "data"
    sidecars = {
        version: json.loads((data / f"{version}.json").read_text()) for version in ("v9b", "v10", "v12")
    }
    assert sidecars["v9b"]["parent"] == "v9" and sidecars["v10"]["parent"] == "v9b"
    assert "lag_share_of_facility" in sidecars["v12"]["columns"]  # `share_*` is among the patterns of v10

    lines = run(project, "drg", "lineage", "--verify").stdout.splitlines()
    names = [line.split()[0] for line in lines if line.startswith("v")]
    assert names == [f"v{n}" for n in range(10)] + ["v9b", "v10", "v11", "v12"]
    assert "The rows add up in all 14 versions." in lines
    shown = json.loads(run(project, "drg", "lineage", "--json").stdout)["versions"]
    assert [version["version"] for version in shown] == names

    monkeypatch.setenv("DRG_LIB_ROOT", str(project))  # the list of versions is the project's
    table = reconcile(data).set_index("version")
    assert list(table.index) == names and set(table["balanced"]) == {"yes"}
    assert table.loc["v9b", "step"] == "share_of_facility"

    run(project, "drg", "run", "documentation")
    card = html.unescape((project / "results/cards/data_card.md").read_text())
    assert "share_of_facility" in card and card.index("v9b") < card.index("v10")


def test_the_site_shows_it_in_its_place(project, tmp_path, monkeypatch):
    monkeypatch.setenv("DRG_LIB_ROOT", str(project))
    stage_site(project, tmp_path / "staged")
    page = (tmp_path / "staged/lineage.md").read_text()
    assert "share of facility" in page.replace("_", " ")
    rows = re.findall(r"^\* - .*?\b(v\d+[a-z]*)\b", page, re.MULTILINE)
    assert rows[rows.index("v9") :][:3] == ["v9", "v9b", "v10"]
