"""What the tests share: the project's root, copies of it, copies built by the pipeline, real extracts."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import CodeType, FunctionType

import pytest
import yaml
from filelock import FileLock

# Threads that wait for one another sleep: beside a second test process they would spin for nothing.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

ROOT = Path(__file__).resolve().parents[1]
EXTRACTS = ROOT.parent / "shared" / "data"
PARTS = [
    "nbs",
    "drg_lib",
    "configs",
    "dvc.yaml",
    "params.yaml",
    "settings.ini",
    "setup.py",
    "README.md",
    "Makefile",
    "docs",
    "LICENSE",
    ".dvcignore",
    ".gitignore",
    "pytest.ini",
]
# No test reads the figures that these draws, shuffles and rows make: a build takes fewer than a run.
SMALL = {"n_bootstrap": 100, "n_repeats": 1, "sample_rows": 200}

sys.modules.setdefault("rfc3987_syntax", None)  # see drg_lib.reporting.scraps.skip_slow_import


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


def extract(name: str) -> Path:
    """The path of a real extract, or a skip that says why."""
    path = EXTRACTS / name
    if not path.is_file():
        pytest.skip(f"the real extract ../shared/data/{name} is not here")
    return path


def environment(project: Path) -> dict[str, str]:
    """The environment in which a copy of the project runs its own code."""
    ours = ("DRG_LIB_ROOT", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    env = {k: v for k, v in os.environ.items() if k not in ours}
    return env | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}",
        "PYTHONPATH": str(project),
        "DVC_NO_ANALYTICS": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "t",
        "GIT_AUTHOR_EMAIL": "t@localhost",
        "GIT_COMMITTER_NAME": "t",
        "GIT_COMMITTER_EMAIL": "t@localhost",
    }


def run(
    project: Path,
    *command: object,
    check: bool = True,
    timeout: float = 900,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command in a copy of the project; a failure shows its output."""
    done = subprocess.run(
        [str(c) for c in command],
        cwd=project,
        env=environment(project) | (env or {}),
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if check:
        assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done


def copy_project(destination: Path) -> Path:
    """A copy of the project's files, without what the pipeline made."""
    ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "*.pyc")
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, destination / part, ignore=ignore)
        elif source.exists():
            destination.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, destination / part)
    for folder in ("data", "runs", "results"):
        (destination / folder).mkdir(exist_ok=True)
    return destination


def edit(path: Path, **values: object) -> None:
    """Set keys of a YAML file, keeping a package header."""
    content = yaml.safe_load(path.read_text()) | values
    header = "".join(
        line for line in path.read_text().splitlines(keepends=True) if line.startswith("# @package")
    )
    path.write_text(header + yaml.safe_dump(content, sort_keys=False))


def git_project(folder: Path, models: Iterable[str] = ("ridge", "catboost")) -> Path:
    """A copy of the project under git and DVC: small synthetic source, two models, two trials each."""
    project = copy_project(folder)
    shutil.copytree(
        ROOT / ".dvc", project / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp", "config.local")
    )
    edit(project / "configs/data_sources/synthetic.yaml", scale=0.01)
    edit(project / "configs/ml_experiments/quick.yaml", n_trials=2)
    edit(project / "configs/evaluation/base.yaml", **SMALL)
    edit(project / "params.yaml", models=list(models))
    commit(project, "start", "init")
    return project


def commit(project: Path, message: str, *first: str) -> None:
    if first:
        run(project, "git", *first, "-q")
    run(project, "git", "add", "-A")
    run(project, "git", "commit", "-qm", message)


BUILDS = {"synthetic_build", "medicare_build"}
WHOLE_CHAINS = {
    "synthetic",
    "medicare",
    "v1",
    "whole",
}  # fixtures that run every step on a panel, or tune a model
TESTS = Path(__file__).parent

# Files that build something or take long, the longest first: no process waits for another's build or stays
# alone at the end. The two builds begin side by side.
FIRST = [
    "test_real_data.py",
    "test_pipeline.py",
    "test_lab.py",
    "test_guide.py",
    "test_site.py",
    "test_modeling.py",
    "test_leakage.py",
    "test_storage.py",
]


def names_in(code: CodeType) -> Iterator[str]:
    """The global and attribute names that a function uses, those of functions inside it included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_in(constant)


def starts_a_program(function: Callable, seen: set[Callable]) -> bool:
    """Whether a function, or one of the tests' own that it calls, starts another program or a kernel."""
    seen.add(function)
    used = [function.__globals__.get(name) for name in names_in(function.__code__)]
    if any(value is subprocess or getattr(value, "__name__", "") == "NotebookClient" for value in used):
        return True
    own = [
        v for v in used if isinstance(v, FunctionType) and Path(v.__code__.co_filename).is_relative_to(TESTS)
    ]
    return any(value not in seen and starts_a_program(value, seen) for value in own)


def is_slow(item: pytest.Item) -> bool:
    """Whether a test stands in a folder `slow`, takes a build or starts a program, also by a fixture."""
    if "slow" in item.path.parts or (BUILDS | WHOLE_CHAINS) & set(item.fixturenames):
        return True
    fixtures = [f.func for found in item._fixtureinfo.name2fixturedefs.values() for f in found]
    return any(
        starts_a_program(function, set())
        for function in (item.function, *fixtures)
        if isinstance(function, FunctionType) and Path(function.__code__.co_filename).is_relative_to(TESTS)
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))
    for item in filter(is_slow, items):
        item.add_marker("build")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`-m "not build"` does not even import what stands in a folder `slow`."""
    return True if config.option.markexpr == "not build" and collection_path.name == "slow" else None


def build_once(tmp_path_factory: pytest.TempPathFactory, name: str, *choices: str) -> Path:
    """A project whose pipeline ran, made by the first process that asks; `repro.log` is what dvc printed."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / f"build-{name}"
    with FileLock(f"{folder}.lock"):
        if not (folder / "repro.log").is_file():
            if folder.exists():
                pytest.fail(f"the build in {folder} failed in another test process")
            project = git_project(folder)
            if choices:
                run(project, "drg", "choose", *choices)
            done = run(project, "dvc", "repro", timeout=1800)
            commit(project, "built")
            (folder / "repro.log").write_text(done.stdout)
    return folder


@pytest.fixture(scope="session")
def synthetic_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after `dvc repro` on a small synthetic source. To change it, take a `copy_build`."""
    return build_once(tmp_path_factory, "synthetic")


@pytest.fixture(scope="session")
def medicare_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after `make run SOURCE=medicare_csv DATA=...`. To change it, take a `copy_build`."""
    return build_once(
        tmp_path_factory,
        "medicare",
        "data_sources=medicare_csv",
        f"data={extract('medicare_ny_2011_2019.csv.gz')}",
    )


def copy_build(build: Path, folder: Path) -> Path:
    """A private copy of a build, DVC's cache and its records of what is up to date included."""
    shutil.copytree(build, folder, symlinks=True)
    return folder
