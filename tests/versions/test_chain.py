"""The chain: names and order of versions, one between two others, and what the contracts of steps promise."""

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT

from drg_lib.base.contract import Contract
from drg_lib.base.names import KEYS, DataError
from drg_lib.pipeline import explore
from drg_lib.versions import chain
from drg_lib.versions.checks import check_table, forbidden
from drg_lib.versions.step import features_up_to, write_checked
from drg_lib.versions.store import save_version
from drg_lib.versions.verify import read_sidecars


@pytest.fixture
def listed(tmp_path, monkeypatch):
    "A project whose list of versions a test may change; a function that changes entries of `transformation`."
    (tmp_path / "configs").mkdir()
    for name in ("nbs", "settings.ini", "params.yaml", "configs/checks"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.setenv("DRG_LIB_ROOT", str(tmp_path))
    content = yaml.safe_load((ROOT / "configs/versions.yaml").read_text())

    def change(after=None, observed="v9", **entries):
        content["observed"], steps = observed, content["transformation"]
        for version, entry in entries.items():
            place = list(steps).index(after) + 1 if after else len(steps)
            content["transformation"] = steps = {
                **dict(list(steps.items())[:place]),
                version: entry,
                **dict(list(steps.items())[place:]),
            }
            later = next((v for v in steps if v != version and steps[v]["parent"] == after), None)
            if later:
                steps[later] = steps[later] | dict(parent=version)
        (tmp_path / "configs/versions.yaml").write_text(yaml.safe_dump(content, sort_keys=False))

    change()
    return change


def entry(parent, step):
    return dict(parent=parent, step=step)


# ---- names and order


def test_a_version_between_two_others_stands_between_them(listed):
    listed(after="v9", v9b=entry("v9", "charge_to_cost_ratio"))
    assert chain.ordered(["v10", "v11", "v9b", "v0", "v9"]) == ["v0", "v9", "v9b", "v10", "v11"]
    assert chain.line_of("v10")[-3:] == ["v9", "v9b", "v10"]
    assert chain.rebuilt_by("v9b") == "run `dvc repro transformation@v9b`"
    assert chain.step_function("v9b").__name__ == "charge_to_cost_ratio"


def test_a_version_after_the_observed_one_may_take_its_place(listed):
    """Targets, histories and the steps of the forecast then begin there."""
    listed(after="v9", v9b=entry("v9", "charge_to_cost_ratio"), observed="v9b")
    assert chain.observed_version() == "v9b" and "observed" not in chain.known_versions()
    assert explore.versions_read("partitioning", {"data_version": "v12"}) == ["v12", "v9b"]
    listed(observed="v99")
    with pytest.raises(DataError, match="observed is v99, which the list does not hold. Remedy"):
        chain.observed_version()


def test_observed_columns_are_of_the_year_itself_and_the_next_steps_make_features():
    observed = chain.observed_version()
    line = chain.line_of("v12")
    of_earlier_years = [v for v in line if chain.contract_of(v).tried_on_moved_years]
    assert set(of_earlier_years) and not set(line[: line.index(observed) + 1]) & set(of_earlier_years)


def test_versions_that_the_list_does_not_hold_come_last():
    assert chain.ordered(["v100", "v99b", "v12", "v99", "v2"]) == ["v2", "v12", "v99", "v99b", "v100"]


def test_versions_on_disk_are_those_with_a_sidecar(tmp_path):
    for name in ("v10.json", "v2.json", "v9.parquet", "vnot.json", "forecast.json"):
        (tmp_path / name).write_text("{}")
    assert chain.versions_on_disk(tmp_path) == ["v2", "v10"]


@pytest.mark.parametrize(
    ("version", "parent", "words"),
    [
        ("12b", "v12", "12b cannot name a version.*Remedy"),
        ("v13", "v98", "v13 is made from v98, which is not in the list. Remedy"),
        ("v13", "v13", "v13 is made from v13, which is made from it. Remedy"),
    ],
)
def test_a_wrong_list_is_refused(listed, version, parent, words):
    listed(**{version: entry(parent, "profit")})
    with pytest.raises(DataError, match=words):
        chain.line_of(version)


def test_an_unknown_version_is_named_with_the_list():
    with pytest.raises(DataError, match="'v99' is not in configs/versions.yaml, which lists v1, v2"):
        chain.entry_of("v99")


# ---- contracts


def test_every_step_brings_its_contract():
    contracts = {version: chain.contract_of(version) for version in chain.known_versions()}
    assert [v for v, c in contracts.items() if c.joins_rows] == ["v6"]
    assert [v for v, c in contracts.items() if c.tried_on_moved_years] == ["v10", "v11"]


def test_a_step_without_module_or_contract_says_what_to_do(listed, monkeypatch):
    listed(v13=entry("v12", "relative_cost"))
    with pytest.raises(
        DataError, match="v13: drg_lib/transformation/relative_cost.py is not there.*nbdev_export"
    ):
        chain.contract_of("v13")
    monkeypatch.delattr("drg_lib.transformation.profit.CONTRACT")
    with pytest.raises(DataError, match="v3: drg_lib.transformation.profit exports no CONTRACT. Remedy"):
        chain.contract_of("v3")


def test_what_a_step_forbids_is_forbidden_in_all_that_is_made_from_it(listed):
    listed(after="v9", v9b=entry("v9", "charge_to_cost_ratio"))
    listed(v13=entry("v12", "charge_to_cost_ratio"))
    assert list(forbidden("v9b", ["facility_name", "discharges", "w_mean_cost"])) == [
        "facility_name",
        "discharges",
    ]
    assert forbidden("v13", ["year", "lag_w_mean_cost", "w_mean_cost"]) == {
        "w_mean_cost": "of the target year itself and cannot be known before it"
    }
    table = pd.DataFrame({"year": np.int32([2016]), "facility_id": ["4"], "apr_drg_code": ["194"]})
    findings = check_table(table.assign(w_mean_cost=1.0), "v13")
    assert findings[["check", "column"]].values.tolist() == [["column over", "w_mean_cost"]]


def test_a_new_step_brings_its_own_checks(listed, monkeypatch):
    from drg_lib.base.contract import Check

    def positive(handover):
        return [Check("positive", lambda values: values > 0, "is not above 0", "correct it", "beds")]

    monkeypatch.setattr("drg_lib.transformation.profit.CONTRACT", Contract(needs=("beds",), checks=positive))
    table = pd.DataFrame({"year": np.int32([2016]), "facility_id": ["4"], "apr_drg_code": ["194"]})
    (lacking,) = check_table(table, "v3").to_dict("records")
    assert lacking["check"] == "column present" and lacking["column"] == "beds"
    (wrong,) = check_table(table.assign(beds=0.0), "v3").to_dict("records")
    assert wrong["message"] == (
        "1 of 1 rows: beds is not above 0, for example year 2016, facility 4, DRG 194: beds 0.0. "
        "Remedy: correct it."
    )


def test_features_are_tried_with_every_step_before_that_makes_some(listed, tmp_path):
    listed(after="v10", v10b=entry("v10", "rolling_features"))
    sidecars = {}
    table = pd.DataFrame({"year": [2016]})
    for version, parent in (("v10", None), ("v10b", "v10")):
        config = dict(step="a step", parameters=dict(columns=[version]))
        parent = sidecars.get(parent)
        sidecars[version] = save_version(table, version, tmp_path, parent, config=config)
    steps = features_up_to("v11", sidecars["v10b"], dict(a=1), data_dir=tmp_path)
    assert [step.func.__name__ for step in steps] == [
        "create_lag_features",
        "rolling_features",
        "rolling_features",
    ]
    assert [step.keywords for step in steps] == [dict(columns=["v10"]), dict(columns=["v10b"]), dict(a=1)]


# ---- the sidecars hold together


def test_a_change_in_any_sidecar_reaches_the_last_one(tmp_path):
    def last(title):
        table = pd.DataFrame(
            {"year": np.int32([2016]), "facility_id": ["4"], "apr_drg_code": ["194"], "mean_cost": [5.0]}
        )
        folder = tmp_path / title
        parent = save_version(table, "v2", folder, config=dict(title=title, synthetic=True, note=title))
        parent = parent | dict(source=dict(title="", synthetic=True))
        for version in ("v3", "v4"):
            parent, _ = write_checked(table, table, version, folder, parent, parameters=dict(statistics=[]))
        return read_sidecars(folder)["v4"]

    one, other = last("one"), last("other")
    assert one["parent_sidecar_sha256"] != other["parent_sidecar_sha256"]
    assert {key for key in one if one[key] != other[key]} == {"parent_sidecar_sha256"}
    assert last("one") == one and KEYS[0] in one["columns"]
