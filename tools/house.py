"""Measure how the code is arranged: `python tools/house.py [FOLDER]` prints a row for each rule of the house.

Rooms, imports, sizes of cells and lines, types and checks of a checkout, beside what the best projects of the
field have (mlforecast, kedro, lightning-hydra-template, example-get-started, papermill, calkit). fastcore,
nbdev and execnb, which are made of exported cells too, are measured where they are installed. `--check` names
the exported cells that are too long, and fails when there is one.
"""

import argparse
import ast
import importlib.util
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

COMPOUND = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.FunctionDef, ast.ClassDef)
STAGE = re.compile(r"(\d_|v\d+\w*_).*|comparison|experiments")
LONGEST = 40  # lines of an exported cell
OTHERS = ("fastcore", "nbdev", "execnb")  # packages that nbdev exports as well
MARK = re.compile(r"^# %% (?!auto)(.*)\n", re.MULTILINE)  # above each exported cell; `auto` is nbdev's own
HABITS = (".pre-commit-config.yaml", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CITATION.cff")


def sources(notebook: Path) -> list[tuple[str, str, dict]]:
    """Kind, text and metadata of each cell."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [(cell["cell_type"], "".join(cell["source"]), cell.get("metadata", {})) for cell in cells]


def notebooks(root: Path) -> list[Path]:
    """All notebooks that are source."""
    return sorted(p for p in (root / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)


def modules(root: Path) -> list[Path]:
    """All exported modules."""
    return sorted(p for p in (root / "drg_lib").rglob("*.py") if p.name not in ("_modidx.py", "__init__.py"))


def trees(root: Path) -> Iterator[ast.Module]:
    """The syntax trees of modules, tests and benchmarks."""
    for path in [*modules(root), *(root / "tests").rglob("*.py"), *(root / "benchmarks").rglob("*.py")]:
        yield ast.parse(path.read_text(encoding="utf-8"))


class Cell(NamedTuple):
    """An exported cell that defines something, and how long it is."""

    place: str  # its first definition, and the notebook that nbdev names
    whole: int  # all its lines
    code: int  # those that are no docstring, comment or empty line


def exported_cells(module: Path) -> Iterator[Cell]:
    """The exported cells of a module that define something, by the marks that nbdev leaves."""
    parts = MARK.split(module.read_text(encoding="utf-8"))[1:]
    for mark, text in zip(parts[::2], parts[1::2]):
        text = text.split("\n# %% auto", 1)[0].strip("\n")
        tree = ast.parse(text)
        if all(isinstance(node, ast.Import | ast.ImportFrom) for node in tree.body):
            continue
        lines = text.splitlines()
        name = next((node.name for node in tree.body if hasattr(node, "name")), lines[0])
        notebook = mark.split("#")[0].strip().replace("../", "")
        yield Cell(f"{notebook}: {name}", len(lines), len(lines) - len(prose_lines(tree, lines)))


def package_cells(name: str) -> list[Cell]:
    """The exported cells of an installed package, formatted as ours are; none where it is not there."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return []
    with tempfile.TemporaryDirectory() as folder:
        for path in Path(spec.origin).parent.rglob("*.py"):
            if MARK.search(path.read_text(encoding="utf-8")):
                shutil.copy(path, folder)
        ruff = [
            sys.executable,
            "-m",
            "ruff",
            "format",
            "--quiet",
            "--isolated",
            "--line-length",
            "110",
            folder,
        ]
        subprocess.run(ruff, check=True)
        return [cell for path in sorted(Path(folder).glob("*.py")) for cell in exported_cells(path)]


def own_cells(root: Path) -> list[Cell]:
    """The exported cells of a checkout."""
    return [cell for path in modules(root) for cell in exported_cells(path)]


def prose_lines(tree: ast.Module, lines: list[str]) -> set[int]:
    """The numbers of the lines that are docstrings, comments or empty."""
    prose = {n for n, line in enumerate(lines, 1) if not line.strip() or line.strip().startswith("#")}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            text = node.body[0]
            prose |= set(range(text.lineno, text.end_lineno + 1))
    return {n for n in prose if n <= len(lines)}


def one_line_compounds(root: Path) -> int:
    """Statements such as `if x: y`."""
    nodes = (node for tree in trees(root) for node in ast.walk(tree) if isinstance(node, COMPOUND))
    return sum(node.body[0].lineno == node.lineno for node in nodes)


def annotated(root: Path) -> tuple[int, int]:
    """Functions all of whose arguments are annotated, and all functions that have arguments."""
    typed = total = 0
    for path in modules(root):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                names = [a for a in node.args.args + node.args.kwonlyargs if a.arg not in ("self", "cls")]
                total += bool(names)
                typed += bool(names) and all(a.annotation for a in names)
    return typed, total


def hidden_imports(root: Path) -> int:
    """Imports of the project's own modules inside functions."""
    return sum(
        isinstance(inner, ast.ImportFrom) and (inner.level > 0 or (inner.module or "").startswith("drg_lib"))
        for path in modules(root)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        for inner in ast.walk(node)
    )


def law(root: Path) -> str:
    """What import-linter says."""
    tool = Path(sys.executable).with_name("lint-imports")
    if "importlinter" not in (root / "pyproject.toml").read_text(encoding="utf-8"):
        return "not kept by a tool"
    done = subprocess.run([tool], cwd=root, capture_output=True, text=True)
    return (re.findall(r"Contracts: .*", done.stdout) or ["cannot be read"])[0].rstrip(".")


def parameter_places(root: Path) -> dict[str, tuple[int, int]]:
    """For each stage's notebook the place of its parameters among the code cells, and its number of cells."""
    places = {}
    for notebook in notebooks(root):
        if not STAGE.fullmatch(notebook.stem):
            continue
        cells = sources(notebook)
        code = [meta for kind, text, meta in cells if kind == "code" and "default_exp" not in text]
        tagged = [n for n, meta in enumerate(code, 1) if "parameters" in meta.get("tags", [])]
        places[notebook.stem] = (tagged[0] if tagged else 0, len(cells))
    return places


def long_lines(root: Path) -> tuple[float, int]:
    """The share of notebook lines of code over 120 characters, and the longest."""
    lengths = [
        len(line)
        for notebook in notebooks(root)
        for kind, text, _ in sources(notebook)
        if kind == "code"
        for line in text.splitlines()
    ]
    return sum(length > 120 for length in lengths) / len(lengths), max(lengths)


def percentile(values: list[int], share: float) -> int:
    """The value below which a share of the values lies."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def rows(root: Path) -> Iterator[tuple[str, str, str]]:
    """What is measured, what it is here, and what the best of the field have."""
    rooms = {p.name: len(list(p.glob("*.ipynb"))) for p in (root / "nbs").iterdir() if p.is_dir()}
    cells, others = own_cells(root), {name: package_cells(name) for name in OTHERS}
    typed, total = annotated(root)
    share, longest = long_lines(root)
    dvc = (root / "dvc.yaml").read_text(encoding="utf-8")
    paths = re.findall(r"drg_lib/[\w/]+\.py", dvc)
    places = parameter_places(root)
    late = [name for name, (place, _) in places.items() if place > 1]
    most = max(places, key=lambda name: places[name][1])
    yield "folders of nbs, notebooks in the largest", f"{len(rooms)}, {max(rooms.values())}", "rooms (kedro)"
    yield "import contracts", law(root), "0 broken, kept by import-linter"
    yield "own modules imported inside functions", f"{hidden_imports(root)}", "0 to break a circle"
    for title, size in (
        ("exported cell, median and 90th percentile", "whole"),
        ("  its lines of code", "code"),
    ):
        field = ", ".join(f"{name} {middle(sizes(those, size))}" for name, those in others.items() if those)
        yield title, f"{middle(sizes(cells, size))}, longest {max(sizes(cells, size))}", field
    yield (
        f"exported cells over {LONGEST} lines",
        f"{len(too_long(cells))} of {len(cells)}",
        "0, kept by make check",
    )
    yield "one-line compound statements", f"{one_line_compounds(root)}", "mlforecast 0"
    yield "notebook lines over 120 characters, longest", f"{share:.1%}, {longest}", "mlforecast 0.3 %"
    yield "functions with annotated arguments", f"{typed} of {total}", "mlforecast 243 of 454"
    yield (
        "dvc.yaml: module paths, longest line",
        f"{len(paths)}, {max(map(len, dvc.splitlines()))}",
        "one item a line",
    )
    yield "stages whose parameters are not the first cell", f"{len(late)} of {len(places)}", "0 (papermill)"
    yield "largest stage notebook", f"{places[most][1]} cells ({most})", "20 to 45"
    yield "habits", f"{sum((root / name).is_file() for name in HABITS)} of {len(HABITS)}", "all (calkit)"


def sizes(cells: list[Cell], size: str) -> list[int]:
    """One size of each cell: `whole` or `code`."""
    return [getattr(cell, size) for cell in cells]


def middle(values: list[int]) -> str:
    """Median and 90th percentile of some sizes."""
    return f"{statistics.median(values):.0f} and {percentile(values, 0.9)}"


def too_long(cells: list[Cell]) -> list[Cell]:
    """The cells that are longer than an exported cell may be."""
    return [cell for cell in cells if cell.whole > LONGEST]


def check(root: Path) -> None:
    """Name the exported cells that are too long; exit status 1 when there is one."""
    if found := too_long(own_cells(root)):
        lines = "\n".join(f"  {cell.place}: {cell.whole} lines" for cell in found)
        sys.exit(f"Exported cells of more than {LONGEST} lines:\n{lines}\nRemedy: make two of one.")
    print(f"No exported cell has more than {LONGEST} lines")


def main() -> None:
    """`python tools/house.py --help`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", default=Path(__file__).resolve().parents[1], type=Path)
    parser.add_argument("--check", action="store_true", help="only check the length of exported cells")
    given = parser.parse_args()
    if given.check:
        check(given.folder)
        return
    table = list(rows(given.folder))
    widths = [max(len(row[column]) for row in table) for column in range(3)]
    for row in table:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())


if __name__ == "__main__":
    main()
