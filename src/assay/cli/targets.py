"""Files that a command writes: refused before anything is computed for them."""

from pathlib import Path

from assay.errors import UsageError

RUNS = ("run.json", "compare.json")
"""A folder with one of these is a run's or a comparison's."""

PARTS = frozenset(
    f"{name}.{ending}"
    for ending, names in {
        "json": "run compare evaluation noise audit plan search demo review_keys",
        "csv": "labels skipped holdout history compare search audit",
        "sqlite": "decisions",
    }.items()
    for name in names.split()
)
"""What such a folder holds that its other commands read."""


def check_file(target: Path, flag: str = "--out") -> None:
    """UsageError if ``target`` is a folder, its folder is not there, or neither may be looked at.

    Parameters
    ----------
    flag : that named it, for messages
    """
    try:
        is_folder, has_place = target.is_dir(), target.parent.is_dir()
    except OSError as error:
        raise UsageError(f"{flag}: cannot write {target}: {error.strerror}; choose another place") from error
    if is_folder:
        raise UsageError(f"{flag}: expected a file, got the folder {target}; name a file in it")
    if not has_place:
        raise UsageError(f"{flag}: expected a file in a folder that is there, got {target}; make its folder")


def check_apart(target: Path, *read: Path, flag: str = "--out") -> None:
    """UsageError if writing ``target`` would destroy what the command reads, or a part of a run.

    Parameters
    ----------
    target : see ``check_file``
    read : files, folders of images, of models and of runs
    """
    if not target.exists():
        return
    from assay.data.formats import IMAGE_EXTENSIONS, extension

    for place in read:
        if place.exists() and target.samefile(place):
            raise UsageError(f"{flag}: expected another place than what is read, got {target}")
    folder = target.parent
    in_run = target.name in PARTS and any((folder / name).is_file() for name in RUNS)
    if in_run or (folder / "manifest.json").is_file():
        raise UsageError(f"{flag}: {target} is a part of what is in {folder}; choose another name")
    if extension(target.name) in IMAGE_EXTENSIONS:
        raise UsageError(
            f"{flag}: expected a file for rows, got the image {target}; images are never changed"
        )
