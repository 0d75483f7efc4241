"""The registered champion answers over HTTP and from the command line as the forecast table says.

Nothing that was tampered with is loaded.
"""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pandas as pd
import pytest
from conftest import copy_build, environment, run

from drg_lib.base.names import DataError
from drg_lib.champion.intervals import bound_names
from drg_lib.champion.model import load_champion
from drg_lib.champion.registry import find_registered, input_example

KEY = ["facility_id", "apr_drg_code"]
VALUES = ["prediction", *bound_names()]


def inputs(build, target, n=None):
    return pd.read_parquet(build / "results" / "deployment" / "inputs" / f"{target}.parquet").head(n)


def batch(build, target):
    table = pd.read_parquet(build / "data" / "forecast.parquet")
    return table[(table["target"] == target) & (table["method"] == "model")].set_index(KEY)[VALUES]


def same(got, expected):
    expected = expected.loc[pd.MultiIndex.from_frame(got[KEY])]
    np.testing.assert_allclose(got[VALUES].to_numpy("float64"), expected.to_numpy(), rtol=1e-9)


@pytest.fixture(scope="module")
def server(medicare_build):
    "`mlflow models serve` on a free port, for as long as the tests of this file need it."
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = environment(medicare_build) | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{medicare_build / 'mlflow.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    served = subprocess.Popen(
        [
            os.path.join(os.path.dirname(sys.executable), "mlflow"),
            "models",
            "serve",
            "-m",
            "models:/drg_lib-mean_payment@champion",
            "--env-manager",
            "local",
            "-p",
            str(port),
        ],
        cwd=medicare_build,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        for _ in range(600):
            if served.poll() is not None:
                pytest.fail(served.stdout.read())
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5)
                break
            except OSError:
                time.sleep(0.3)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(served.pid, 15)
        served.wait(30)


