"""What pre-commit asks before a commit, where no program of the environment asks it.

`python tools/hooks.py exported` exports the notebooks and names modules that git does not know yet. Git shows
the modules that changed. `python tools/hooks.py small FILE ...` names files that are larger than 500 kB.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 500_000  # bytes


def exported() -> None:
    """Export the notebooks, and fail when that made a module which is not in git."""
    subprocess.run([Path(sys.executable).with_name("nbdev_export")], cwd=ROOT, check=True)
    listing = ["git", "ls-files", "--others", "--exclude-standard", "drg_lib"]
    unknown = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    if unknown:
        sys.exit(f"Made from notebooks and not in git:\n{unknown}Remedy: git add drg_lib")


def small(names: list[str]) -> None:
    """Fail when one of the files is too large for git."""
    sizes = {name: Path(name).stat().st_size for name in names if Path(name).is_file()}
    large = "".join(f"{name}: {size:,} bytes\n" for name, size in sizes.items() if size > LARGEST)
    if large:
        sys.exit(f"{large}Remedy: keep data with DVC (`dvc add`); make a picture smaller.")


if __name__ == "__main__":
    if sys.argv[1] == "exported":
        exported()
    else:
        small(sys.argv[2:])
