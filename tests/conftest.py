"""What the tests share: the project's root, copies of it, copies built by the pipeline, and the real extracts beside it."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

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

sys.modules.setdefault("rfc3987_syntax", None)  # see drg_lib.reporting.scraps.skip_slow_import


@pytest.fixture(scope="session")
def root():
    return ROOT


def extract(name):
    """The path of a real extract, or a skip that says why."""
    path = EXTRACTS / name
    if not path.is_file():
        pytest.skip(f"the real extract ../shared/data/{name} is not here")
    return path


def environment(project):
    """The environment in which a copy of the project runs its own code."""
    env = {k: v for k, v in os.environ.items() if k not in ("DRG_LIB_ROOT", "PYTHONPATH")}
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


def run(project, *command, check=True, timeout=900, env=None):
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


def copy_project(destination):
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


def edit(path, **values):
    """Set keys of a YAML file, keeping a package header."""
    content = yaml.safe_load(path.read_text()) | values
    header = "".join(
        line for line in path.read_text().splitlines(keepends=True) if line.startswith("# @package")
    )
    path.write_text(header + yaml.safe_dump(content, sort_keys=False))


def git_project(folder, models=("ridge", "catboost")):
    """A copy of the project under git and DVC: small synthetic source, two models, two trials each."""
    project = copy_project(folder)
    shutil.copytree(
        ROOT / ".dvc", project / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp", "config.local")
    )
    edit(project / "configs/data_sources/synthetic.yaml", scale=0.01)
    edit(project / "configs/ml_experiments/quick.yaml", n_trials=2)
    edit(project / "params.yaml", models=list(models))
    commit(project, "start", "init")
    return project


def commit(project, message, *first):
    if first:
        run(project, "git", *first, "-q")
    run(project, "git", "add", "-A")
    run(project, "git", "commit", "-qm", message)


# The files that build something or take long, the longest first, so that no test process waits for another's build or stays alone at the end.
FIRST = [
    "test_real_data.py",
    "test_pipeline.py",
    "test_guide.py",
    "test_modeling.py",
    "test_lab.py",
    "test_site.py",
    "test_leakage.py",
    "test_storage.py",
]


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))


def build_once(tmp_path_factory, name, *choices):
    """A project whose pipeline ran, made by the first test process that asks; `repro.log` is what dvc said."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / f"build-{name}"
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "repro.log").is_file():
            if folder.exists():
                pytest.fail(f"the build in {folder} failed in another test process")
            project = git_project(folder)
            if choices:
                run(project, "drg-choose", *choices)
            done = run(project, "dvc", "repro", timeout=1800)
            commit(project, "built")
            (folder / "repro.log").write_text(done.stdout)
    return folder


@pytest.fixture(scope="session")
def synthetic_build(tmp_path_factory):
    """The project after `dvc repro` on a small synthetic source. Look, do not change: `copy_build` gives a copy."""
    return build_once(tmp_path_factory, "synthetic")


@pytest.fixture(scope="session")
def medicare_build(tmp_path_factory):
    """The project after `make run SOURCE=medicare_csv DATA=...`. Look, do not change: `copy_build` gives a copy."""
    return build_once(
        tmp_path_factory,
        "medicare",
        "data_sources=medicare_csv",
        f"data={extract('medicare_ny_2011_2019.csv.gz')}",
    )


def copy_build(build, folder):
    """A private copy of a build, DVC's cache and its records of what is up to date included."""
    shutil.copytree(build, folder, symlinks=True)
    return folder
