"""Documentation: the rows reconcile, missing parts are named with their command, cards say what they must."""

import html
import json

import pandas as pd
import pytest
import yaml
from conftest import ROOT
from sidecars import toy_sidecars

from drg_lib.base.tables import write_json, write_parquet
from drg_lib.documentation import evaluated, read_findings, report_table
from drg_lib.site.cards import data_card, model_card, model_cards, read_inspection
from drg_lib.site.site import rooms
from drg_lib.site.templates import environment, markdown_table
from drg_lib.versions.chain import known_versions
from drg_lib.versions.lineage import lineage
from drg_lib.versions.verify import read_sidecars


@pytest.fixture
def sidecars():
    return toy_sidecars()


def test_findings_of_all_versions_are_read_in_order(tmp_path):
    assert read_findings(tmp_path) is None
    for version, check in (("v10", "late"), ("v2", "early"), ("v3", None)):
        write_parquet(
            pd.DataFrame(dict(version=[version], check=[check])).dropna(),
            tmp_path / version / "findings.parquet",
        )
    assert read_findings(tmp_path).check.tolist() == ["early", "late"]


def test_markdown_tables_show_markup_as_text():
    row = markdown_table(pd.DataFrame({"name": ["<img src=x onerror=alert(1)>"]})).splitlines()[-1]
    assert "<" not in row and "|" not in row[1:-1] and "<img src=x onerror=alert(1)>" in html.unescape(row)


