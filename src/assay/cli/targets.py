"""Files that a command writes: refused before anything is computed for them."""

from pathlib import Path

from assay._errors import UsageError


def check_file(target: Path) -> None:
    """UsageError if ``target`` is a folder, or its folder is not there."""
    if target.is_dir():
        raise UsageError(f"--out: expected a file, got the folder {target}; name a file in it")
    if not target.parent.is_dir():
        raise UsageError(f"--out: expected a file in a folder that is there, got {target}; make its folder")


def check_apart(target: Path, *read: Path) -> None:
    """UsageError if writing ``target`` would destroy what the command reads.

    Parameters
    ----------
    read : files, folders of images, folders of models and of runs
    """
    if not target.exists():
        return
    from assay.data.formats import IMAGE_EXTENSIONS, extension

    within = target.resolve().parent
    for place in read:
        models = [folder for folder in (place, place / "model") if (folder / "manifest.json").is_file()]
        if (place.exists() and target.samefile(place)) or within in [folder.resolve() for folder in models]:
            raise UsageError(f"--out: expected another place than what is read, got {target} in {place}")
    if extension(target.name) in IMAGE_EXTENSIONS:
        raise UsageError(f"--out: expected a file for rows, got the image {target}; images are never changed")
