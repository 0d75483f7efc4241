"""DVC storage: a remote beside the project, S3, older commits, and what a damaged cache must not do."""

import json
import os
import shutil

import pandas as pd
import pytest
import yaml
from conftest import commit, copy_build, run

from drg_lib.base.names import DataError
from drg_lib.versions.lineage import cache_names, verify_cache
from drg_lib.versions.store import load_version, save_version

DATA = ["data/v4.parquet", "data/v4.json", "data/v4", "data/v5.parquet", "data/v5.json", "data/v5"]


def content(project):
    return {
        p.relative_to(project).as_posix(): p.read_bytes()
        for name in DATA
        for p in sorted([project / name, *(project / name).rglob("*")])
        if p.is_file()
    }


def wipe(project, workspace=True):
    """No cache, no record of it and, unless told otherwise, no data."""
    for folder in (".dvc/cache", ".dvc/tmp"):
        shutil.rmtree(project / folder, ignore_errors=True)
    for name in DATA if workspace else ():
        path = project / name
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()


def cached(project, path):
    """The file of the cache that holds `path`."""
    names = cache_names(yaml.safe_load((project / "dvc.lock").read_text()), project / ".dvc/cache/files/md5")
    code = next(code for code, name in names.items() if name == path)
    return project / ".dvc/cache/files/md5" / code[:2] / code[2:]


def flip(path, at=0.5):
    """Turn one bit of a file, as a failing disk does: mode and size stay."""
    content, mode = bytearray(path.read_bytes()), path.stat().st_mode
    content[int(len(content) * at)] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(mode)


@pytest.fixture
def project(synthetic_build, tmp_path):
    return copy_build(synthetic_build, tmp_path / "project")


def test_a_clone_whose_remote_is_not_there_still_builds(project):
    wipe(project)
    done = run(project, "dvc", "pull", "data/v5.parquet", check=False)
    assert done.returncode and "data/v5.parquet" in done.stderr and "Traceback" not in done.stderr
    assert "data/v5.parquet" in run(project, "dvc", "status", "transformation@v5").stdout
    assert "Running stage 'ingestion'" in run(project, "dvc", "repro", "--dry", "ingestion").stdout


def test_push_wipe_and_pull_by_s3(project, monkeypatch):
    boto3, server = pytest.importorskip("boto3"), pytest.importorskip("moto.server")
    keys = dict(
        AWS_ACCESS_KEY_ID="testing",
        AWS_SECRET_ACCESS_KEY="testing",
        AWS_DEFAULT_REGION="us-east-1",
        no_proxy="127.0.0.1",
        NO_PROXY="127.0.0.1",
    )
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    s3 = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    s3.start()
    try:
        address = "http://127.0.0.1:{1}".format(*s3.get_host_and_port())
        store = boto3.client("s3", endpoint_url=address)
        store.create_bucket(Bucket="drg")
        run(project, "dvc", "remote", "add", "--default", "s3store", "s3://drg/lib")
        run(project, "dvc", "remote", "modify", "s3store", "endpointurl", address)
        before = content(project)
        run(project, "dvc", "push", *DATA, env=keys)
        assert store.list_objects_v2(Bucket="drg", Prefix="lib/")["KeyCount"] >= len(set(before.values()))
        wipe(project)
        run(project, "dvc", "pull", *DATA, env=keys)
        assert content(project) == before
    finally:
        s3.stop()
    secrets = [p for p in (project / ".dvc").glob("config*") if "testing" in p.read_text()]
    assert not secrets


def next_commit(project):
    """A commit in which v5 has other values; the project's `HEAD~1` has the older ones."""
    parent = json.loads((project / "data/v4.json").read_text())
    table = load_version("v5", project / "data")
    save_version(
        table.assign(mean_cost=table["mean_cost"] * 1.1),
        "v5",
        project / "data",
        parent,
        pd.read_parquet(project / "data/v5/set_aside.parquet"),
        config=dict(step="drop_rare_drgs"),
    )
    run(project, "dvc", "commit", "--force", "transformation@v5")
    commit(project, "other values")


