"""Comparison: rows pair by key, changes are counted, moved distributions are found, commits are fetched."""

import json

import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT, commit, copy_build, environment, run
from nbclient import NotebookClient

from drg_lib import comparison
from drg_lib.base.names import KEYS, DataError
from drg_lib.versions import compare as cmp
from drg_lib.versions.store import load_version, save_version


def table(n=400, seed=0):
    rng = np.random.default_rng(seed)
    at = np.arange(n)
    return pd.DataFrame(
        {
            "year": (2009 + at % 4).astype("int32"),
            "facility_id": (at // 4 % 20).astype(str),
            "apr_drg_code": (at // 80 + 190).astype(str),
            "mean_cost": rng.lognormal(9, 1, n),
            "sum_discharges": rng.integers(1, 50, n).astype(float),
            "name": "A",
        }
    )


def compared(left, right, keys=KEYS, **options):
    return cmp.compare_columns(left, right, cmp.pair_rows(left, right, keys), keys, **options).set_index(
        "column"
    )


def test_rows_are_paired_by_key_in_any_order():
    left = table()
    right = left.drop(index=[3, 8]).sample(frac=1, random_state=1)
    right = pd.concat([right, right.head(1).assign(year=2030)], ignore_index=True)
    paired = cmp.pair_rows(left, right, KEYS)
    assert (
        paired["removed"].tolist() == [3, 8]
        and paired["added"].tolist() == [len(right) - 1]
        and paired["repeated"] == 0
    )
    assert (
        left[KEYS].iloc[paired["left_at"]].values.tolist()
        == right[KEYS].iloc[paired["right_at"]].values.tolist()
    )
    assert not compared(left, right).changed.sum()


def test_keys_that_repeat_or_are_missing_lose_no_row():
    left = pd.DataFrame(
        {
            "year": [2016, 2016, 2017],
            "facility_id": ["4", "4", None],
            "apr_drg_code": "1",
            "mean_cost": [1.0, 2.0, 3.0],
        }
    )
    right = left.iloc[[0, 1, 1, 2]].reset_index(drop=True)
    paired = cmp.pair_rows(left, right, KEYS)
    assert (
        len(paired["left_at"]) == 3
        and len(paired["removed"]) == 0
        and len(paired["added"]) == 1
        and paired["repeated"] == 3
    )
    empty = cmp.pair_rows(left.head(0), right, KEYS)
    assert len(empty["left_at"]) == 0 and len(empty["added"]) == 4


def test_changes_are_counted_and_measured():
    left = table()
    right = left.assign(
        mean_cost=left.mean_cost.where(left.index >= 10, left.mean_cost * 1.1),
        sum_discharges=left.sum_discharges.mask(left.index == 5),
        name=left.name.mask(left.index == 7, "B"),
        lag=1.0,
    )
    rows = compared(left, right)
    assert rows.state.to_dict() == dict(
        year="same",
        facility_id="same",
        apr_drg_code="same",
        mean_cost="changed",
        sum_discharges="changed",
        name="changed",
        lag="added",
    )
    assert (
        rows.changed["mean_cost"] == 10
        and rows.median_growth["mean_cost"] == pytest.approx(0.1)
        and rows.emptied["sum_discharges"] == 1
        and rows.changed["name"] == 1
    )
    assert rows.sum_right["mean_cost"] - rows.sum_left["mean_cost"] == pytest.approx(
        left.mean_cost[:10].sum() * 0.1
    )
    assert (
        compared(left, right, tolerance=0.2).changed["mean_cost"] == 0
        and compared(right, left).state["lag"] == "removed"
    )
    listed = cmp.changes_of_values(
        left, right, cmp.pair_rows(left, right, KEYS), ["mean_cost", "name"], KEYS, keep=5
    )
    assert (
        len(listed) == 5
        and listed.column[0] == "name"
        and listed.right[0] == "B"
        and listed.growth[1:].round(6).eq(0.1).all()
    )


def test_published_text_is_compared_as_numbers():
    left = pd.DataFrame(
        {"Year": ["2016", "2017"], "Facility Id": ["4", "10"], "Mean Cost": ["1,200.50", "$900"]}
    )
    left = cmp.canonical(left, dict(year=[], facility_id=[], mean_cost=[]))
    right = pd.DataFrame({"year": [2017, 2016], "facility_id": ["10", "4"], "mean_cost": [900.0, 1200.5]})
    rows = compared(left, right, ["year", "facility_id"])
    assert (
        rows.changed.sum() == 0
        and rows.state["mean_cost"] == "changed"
        and rows.left_type["mean_cost"] == "str"
    )


def test_the_distance_is_that_of_kolmogorov_and_smirnov():
    from scipy.stats import ks_2samp

    rng = np.random.default_rng(3)
    for n, m, move in ((50, 70, 0.0), (500, 400, 0.3), (1, 9, 2.0)):
        a, b = np.sort(rng.normal(0, 1, n).round(1)), np.sort(rng.normal(move, 1, m).round(1))
        assert cmp.ks_distance(a, b)[0] == pytest.approx(ks_2samp(a, b).statistic)
    assert np.isnan(cmp.ks_distance(a, np.array([]))[0])


def test_moved_distributions_come_first_and_extremes_move_nothing():
    left = table(4000)
    right = left.assign(
        mean_cost=left.mean_cost * 1.5,
        sum_discharges=left.sum_discharges.mask(left.index == 0, 1e12),
        name=np.where(left.index < 1000, "B", "A"),
    )
    moved = cmp.compare_distributions(left, right).set_index("column")
    assert (
        moved.index[0] == "name"
        and moved.distance["name"] == 0.25
        and moved.distance["mean_cost"] > 0.1
        and moved["shift"]["mean_cost"] > 0.2
    )
    assert moved.distance["sum_discharges"] < 0.001 and moved.distance["year"] == 0
    assert (
        comparison.distribution_table(moved.reset_index(), ("v5", "v6"))
        .loc[0, ["column", "5 to 95 % v5"]]
        .tolist()
        == ["name", "–"]
        and comparison.distribution_table(moved.reset_index().head(0), ("v5", "v6")).empty
    )
    figure = comparison.plot_moved(left, right, moved.reset_index(), ("v5", "v6"), note="Toy", synthetic=True)
    assert (
        "2 of 6 distributions moved from v5 to v6, mean cost most"
        in figure._suptitle.get_text().replace("\n", " ")
        and "Synthetic data" in figure._supxlabel.get_text()
    )


@pytest.mark.parametrize("name", ["12", "v", "v5@", "v5 @x", "forecast", ""])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(DataError, match="names no data version. Remedy"):
        cmp.split_name(name)


def test_it_is_no_stage_of_the_pipeline_and_its_notebook_is_in_form():
    assert not [s for s in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"] if "comparison" in s]
    content = json.loads((ROOT / "nbs/comparison.ipynb").read_text())["cells"]
    (parameters,) = [c for c in content if "parameters" in c["metadata"].get("tags", [])]
    assert len(content) <= 30 and all(
        ": " in line and " = " in line and "  # " in line
        for line in "".join(parameters["source"]).splitlines()
    )


@pytest.fixture(scope="module")
def project(synthetic_build, tmp_path_factory):
    """A build whose last commit has other costs in v5 than the one before."""
    project = copy_build(synthetic_build, tmp_path_factory.mktemp("comparison") / "project")
    v5 = load_version("v5", project / "data")
    save_version(
        v5.assign(mean_cost=v5["mean_cost"] * 1.5).iloc[10:],
        "v5",
        project / "data",
        json.loads((project / "data/v4.json").read_text()),
        v5.head(10).assign(reason="left out"),
        config=dict(step="drop_rare_drgs"),
    )
    run(project, "dvc", "commit", "--force", "transformation@v5")
    commit(project, "costs times 1.5")
    return project


def test_two_commits_of_a_version(project):
    done = run(project, "drg", "run", "comparison", "comparison.left=v5@HEAD~1", "comparison.right=v5")
    folder = project / "results/comparison/v5@HEAD~1_v5"
    summary = json.loads((folder / "summary.json").read_text())
    assert (
        summary["rows_removed"] == 10
        and summary["rows_added"] == 0
        and summary["columns_changed"] == ["mean_cost"]
        and summary["moved"][0] == "mean_cost"
        and summary["synthetic"]
    )
    columns = pd.read_parquet(folder / "columns.parquet").set_index("column")
    assert (
        columns.median_growth["mean_cost"] == pytest.approx(0.5)
        and columns.share["mean_cost"] > 0.99
        and len(pd.read_parquet(folder / "rows_removed.parquet")) == 10
    )
    report = (project / "runs/comparison/v5@HEAD~1_v5.ipynb").read_text()
    assert "Synthetic data" in report and "image/png" in report and "report:" in done.stderr


def test_versions_of_another_grain_are_called_so(project):
    run(project, "drg", "run", "comparison", "comparison.left=v5@HEAD~1", "comparison.right=v6")
    summary = json.loads((project / "results/comparison/v5@HEAD~1_v6/summary.json").read_text())
    assert (
        not summary["same_grain"]
        and summary["rows_added"] == 0
        and summary["values_changed"] == 0
        and "sum_discharges" in summary["columns_added"]
    )
    assert (
        "A row is another thing on each side" in (project / "runs/comparison/v5@HEAD~1_v6.ipynb").read_text()
    )


def test_it_runs_in_lab_from_its_own_folder(project):
    notebook = nbformat.read(project / "nbs/comparison.ipynb", 4)
    before = {p: p.stat().st_mtime_ns for p in (project / "data").rglob("*")}
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(project / "nbs")}}
    ).execute(env=environment(project))
    summary = json.loads((project / "results/explore/comparison/v11_v12/summary.json").read_text())
    assert (
        summary["same_grain"]
        and summary["values_changed"] == 0
        and summary["columns_removed"]
        and not summary["columns_added"]
        and not summary["moved"]
    )
    assert before == {p: p.stat().st_mtime_ns for p in (project / "data").rglob("*")}


