"""Documentation: the rows reconcile, missing parts are named with their command, cards say what they must."""
import json
import warnings

import pandas as pd
import pytest

from drg_lib import documentation as doc
from drg_lib.core.tables import write_csv, write_json

NOTHING = dict(profile=None, findings=None, targets={})


def sidecar(version, parent, rows, aside=0, aggregates=False, columns=("year",)):
    n = int(version[1:])
    return dict(version=version, parent=parent and parent["version"], parent_rows=parent and parent["rows"], parent_sha256=parent and parent["sha256"], rows=rows, rows_set_aside=aside,
                set_aside={"rare DRG": aside} if aside else {}, bytes=1_000_000, sha256=f"{n:064x}", columns={c: {} for c in columns},
                config=dict(step=f"step_{n}", aggregates=aggregates) if parent else dict(title="Toy source", synthetic=True, note="no severities"))


@pytest.fixture
def sidecars():
    v0 = sidecar("v0", None, 1000, columns=("Year",))
    v1 = sidecar("v1", v0, 1000)
    v5 = sidecar("v5", v1, 900, 100)
    return dict(v0=v0, v1=v1, v5=v5, v6=sidecar("v6", v5, 300, aggregates=True, columns=("year", "w_mean_cost")))


def test_rows_reconcile(sidecars):
    table = doc.lineage(sidecars).set_index("version")
    assert table.reconciles.eq("yes").all() and table.joined["v6"] == 600 and table.added["v6"] == "w_mean_cost" and table.dropped["v1"] == "Year"
    assert (table.rows_in[1:] == table.rows[1:] + table.set_aside[1:] + table.joined[1:]).all()


def test_lost_stale_and_orphaned_versions_are_named(sidecars):
    sidecars["v1"]["rows"] = 990
    sidecars["v5"]["parent_sha256"] = "0" * 64
    del sidecars["v0"]
    assert doc.lineage(sidecars).set_index("version").reconciles.to_dict() == {"v1": "parent missing", "v5": "stale", "v6": "yes"}
    sidecars["v6"]["config"]["aggregates"] = False
    table = doc.lineage(sidecars)
    assert table.reconciles.iloc[-1] == "no" and "do not add up in v1, v5, v6" in doc.plot_lineage(table)._suptitle.get_text().replace("\n", " ")


def test_versions_are_read_in_the_order_of_their_numbers(tmp_path, sidecars):
    for name, version in (("v10", "v10"), ("v2", "v2"), ("vnot", "v2")): write_json(sidecar(version, sidecars["v1"], 1000), tmp_path / f"{name}.json")
    assert list(doc.read_sidecars(tmp_path)) == ["v2", "v10"]


def test_lineage_picture_draws_without_warnings(tmp_path, sidecars):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = doc.plot_lineage(doc.lineage(sidecars), "Toy source", True)
        figure.savefig(tmp_path / "lineage.png")
    title = figure._suptitle.get_text().replace("\n", " ")
    assert title.startswith("1k published rows become 300 in v6; 100 were set aside") and "Synthetic data" in figure._supxlabel.get_text()


def test_nothing_there_is_no_failure(tmp_path):
    table = doc.lineage(doc.read_sidecars(tmp_path))
    assert table.empty and doc.list_reports(tmp_path / "runs").empty
    results = doc.read_results(tmp_path, tmp_path)
    assert "`dvc repro inspection`" in doc.data_card({}, results, table) and "`dvc repro`" in doc.model_card({}, results)


def test_reports_are_listed_with_their_state(tmp_path):
    def report(**about): return dict(cells=[dict(cell_type="markdown", source=["# Lag features\n", "> One sentence"])], metadata=dict(papermill=about))
    for name, content in {"3_transformation/v10.ipynb": report(end_time="2026", duration=2.5, exception=None), "a.ipynb": report(end_time="2026", exception=True), "b.ipynb": report(),
                          "7_documentation.ipynb": report(), "explore/5.ipynb": report(), ".ipynb_checkpoints/a.ipynb": report()}.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    (tmp_path / "cut.ipynb").write_text('{"cells": [')
    listed = doc.list_reports(tmp_path).set_index("report")
    assert listed.state.to_dict() == {"3_transformation/v10.ipynb": "done", "a.ipynb": "failed", "b.ipynb": "not whole", "cut.ipynb": "not whole"}
    assert listed.title.iloc[0] == "Lag features" and listed.seconds.iloc[0] == 2.5