def test_an_older_commit_brings_the_older_data_from_the_cache_and_from_the_remote(project):
    """By the default remote, a folder beside the project."""
    old = content(project)
    assert len(old) > 6 and not (project.parent / "drg_lib-store").exists()
    run(project, "dvc", "push", *DATA)
    assert (
        any((project.parent / "drg_lib-store").rglob("*"))
        and "drg_lib-store" not in run(project, "git", "status", "--short").stdout
    )
    next_commit(project)
    new = content(project)
    assert old["data/v5.parquet"] != new["data/v5.parquet"]
    run(project, "git", "checkout", "-q", "HEAD~1")
    run(project, "dvc", "checkout", *DATA)
    assert content(project) == old
    run(project, "git", "checkout", "-q", "-")
    run(project, "dvc", "checkout", *DATA)
    assert content(project) == new
    wipe(project)
    assert not content(project)
    run(project, "git", "checkout", "-q", "HEAD~1")
    run(project, "dvc", "pull", *DATA)
    assert content(project) == old and load_version("v5", project / "data").shape[0]


def test_a_damaged_cache_file_is_named_and_not_used(project):
    """DVC links what its cache holds without reading it; the project looks."""
    run(project, "dvc", "push", *DATA)
    whole = content(project)
    path = cached(project, "data/v5.parquet")
    flip(path)
    (project / "data/v5.parquet").unlink()
    run(project, "dvc", "checkout", "data/v5.parquet")
    assert (
        "data/v5.parquet" not in run(project, "dvc", "status", "transformation@v5").stdout
    )  # DVC has not noticed
    with pytest.raises(DataError, match=r"(?s)data/v5.parquet: .*Remedy: delete"):
        load_version("v5", project / "data")
    done = run(project, "drg", "lineage", "--cache", check=False)
    assert (
        done.returncode == 1
        and "damaged content of data/v5.parquet" in done.stderr
        and str(path) in done.stderr
        and "1 damaged" in done.stdout
    )
    done = run(project, "drg", "lineage", "--cache", "--remove", check=False)
    assert (
        not path.exists()
        and not (project / "data/v5.parquet").exists()
        and "1 damaged and deleted" in done.stdout
    )
    run(project, "dvc", "pull", "data/v5.parquet")
    assert content(project) == whole and run(project, "drg", "lineage", "--verify").returncode == 0


def test_every_kind_of_damage_in_the_cache_is_found(project):
    table, lookup, listing = (
        cached(project, name) for name in ("data/v4.parquet", "data/v5/set_aside.parquet", "data/v5")
    )
    other = cached(project, "data/v5.parquet")
    flip(table, 0.1)
    lookup.chmod(0o644)
    os.truncate(lookup, lookup.stat().st_size - 1)
    flip(listing)
    first, second = other.read_bytes(), cached(project, "data/v3.parquet")
    for path in (other, second):
        path.chmod(0o644)
    other.write_bytes(second.read_bytes())
    second.write_bytes(first)  # two versions in each other's place
    (project / ".dvc/cache/files/md5/ab").mkdir(exist_ok=True)
    (project / ".dvc/cache/files/md5/ab" / ("c" * 30)).write_text("of a commit that dvc.lock no longer names")
    checked = verify_cache(project)
    damaged = {row.file: row.said for row in checked[checked.state == "damaged"].itertuples()}
    assert set(damaged) == {
        table,
        lookup,
        listing,
        other,
        second,
        project / ".dvc/cache/files/md5/ab" / ("c" * 30),
    }
    assert (
        "data/v4.parquet" in damaged[table]
        and "another commit" in damaged[project / ".dvc/cache/files/md5/ab" / ("c" * 30)]
    )
    assert (checked.state == "whole").sum() > 20


def test_a_folder_that_is_no_dvc_project_is_named(tmp_path):
    with pytest.raises(DataError, match="not a DVC project"):
        verify_cache(tmp_path)
