"""Files that a command writes: refused before anything is computed for them."""

from pathlib import Path

from assay._errors import UsageError


def check_file(target: Path) -> None:
    """UsageError if ``target`` is a folder, or its folder is not there."""
    if target.is_dir():
        raise UsageError(f"--out: expected a file, got the folder {target}; name a file in it")
    if not target.parent.is_dir():
        raise UsageError(f"--out: expected a file in a folder that is there, got {target}; make its folder")