def post(url, content, form=None):
    body = content if isinstance(content, str) else json.dumps(content)
    request = urllib.request.Request(url, body.encode(), {"Content-Type": form or "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_http_answers_as_the_forecast_table(server, medicare_build):
    rows = inputs(medicare_build, "mean_payment", 400)
    unknown = rows.iloc[[0]].assign(lag_w_mean_payment=np.nan)  # a pair without a last value
    asked = pd.concat([rows, unknown], ignore_index=True)
    status, answer = post(
        server,
        {"dataframe_split": json.loads(asked.to_json(orient="split", index=False, double_precision=15))},
    )
    assert status == 200 and len(answer["predictions"]) == 401
    same(rows[KEY].join(pd.DataFrame(answer["predictions"][:400])), batch(medicare_build, "mean_payment"))
    last = answer["predictions"][400]
    assert all(last[value] is None for value in VALUES) and last["remark"] == "no last value"


def test_http_names_a_missing_column(server, medicare_build):
    rows = inputs(medicare_build, "mean_payment", 2).drop(columns="lag_w_mean_payment")
    status, answer = post(server, {"dataframe_split": json.loads(rows.to_json(orient="split", index=False))})
    message = json.loads(answer)["message"]
    assert status == 400 and message.startswith("the request: lacks the column lag_w_mean_payment. Remedy: ")
    assert len(message.splitlines()) == 1 and rows["facility_id"].iloc[0] not in answer


def test_http_takes_codes_as_numbers_and_csv(server, medicare_build):
    rows = inputs(medicare_build, "mean_payment", 50)
    whole = rows.astype(dict.fromkeys(KEY, "int64"))
    for body, form in (
        (
            json.dumps(
                {"dataframe_records": json.loads(whole.to_json(orient="records", double_precision=15))}
            ),
            None,
        ),
        (rows.to_csv(index=False), "text/csv"),
    ):
        status, answer = post(server, body, form)
        assert status == 200
        same(rows[KEY].join(pd.DataFrame(answer["predictions"])), batch(medicare_build, "mean_payment"))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_drg_score_gives_the_batch_forecast(medicare_build, tmp_path, suffix):
    rows, source, out = (
        inputs(medicare_build, "mean_charge"),
        tmp_path / f"rows.{suffix}",
        tmp_path / f"scored.{suffix}",
    )
    rows = rows.assign(note="=kept as it is")
    rows.to_csv(source, index=False) if suffix == "csv" else rows.to_parquet(source)
    printed = run(medicare_build, "drg", "score", source, "--target", "mean_charge", "--out", out).stdout
    scored = pd.read_csv(out, dtype={k: str for k in KEY}) if suffix == "csv" else pd.read_parquet(out)
    same(scored, batch(medicare_build, "mean_charge"))
    assert (
        f"{len(rows):,} rows scored" in printed
        and scored["note"].eq(("'" if suffix == "csv" else "") + "=kept as it is").all()
        and scored["model_version"].astype(str).eq("1").all()
    )


def test_the_example_can_be_scored(medicare_build, tmp_path):
    run(medicare_build, "drg", "score", "--target", "mean_payment", "--example", tmp_path / "rows.csv")
    run(medicare_build, "drg", "score", tmp_path / "rows.csv", "--target", "mean_payment")
    same(
        pd.read_csv(tmp_path / "rows_scored.csv", dtype={k: str for k in KEY}),
        batch(medicare_build, "mean_payment"),
    )


def test_drg_score_says_what_is_wrong(medicare_build, tmp_path):
    inputs(medicare_build, "mean_payment", 3).assign(lag_w_mean_payment=["1000", "n/a", "3000"]).to_csv(
        tmp_path / "bad.csv", index=False
    )
    done = run(medicare_build, "drg", "score", tmp_path / "bad.csv", "--target", "mean_payment", check=False)
    assert (
        done.returncode == 1
        and "bad.csv, row 2 of the file (" in done.stderr
        and "'lag_w_mean_payment' holds 'n/a', which is not a number" in done.stderr
        and "Traceback" not in done.stderr
        and not (tmp_path / "bad_scored.csv").exists()
    )
    done = run(medicare_build, "drg", "score", tmp_path / "bad.csv", "--target", "mean_cost", check=False)
    assert done.returncode == 1 and "holds mean_charge, mean_payment" in done.stderr


def test_a_damaged_registered_model_is_refused_and_the_remedy_works(medicare_build, tmp_path):
    project = copy_build(medicare_build, tmp_path / "project")
    inputs(project, "mean_charge", 3).to_csv(tmp_path / "rows.csv", index=False)
    score = ["drg", "score", tmp_path / "rows.csv", "--target", "mean_charge"]
    for file in (project / "mlartifacts").rglob("*.joblib"):
        file.write_bytes(file.read_bytes() + b"x")
    refused = run(project, *score, check=False)
    assert refused.returncode == 1 and "nothing is loaded" in refused.stderr
    run(project, *shlex.split(re.search(r"Remedy: run `(.*?)`", refused.stderr)[1]))
    assert "version 2" in run(project, *score).stdout
    for folder in (project / "mlartifacts").rglob("artifacts/MLmodel"):
        folder.unlink()
    lost = run(project, *score, check=False)
    assert lost.returncode == 1 and "its files are not in mlartifacts any more" in lost.stderr


def test_a_project_that_may_only_be_read_scores_and_builds_its_site_elsewhere(medicare_build, tmp_path):
    project = copy_build(medicare_build, tmp_path / "project")
    (tmp_path / "out").mkdir()
    inputs(project, "mean_charge", 3).to_csv(tmp_path / "rows.csv", index=False)
    as_other = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    run(project, "chmod", "-R", "a-w", project)
    try:
        if not run(project, *as_other, "touch", "probe", check=False).returncode:
            pytest.skip("this system lets a process without CAP_DAC_OVERRIDE write to a read-only folder")
        score = ["drg", "score", tmp_path / "rows.csv", "--target", "mean_charge", "--json"]
        scored = json.loads(run(project, *as_other, *score, "--out", tmp_path / "out/s.csv").stdout)
        assert scored["rows"] == 3 and (tmp_path / "out/s.csv").is_file()
        refused = run(project, *as_other, "drg", "docs", check=False)
        assert (
            refused.returncode == 1 and "Remedy: make it writable, or `drg docs --out DIR`" in refused.stderr
        )
        run(project, *as_other, "drg", "docs", "--no-serve", "--out", tmp_path / "out/site")
        assert (tmp_path / "out/site/index.html").is_file()
    finally:
        run(project, "chmod", "-R", "u+w", project)


def test_a_site_takes_the_place_of_nothing_else(medicare_build, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    refused = run(medicare_build, "drg", "docs", "--out", tmp_path, check=False)
    assert refused.returncode == 1 and "holds something else than a site" in refused.stderr
    assert (tmp_path / "thesis.txt").is_file()


def test_registered_version_tells_where_it_comes_from(medicare_build):
    """Hash, format, revision, dataset, signature and example are with the version; no pickle is."""
    import mlflow

    registered = find_registered("mean_payment", root=medicare_build)
    client = mlflow.MlflowClient(f"sqlite:///{medicare_build / 'mlflow.db'}")
    version = client.get_model_version(registered["name"], registered["version"])
    revision = run(medicare_build, "git", "rev-parse", "HEAD~1").stdout.strip()
    assert (
        version.tags["champion_sha256"] == registered["sha256"]
        and version.tags["git_revision"].startswith(revision)
        and version.tags["format"] == "joblib, by hash"
    )
    model = mlflow.models.Model.load(registered["folder"])
    assert model.signature.inputs is None, "rows are checked by check_rows, not by MLflow before it"
    assert {o.name for o in model.signature.outputs} == {*VALUES, "remark"}
    assert set(input_example(registered["folder"])) == set(inputs(medicare_build, "mean_payment"))
    assert not list(registered["folder"].rglob("*.pkl"))
    read = client.get_run(version.run_id).inputs.dataset_inputs
    sources = {of_run.dataset.name: of_run.dataset.source for of_run in read}
    assert set(sources) == {"v9", "mean_payment v12", "mean_charge v12"}
    assert "data/partitions/mean_payment.parquet" in sources["mean_payment v12"]


def test_without_a_registry_the_remedy_is_the_one_that_registers(tmp_path):
    """DVC finds nothing changed where only the registry is lost, so a plain `dvc repro` would not help."""
    with pytest.raises(DataError, match="mlflow.db: not there.*Remedy: run `dvc repro`"):
        find_registered("mean_payment", root=tmp_path)
    (tmp_path / "results" / "deployment").mkdir(parents=True)
    with pytest.raises(DataError, match="Remedy: run `dvc repro --force --single-item deployment`"):
        find_registered("mean_payment", root=tmp_path)


def test_nothing_tampered_with_is_loaded(medicare_build, tmp_path):
    project = copy_build(medicare_build, tmp_path / "copy")
    registered = find_registered("mean_payment", root=project)
    assert str(registered["folder"]).startswith(str(project)), "a copied project serves its own files"
    record = next(registered["folder"].rglob("champion.json"))
    champion = load_champion(record.parent, registered["sha256"])
    assert champion.about["target"] == "mean_payment"
    model, bomb = next(record.parent.glob("*.joblib")), tmp_path / "ran"

    class Bomb:
        def __reduce__(self):
            return (open, (str(bomb), "w"))

    import joblib

    joblib.dump(Bomb(), model)
    with pytest.raises(DataError, match="nothing is loaded"):
        load_champion(record.parent, registered["sha256"])
    from drg_lib.forecasting.forecaster import file_hash

    content = json.loads(record.read_text())
    next(iter(content["files"].values()))["sha256"] = file_hash(model)
    record.write_text(json.dumps(content))
    with pytest.raises(DataError, match="nothing is loaded"):
        load_champion(record.parent, registered["sha256"])
    assert not bomb.exists()
