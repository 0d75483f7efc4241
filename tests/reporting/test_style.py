"""The style: colours that survive a grey print, numbers as people say them, one message a figure."""

import ast
import subprocess
import sys
import warnings
from itertools import combinations

import matplotlib
import matplotlib.pyplot as plt
import pytest
from conftest import ROOT

from drg_lib.reporting import style as p

TOGETHER = [
    ("charge", "cost", "profit"),
    ("charge", "payment", "medicare_payment"),
    ("actual", "prediction", "last_value"),
    ("ridge", "randomforest", "catboost"),
]


def test_importing_the_style_does_not_import_matplotlib():
    code = "import sys, drg_lib.reporting.style; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("things", TOGETHER, ids="-".join)
def test_things_drawn_together_differ_in_grey(things):
    for a, b in combinations(things, 2):
        assert abs(p.lightness(p.COLORS[a]) - p.lightness(p.COLORS[b])) > 30, (a, b)


@pytest.mark.parametrize("things", TOGETHER, ids="-".join)
def test_things_drawn_together_have_their_own_markers(things):
    assert len({p.MARKERS[t] for t in things}) == len(things)


@pytest.mark.parametrize(
    "value, text",
    [
        (0, "$0"),
        (0.5, "$0.50"),
        (9.996, "$10"),
        (950, "$950"),
        (999.6, "$1k"),
        (12_345, "$12.3k"),
        (99_960, "$100k"),
        (999_960, "$1M"),
        (1_234_567, "$1.2M"),
        (2.5e9, "$2.5B"),
        (-3_000, "−$3k"),
        (-0.001, "$0"),
        (float("nan"), "–"),
        (None, "–"),
    ],
)
def test_dollars(value, text):
    assert p.dollars(value) == text


def test_neighbouring_ticks_keep_different_labels():
    assert [p.dollars(v, 0) for v in (1_000_000, 1_250_000, 1_500_000)] == ["$1M", "$1.25M", "$1.5M"]


@pytest.mark.parametrize("value, text", [(0.615, "62 %"), (-0.03, "−3 %"), (float("inf"), "–")])
def test_percent(value, text):
    assert p.percent(value) == text


def test_counts():
    assert [p.thousands(v) for v in (0, 7, 1_081_672)] == ["0", "7", "1.1M"]


def test_colour_of_a_column():
    assert (
        p.color("w_mean_medicare_payment") == p.COLORS["medicare_payment"]
        and p.color("lag_w_mean_cost") == p.COLORS["cost"]
    )
    assert p.color("charge_to_cost_ratio") == p.COLORS["muted"]


def test_style_is_put_back():
    before = dict(matplotlib.rcParams)
    with p.style(figure_figsize=(3, 2)):
        assert matplotlib.rcParams["figure.figsize"] == [3, 2] and not matplotlib.rcParams["axes.spines.top"]
    assert dict(matplotlib.rcParams) == before


@p.picture
def two_prices(low, high, synthetic=False):
    figure, ax = plt.subplots()
    ax.plot([2016, 2017], [low, high])
    ax.yaxis.set_major_formatter(p.dollars)
    return p.message(
        ax,
        f"From {p.dollars(low)} to {p.dollars(high)}, a rise of {p.percent(high / low - 1)} "
        "for a sentence that is long enough to need two lines",
        "A note.",
        synthetic,
    )


def test_title_holds_dollars_and_fits_the_figure(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = two_prices(47_900, 52_600)
        figure.savefig(tmp_path / "a.png")
    box = figure._suptitle.get_window_extent()
    assert box.x1 <= figure.bbox.x1 and "\n" in figure._suptitle.get_text()
    assert plt.get_fignums() == []


def test_synthetic_is_said_inside_the_figure():
    assert "Synthetic data" in two_prices(1, 2, synthetic=True)._supxlabel.get_text()
    assert "Synthetic" not in two_prices(1, 2)._supxlabel.get_text()


def test_names_at_line_ends_do_not_overlap():
    figure, ax = plt.subplots()
    ax.set(xlim=(0, 1), ylim=(0, 1))
    p.label_ends(
        ax,
        [
            (1, 0.5, "charge", "#08519c"),
            (1, 0.501, "cost", "#f0a30a"),
            (1, 1.0, "payment", "#aa4499"),
            (1, 0.999, "profit", "#1b9e77"),
        ],
    )
    heights = sorted(t.get_position()[1] for t in ax.texts)
    assert min(b - a for a, b in zip(heights, heights[1:])) > 0.05 and heights[-1] <= 1
    plt.close(figure)


def test_a_notebook_keeps_the_picture_in_words():
    words = two_prices(1, 2, synthetic=True)._repr_mimebundle_()["text/plain"]
    assert words.startswith("From $1 to $2") and "Synthetic data." in words and words.endswith("A note.")


def functions():
    for path in sorted((ROOT / "drg_lib").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                yield path, node


def calls(node):
    return {ast.unparse(n.func) for n in ast.walk(node) if isinstance(n, ast.Call)}


@pytest.mark.build
def test_every_picture_is_drawn_in_the_style_and_has_a_message():
    drawn = [(path, f) for path, f in functions() if calls(f) & {"plt.subplots", "plt.figure"}]
    assert len(drawn) > 10
    for path, f in drawn:
        assert "picture" in [ast.unparse(d) for d in f.decorator_list], (
            f"{path.name}: {f.name} is not drawn in the project's style"
        )
        assert "message" in calls(f), f"{path.name}: {f.name} has no message above it"
