"""What the tests share: the project's root, copies of it, and the real extracts beside it."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXTRACTS = ROOT.parent / "shared" / "data"
PARTS = ["nbs", "drg_lib", "configs", "dvc.yaml", "params.yaml", "settings.ini", "setup.py", "README.md", "Makefile", ".dvcignore", ".gitignore", "pytest.ini"]

sys.modules.setdefault("rfc3987_syntax", None)  # see drg_lib.core.scraps.skip_slow_import


@pytest.fixture(scope="session")
def root():
    return ROOT


def extract(name):
    """The path of a real extract, or a skip that says why."""
    path = EXTRACTS / name
    if not path.is_file(): pytest.skip(f"the real extract ../shared/data/{name} is not here")
    return path


def environment(project):
    """The environment in which a copy of the project runs its own code."""
    env = {k: v for k, v in os.environ.items() if k not in ("DRG_LIB_ROOT", "PYTHONPATH")}
    return env | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}", "PYTHONPATH": str(project), "DVC_NO_ANALYTICS": "1",
                  "GIT_CONFIG_GLOBAL": os.devnull, "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@localhost", "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@localhost"}


def run(project, *command, check=True, timeout=900, env=None):
    """Run a command in a copy of the project; a failure shows its output."""
    done = subprocess.run([str(c) for c in command], cwd=project, env=environment(project) | (env or {}), capture_output=True, text=True, timeout=timeout)
    if check: assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done


def copy_project(destination):
    """A copy of the project's files, without what the pipeline made."""
    ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "*.pyc")
    for part in PARTS:
        source = ROOT / part
        if source.is_dir(): shutil.copytree(source, destination / part, ignore=ignore)
        elif source.exists():
            destination.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, destination / part)
    for folder in ("data", "runs", "results"): (destination / folder).mkdir(exist_ok=True)
    return destination