def test_what_a_commit_lacks_is_named(project):
    with pytest.raises(DataError, match="git knows no commit 'nowhere'.*Remedy"):
        cmp.load_committed("v5", "nowhere", project)
    with pytest.raises(DataError, match="git knows no commit '--all'"):
        cmp.load_committed("v5", "--all", project)
    first = run(project, "git", "rev-list", "--max-parents=0", "HEAD").stdout.strip()
    with pytest.raises(DataError, match="has no data/v5.parquet.*dvc.lock"):
        cmp.load_committed("v5", first, project)
    held = cmp.load_committed("v5", "HEAD~1", project)
    assert len(held[0]) == held[1]["rows"] and "built" in held[2]
    for path in (project / ".dvc/cache/files/md5").rglob("*"):
        if path.is_file() and path.stat().st_size == held[1]["bytes"]:
            path.chmod(0o644)
            path.write_bytes(path.read_bytes()[:-4000] + bytes(4000))
            damaged = path
    with pytest.raises(DataError, match="damaged in DVC's cache.*Remedy: `drg lineage --cache --remove`"):
        cmp.load_committed("v5", "HEAD~1", project)
    damaged.unlink()
    with pytest.raises(DataError, match="neither DVC's cache nor a remote holds it"):
        cmp.load_committed("v5", "HEAD~1", project)