def results(skill=0.2):
    s = dict(rows=10, rmse=1e4 * (1 - skill), mae=5e3, r2=0.9, skill=skill, skill_mae=0.1, weighted_ape=0.1)
    naive = dict(s, rmse=1e4, skill=0.0)
    metrics = dict(ridge=dict(s, by_year={"2016": s}), naive=dict(naive, by_year={"2016": naive}), champion="ridge", validation_loss={"ridge": 1.0}, interval=dict(level=0.9, coverage=0.88))
    meta = dict(target=dict(label="Mean cost", unit="USD per discharge"), train_years=[2010, 2011], validation_years=[2012, 2013], test_years=[2016], rows=dict(test=12), without_last_value=dict(test=2))
    worst = pd.DataFrame(dict(year=[2016], facility_id="4", apr_drg_code="194", facility_name=[None], apr_drg_description="Heart Failure | other", last_value=1e4, actual=2e4, predicted=1.1e4, error=-9e3))
    profile = dict(rows=1000, years=[2015, 2016], absent_years=[], facilities=3, drgs=4, discharges=12345.0, by_year=[dict(year=2015, rows=500, facilities=3, drgs=4, discharges=None, mean_cost=12345.0)],
                   spread=[dict(column="mean_cost", known=1000, mean=1e4, min=1.0, p1=2.0, p25=3.0, p50=12345.0, p75=5.0, p99=6.0, max=1.2e6)])
    return dict(profile=profile, findings=pd.DataFrame(dict(finding=["severity 0: not graded"], count=[5], of=["rows"], share=[0.005], example=["row 3"])),
                targets={"mean_cost": dict(metrics=metrics, meta=meta, by_volume=pd.DataFrame(dict(group=[1, 2], champion=[0.3, 0.1])), importances=pd.DataFrame(dict(model="ridge", feature=["last_value"], importance=[5e3])), worst=worst)})


def test_cards_say_where_the_data_come_from_and_what_the_naive_does(sidecars):
    source = sidecars["v0"]["config"]
    data, model = doc.data_card(source, results(), doc.lineage(sidecars)), doc.model_card(source, results())
    assert "Synthetic data" in data and "Synthetic data" in model and "no severities" in data
    assert "Synthetic" not in doc.model_card({**source, "synthetic": False}, results())
    assert "Ridge removes 20.0 % of the naive" in model and "last value (naive)" in model and "88 % of the test outcomes" in model and "30 %" in model
    assert r"Heart Failure \| other" in model and "facility 4" in model and "1.2M" in data and "severity 0: not graded" in data


def test_a_champion_that_loses_to_the_naive_is_named_as_such():
    assert "does not beat the naive forecast: its error is 5.0 % larger" in doc.model_card({}, results(-0.05))


def test_cards_are_the_same_for_the_same_results(sidecars):
    table = doc.lineage(sidecars)
    assert doc.data_card({}, results(), table) == doc.data_card({}, results(), table) and doc.model_card({}, results()) == doc.model_card({}, results())


def test_results_of_evaluation_are_read_back(tmp_path):
    r = results()["targets"]["mean_cost"]
    folder = tmp_path / "evaluation" / "mean_cost"
    write_json(r["metrics"], folder / "metrics.json")
    write_csv(r["worst"], folder / "worst_misses.csv")
    read = doc.read_results(tmp_path, tmp_path / "data")["targets"]["mean_cost"]
    assert read["meta"] is None and read["worst"].facility_id.tolist() == ["4"] and read["worst"].apr_drg_code.tolist() == ["194"]
    assert "Mean cost" not in doc.model_card({}, dict(NOTHING, targets={"mean_cost": read})) and "mean_cost" in doc.model_card({}, dict(NOTHING, targets={"mean_cost": read}))