def test_reports_are_listed_with_their_state(tmp_path):
    def report(**about):
        return dict(
            cells=[dict(cell_type="markdown", source=["# Lag features\n", "> One sentence"])],
            metadata=dict(papermill=about),
        )

    for name, content in {
        "3_transformation/v10.ipynb": report(end_time="2026", duration=2.5, exception=None),
        "a.ipynb": report(end_time="2026", exception=True),
        "b.ipynb": report(),
        "7_documentation.ipynb": report(),
        "explore/5.ipynb": report(),
        "comparison/v5.ipynb": report(),
        ".ipynb_checkpoints/a.ipynb": report(),
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    (tmp_path / "cut.ipynb").write_text('{"cells": [')
    listed = report_table(tmp_path).set_index("report")
    assert listed.state.to_dict() == {
        "3_transformation/v10.ipynb": "done",
        "a.ipynb": "failed",
        "b.ipynb": "not whole",
        "cut.ipynb": "not whole",
    }
    assert listed.title.iloc[0] == "Lag features" and listed.seconds.iloc[0] == 2.5


def inspected():
    profile = dict(
        rows=1000,
        years=[2015, 2016],
        absent_years=[],
        facilities=3,
        drgs=4,
        discharges=12345.0,
        by_year=[dict(year=2015, rows=500, facilities=3, drgs=4, discharges=None, mean_cost=12345.0)],
        spread=[
            dict(
                column="mean_cost",
                known=1000,
                mean=1e4,
                min=1.0,
                p1=2.0,
                p25=3.0,
                p50=12345.0,
                p75=5.0,
                p99=6.0,
                max=1.2e6,
            )
        ],
    )
    return dict(
        profile=profile,
        findings=pd.DataFrame(
            dict(
                finding=["severity 0: not graded"],
                count=[5],
                of=["rows"],
                share=[0.005],
                example=["row 3 <script>"],
            )
        ),
    )


def test_nothing_there_is_no_failure(tmp_path):
    assert (
        read_sidecars(tmp_path) == {} and report_table(tmp_path / "runs").empty and evaluated(tmp_path) == []
    )
    assert "`dvc repro inspection`" in data_card(
        {}, read_inspection(tmp_path), lineage({})
    ) and "`dvc repro`" in model_cards([], tmp_path, tmp_path)


def test_the_data_card_says_where_the_data_come_from(sidecars):
    source, table = sidecars["v0"]["config"], lineage(sidecars)
    card = html.unescape(data_card(source, inspected(), table))
    assert (
        "Synthetic data" in card
        and "no severities" in card
        and "1.2M" in card
        and "severity 0: not graded" in card
        and "rare DRG 100" in card
        and "<script>" not in data_card(source, inspected(), table)
    )
    assert "Synthetic" not in data_card({**source, "synthetic": False}, inspected(), table)
    assert card == html.unescape(data_card(source, inspected(), table))
    assert "&#" not in data_card(source, inspected(), table) and r"| mean cost | \$2 |" in card


def test_what_the_inspection_wrote_is_read_back(tmp_path):
    held = inspected()
    write_json(held["profile"], tmp_path / "inspection/profile.json")
    write_parquet(held["findings"], tmp_path / "inspection/findings.parquet")
    write_json({}, tmp_path / "evaluation/mean_cost/metrics.json")
    read = read_inspection(tmp_path)
    assert (
        read["profile"] == held["profile"]
        and read["findings"].equals(held["findings"])
        and evaluated(tmp_path) == ["mean_cost"]
    )


@pytest.fixture
def judged(tmp_path):
    """What the evaluation of one target wrote, in as few figures as a model card needs."""

    def score(rmse):
        spans = {f"{name}_{end}": 1.0 for name in ("rmse", "mae") for end in ("low", "high")}
        return dict(rmse=rmse, mae=1.0, r2=0.5, weighted_ape=0.1, rows=10, **spans)

    def write(gain, low):
        metrics = dict(champion="ridge", baselines=["last_value"], validation_loss={"ridge": 1.0})
        metrics |= dict(ridge=score(9.0), last_value=score(10.0))
        metrics["against"] = {"ridge": {"last_value": dict(gain=gain, low=low, high=0.2)}}
        metrics["intervals"] = {"90": dict(coverage=0.9, width=0.5)}
        years = dict(train_years=[2015], validation_years=[2016], test_years=[2017])
        target = dict(label="Mean <b>cost</b>", unit="USD per discharge")
        write_json(metrics, tmp_path / "results/evaluation/mean_cost/metrics.json")
        write_json(dict(target=target, **years), tmp_path / "data/partitions/mean_cost.json")
        return model_card("mean_cost", tmp_path / "data", tmp_path / "results")

    return write


@pytest.mark.parametrize(
    ("gain", "low", "verdict"),
    [
        (None, None, "cannot be compared: last value was exactly right"),
        (
            -0.05,
            -0.1,
            "does not beat the best baseline, last value: its error (RMSE) is 5.0 % larger",
        ),
        (0.1, 0.05, "is 10.0 % closer (RMSE) than the best baseline"),
        (0.1, -0.05, "not surely better"),
    ],
)
def test_the_model_card_says_whether_the_champion_beats_doing_without(judged, gain, low, verdict):
    card = judged(gain, low)
    assert verdict in html.unescape(card)
    assert ("Use that one instead" in card) == (gain is not None and gain < 0)
    assert "<b>" not in card and "Mean <b>cost</b>" in html.unescape(card)


def test_a_template_that_knows_no_such_name_is_an_error():
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError, match="sentence"):
        environment(ROOT / "docs").from_string("{{ sentence }}").render()


def test_each_room_says_what_it_holds_and_lists_its_modules():
    meanings = yaml.safe_load((ROOT / "docs/rooms.yaml").read_text(encoding="utf-8"))
    folders = {p.name: p for p in (ROOT / "drg_lib").iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert set(meanings) == {"stages", *folders}
    groups = {group["title"].lower(): group for group in rooms(ROOT)}
    assert list(groups) == list(meanings)
    for room, folder in {"stages": ROOT / "drg_lib", **folders}.items():
        modules = {p.stem for p in folder.glob("*.py") if not p.name.startswith("_")}
        listed = [name.rpartition(".")[2] for name in groups[room]["modules"]]
        assert set(listed) == modules and all(groups[room]["modules"].values()), room
    steps = [name.rpartition(".")[2] for name in groups["transformation"]["modules"]]
    assert steps == [
        entry["step"] for entry in known_versions().values() if entry["section"] == "transformation"
    ]
