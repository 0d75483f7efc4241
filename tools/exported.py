"""Check that nbdev_export and nbdev_clean leave no difference in notebooks and modules."""

import filecmp
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("nbs", "drg_lib")
FILES = ("settings.ini", "setup.py", "pyproject.toml")
LEFT_OUT = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")


def sources(folder: Path) -> set[Path]:
    """The notebooks and modules of a checkout, relative to it."""
    found = [
        path for name in FOLDERS for path in (folder / name).rglob("*") if path.suffix in (".py", ".ipynb")
    ]
    return {path.relative_to(folder) for path in found if ".ipynb_checkpoints" not in path.parts}


def differences(copy: Path) -> list[Path]:
    """The files that export and clean write anew in a copy."""
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=LEFT_OUT)
    for name in FILES:
        shutil.copy2(ROOT / name, copy / name)
    for command in ("nbdev_export", "nbdev_clean"):
        subprocess.run([Path(sys.executable).with_name(command)], cwd=copy, check=True)
    before, after = sources(ROOT), sources(copy)
    changed = {path for path in before & after if not filecmp.cmp(ROOT / path, copy / path, shallow=False)}
    return sorted(changed | before ^ after)


def main() -> None:
    """`python tools/exported.py`: exit status 1 where something differs."""
    with tempfile.TemporaryDirectory() as folder:
        changed = differences(Path(folder))
    if changed:
        lines = "\n".join(f"  {path}" for path in changed)
        sys.exit(f"Not as nbdev_export and nbdev_clean leave it:\n{lines}\nRemedy: make format.")
    print("Modules and notebooks are as nbdev_export and nbdev_clean leave them")


if __name__ == "__main__":
    main()
