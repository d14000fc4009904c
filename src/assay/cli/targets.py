"""Checks of a file that a command will write, made before anything is computed for it."""

from pathlib import Path

from assay.errors import UsageError

RUNS = ("run.json", "compare.json")
"""A folder with one of these is a run's or a comparison's."""

RUN_FILES = frozenset(
    f"{name}.{ending}"
    for ending, names in {
        "json": "run compare evaluation noise audit plan search demo review_keys",
        "csv": "labels image_issues holdout history compare search audit",
        "sqlite": "decisions",
    }.items()
    for name in names.split()
)
"""Files of such a folder that other commands read."""


def check_file(target: Path, flag: str = "--out") -> None:
    """UsageError if ``target`` is a folder, or if its own folder is missing or cannot be read."""
    try:
        is_folder, has_place = target.is_dir(), target.parent.is_dir()
    except OSError as error:
        raise UsageError(f"{flag}: cannot write {target}: {error.strerror}; choose another place") from error
    if is_folder:
        raise UsageError(f"{flag}: expected a file, got the folder {target}; name a file in it")
    if not has_place:
        raise UsageError(f"{flag}: expected a file in an existing folder, got {target}; make its folder")


def check_apart(target: Path, *read: Path, flag: str = "--out") -> None:
    """UsageError if writing ``target`` would destroy what the command reads, or a file of a run."""
    if not target.exists():
        return
    from assay.data.files import IMAGE_EXTENSIONS, extension

    for place in read:
        if place.exists() and target.samefile(place):
            raise UsageError(f"{flag}: expected another file than the input, got {target}")
    folder = target.parent
    in_run = target.name in RUN_FILES and any((folder / name).is_file() for name in RUNS)
    if in_run or (folder / "manifest.json").is_file():
        raise UsageError(f"{flag}: {target} belongs to the run or model in {folder}; choose another name")
    if extension(target.name) in IMAGE_EXTENSIONS:
        raise UsageError(f"{flag}: expected a file for rows, got the image {target}; images stay as they are")
