"""Options that several commands share, each declared once; a field's docstring is its help text.

Every option can also come from the environment (``--path-col`` as ``ASSAY_PATH_COL``) or from ``assay.toml``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter, Token
from cyclopts.validators import Number

from assay.data.files import USUAL
from assay.data.place import Place, place_of
from assay.errors import UsageError
from assay.text import cut

if TYPE_CHECKING:
    from assay.data.dataset import ReadOptions
    from assay.pipeline.options import RunOptions
    from assay.scale.engine import Engine

SKIPPED = 4
"""Exit code under ``--strict``: done, but images were skipped."""

UNITS = {"s": 1, "m": 60, "h": 3600}
"""Seconds in each unit of a time."""

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


def _seconds(_: Any, tokens: Sequence[Token]) -> float:
    text = tokens[0].value
    number, unit = (text[:-1], text[-1]) if text[-1:] in UNITS else (text, "s")
    try:
        seconds = float(number) * UNITS[unit]
    except ValueError:
        seconds = 0.0  # refused below, in the same words
    if not 0 < seconds < float("inf"):  # float() reads "inf" and "nan" too
        raise UsageError(f"--time-limit: expected a time above 0 such as 90s, 20m or 1.5h, got {text!r}")
    return seconds


def _place(_: Any, tokens: Sequence[Token]) -> Place:
    return place_of(tokens[0].value)


def _check_class_map(_: Any, pairs: Sequence[str]) -> None:
    for pair in pairs:
        if "=" not in pair:
            raise UsageError(f"--class-map: expected FROM=TO, got {cut(pair)!r}")


Words = Annotated[tuple[str, ...], Parameter(parse=False)]
"""The words on the command line; ``app.run_app`` passes them."""

OUT = Parameter(name=("--out", "-o"))
Out = Annotated[Path | None, OUT]

Images = Annotated[
    Path,
    Parameter(help="A folder, zip, tar or Parquet file of images, or one image."),
]
PLACE = Parameter(converter=_place, accepts_keys=False)
SomeImages = Annotated[
    Place | None,
    PLACE,
    Parameter(
        name="IMAGES",
        help="A folder, zip, tar or Parquet file of images, or one image; also as a URL, such as "
        "s3://bucket/images. With --features they are only shown, and may be left out.",
    ),
]
Features = Annotated[
    Path | None,
    Parameter(
        help="Features in place of images, one row each: a .npy file whose row i belongs to line i of the "
        "label file, or Parquet with a column of lists or columns of numbers, and names in a column 'file'."
    ),
]
Model = Annotated[Path, Parameter(help="A run folder, a model folder, or a file written by assay export.")]
Run = Annotated[Path, Parameter(help="The folder of a finished run.")]
RunImages = Annotated[
    Place | None, PLACE, Parameter(help="Where the run's images are now, if they were moved.")
]
RunData = Annotated[
    Place | None,
    PLACE,
    Parameter(help="Where the run's images, or its features, are now, if they were moved."),
]

RunFolder = Annotated[
    Path,
    Parameter(name=("--out", "-o"), help="Folder for all results. The same command resumes there."),
]
Overwrite = Annotated[bool, Parameter(help="Replace the results in the folder.")]
Strict = Annotated[bool, Parameter(help="Exit with code 4 if an image was skipped.")]
Json = Annotated[bool, Parameter(name="--json", help="Print JSON instead of a table.")]
Quiet = Annotated[
    bool, Parameter(name=("--quiet", "-q"), help="Only errors and security warnings on stderr.")
]
ExcelSafe = Annotated[
    bool, Parameter(help="In CSV, put a quote before text that a spreadsheet would run as a formula.")
]
Workers = Annotated[
    int,
    Parameter(
        help="Parallel workers that decode images and fit heads. The number of CPU cores is best.",
        validator=Number(gte=1),
    ),
]
Cache = Annotated[
    Path | None,
    Parameter(help="Folder for features and measured speeds. Without it: the user's cache folder."),
]
Seed = Annotated[
    int,
    Parameter(
        help="The same seed, machine, versions and cache give the same bytes.", validator=Number(gte=0)
    ),
]
Backbone = Annotated[
    str | None,
    Parameter(
        help="The pretrained network: tf_efficientnet_lite0, 1 or 2 (no download), tiny (no torch), or any "
        "name that timm has. Without it: Lite2; Lite0 for demo and for model-1 and model-2 of compare."
    ),
]
Weights = Annotated[Path | None, Parameter(help="A safetensors file with weights for the backbone.")]
Size = Annotated[
    int | None,
    Parameter(
        help="Side, in pixels, to which images are resized. Without it: 160; 96 for demo, 128 for model-1 "
        "and model-2 of compare.",
        validator=Number(gte=16, lte=1024),
    ),
]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16"],
    Parameter(help="Number format of the backbone. auto: the faster one here, measured once."),
]
PathColumn = Annotated[
    str | None,
    Parameter(name="--path-col", help="Column of file names, or of the images themselves in Parquet."),
]
LabelColumn = Annotated[str | None, Parameter(name="--label-col", help="Column of labels.")]
GroupColumn = Annotated[
    str | None,
    Parameter(
        name="--group-col",
        help="Column of the patient, video or scene of an image. Images of one group are never split, and "
        "intervals are by groups.",
    ),
]
Match = Annotated[
    Literal["path", "name"],
    Parameter(
        help="name: a label whose path names no image is of the image with the same file name, whatever its "
        "folder, case and ending."
    ),
]
StripPrefix = Annotated[
    str | None,
    Parameter(help="Taken off each path of the label files, such as a folder of another machine."),
]
ClassMap = Annotated[
    tuple[str, ...],
    Parameter(
        help="Read the label FROM as the class TO, or as missing if TO is empty. Repeatable.",
        metavar="FROM=TO",
        validator=_check_class_map,
    ),
]
NormalizeLabels = Annotated[
    bool, Parameter(help="Treat labels that differ only in case, spaces or Unicode form as one class.")
]
FollowSymlinks = Annotated[bool, Parameter(help="Follow symbolic links that leave the image folder.")]
MaxPixels = Annotated[
    int, Parameter(help="Width times height of the largest image that is used.", validator=Number(gte=1))
]

Port = Annotated[int, Parameter(help="Port. 0: any free one.", validator=Number(gte=0, lte=65535))]
Host = Annotated[str, Parameter(help="Address of this machine to listen on.")]
AllowRemote = Annotated[
    bool, Parameter(help="Allow connections from other machines. They are not encrypted.")
]

ClassPrior = Annotated[
    str | None,
    Parameter(
        help="How frequent the classes are among these images, if not as in training: uniform, a table with "
        "the columns class and share, or estimate, from the images themselves.",
        metavar="uniform|estimate|FILE",
    ),
]

AllSystems = Annotated[bool, Parameter(help="Use every model in the folder of an assay compare.")]


@Parameter(name="*", group=Group("Image options", sort_key=2))
@dataclass(frozen=True)
class ImageOptions:
    """How images are found, and which are used."""

    path_column: PathColumn = None
    follow_symlinks: FollowSymlinks = False
    truncated: Literal["skip", "accept"] = "skip"
    """Images whose file is cut short: skip them, or use the part that is there."""
    max_pixels: MaxPixels = USUAL.max_pixels

    def read_options(self, **labels: Any) -> "ReadOptions":
        """The same for ``data``, with the fields of ``LabelOptions``, if there are labels."""
        from assay.data.dataset import ReadOptions

        # The class may have "=" in its name, what is read as it may not.
        pairs = dict(pair.split("=", 1) for pair in labels.pop("class_map", ()))
        return ReadOptions(**vars(self), **labels, class_map=pairs)


@Parameter(name="*", group=Group("Label options", sort_key=1))
@dataclass(frozen=True)
class LabelOptions:
    """Where the labels are and how to read them."""

    noisy: Annotated[
        Path | None,
        Parameter(
            help="Noisy labels of all images: CSV, JSON lines or Parquet. Without it: a metadata file in the "
            "folder, a label column beside the images in Parquet, or class folders."
        ),
    ] = None
    annotations: Annotated[
        Path | None,
        Parameter(
            help="In place of --noisy, the labels of several annotators: a table with columns such as file, "
            "annotator, label and a row for each label that somebody gave."
        ),
    ] = None
    trusted: Path | None = None
    """Labels that you checked, for some images picked at random. Without them nothing is measured."""
    classes: Path | None = None
    """All class names, one a line; where labels are integers, the first line is class 0."""
    label_column: LabelColumn = None
    trusted_label_column: Annotated[str | None, Parameter(name="--trusted-label-col")] = None
    """Column of labels in the trusted file, if it has another name."""
    group_column: GroupColumn = None
    match: Match = "path"
    strip_prefix: StripPrefix = None
    duplicates: Literal["refuse", "vote"] = "refuse"
    """What to do if one image has several different noisy labels."""
    class_map: ClassMap = ()
    allow_new_classes: bool = False
    """Accept trusted labels of classes that no noisy label has."""
    normalize_labels: NormalizeLabels = False
    allow_empty_classes: bool = False
    """Accept class folders without images."""

    def check_trusted(self) -> None:
        """UsageError without trusted labels."""
        if self.trusted is None:
            raise UsageError(
                "expected --trusted FILE with labels that you checked, got none; "
                "200 to 500 labels of randomly chosen images are enough"
            )


@Parameter(name="*", group=Group("Label options", sort_key=1))
@dataclass(frozen=True)
class NewLabelOptions:
    """How to read the labels of images that a run did not see."""

    label_column: LabelColumn = None
    match: Match = "path"
    strip_prefix: StripPrefix = None
    class_map: ClassMap = ()
    normalize_labels: NormalizeLabels = False


@Parameter(name="*", group=Group("Training options", sort_key=3))
@dataclass(frozen=True)
class TrainingOptions:
    """How to train and how to measure."""

    preset: Literal["fast", "balanced", "best"] = "fast"
    """fast: frozen features and a classifier head. balanced, best: fine-tune a network."""
    backbone: Backbone = None
    weights: Weights = None
    size: Size = None
    dtype: Dtype = "auto"
    holdout: Annotated[int | None, Parameter(validator=Number(gte=0))] = None
    """Trusted images kept for the final evaluation. Without it: a fifth of them, at most 2,000."""
    holdout_split: Literal["stratified", "notebook"] = "stratified"
    """notebook: the same 2,000 images that the notebook held out."""
    folds: Annotated[int, Parameter(validator=Number(gte=3))] = 5
    """Folds of the cross-validation."""
    threshold: Annotated[float, Parameter(validator=Number(gte=0, lte=1))] = 0.8
    """Labels with a lower confidence are marked unsure."""
    seed: Seed = 0
    student: str | None = None
    """With balanced or best: the network to fine-tune, by its timm name."""
    student_size: Annotated[int | None, Parameter(validator=Number(gte=32, lte=1024))] = None
    """With balanced or best: side of its images in pixels. Smaller is faster, larger is more accurate."""
    time_limit: Annotated[float | None, Parameter(converter=_seconds, metavar="TIME")] = None
    """With balanced or best: train for as many epochs as fit into 90s, 20m or 1.5h."""
    refit: bool = False
    """After measuring, train again on everything, the holdout too. The figures stay those of before."""
    balanced: bool = False
    """For rare classes: the model predicts as if all classes were equally frequent (not a preset)."""
    workers: Workers = 2
    cache: Cache = None

    def run_options(self, read: "ReadOptions") -> "RunOptions":
        """The same for ``pipeline``."""
        from assay.pipeline.options import RunOptions, default_cache

        # The others keep their None, which has a meaning there.
        chosen = {name: value for name, value in vars(self).items() if value is not None}
        return RunOptions(read=read, **(chosen | {"cache": self.cache or default_cache()}))


@Parameter(name="*", group=Group("Options for very many images", sort_key=4))
@dataclass(frozen=True)
class EngineOptions:
    """Who does the work on data sets that one process should not hold."""

    engine: Literal["local", "ray"] | None = None
    """Work in shards, with memory that does not grow with the images: in processes here, or by Ray."""
    parallel: Annotated[int | None, Parameter(validator=Number(gte=1))] = None
    """Processes that embed at the same time, of --workers cores each. Without it: for all cores."""
    gpus: Annotated[float, Parameter(validator=Number(gte=0))] = 0.0
    """With ray: GPUs of each process."""
    address: str | None = None
    """With ray: the cluster, such as auto. Without it, one is started on this machine for this command."""
    sample: Annotated[int, Parameter(validator=Number(gte=1000))] = 100_000
    """Images to learn from besides the trusted ones, picked at random."""

    def chosen(self, workers: int) -> "Engine | None":
        """The engine; None for a run in this process."""
        from assay.scale.engine import Engine

        if self.engine is None:
            if self != EngineOptions():
                raise UsageError("--parallel, --gpus, --address, --sample: expected with --engine, got none")
            return None
        return Engine(self.engine, workers, self.gpus, self.parallel, self.address)


def check_one_place(images: Place | None, features: Path | None) -> Place:
    """The place of what is predicted; UsageError for none or two."""
    place = images if features is None else features
    if place is None or None not in (images, features):
        got = "neither" if place is None else "both"
        raise UsageError(f"expected IMAGES or --features FILE, got {got}; a model takes one of them")
    return place


def flags(words: Sequence[str]) -> dict[str, None]:
    """The long options among words of the command line, in order, without values."""
    # The environment and assay.toml set options of many commands: they are no error where one has no use.
    return {word.split("=")[0]: None for word in words if word.startswith("--")}


def check_file(target: Path, flag: str = "--out") -> None:
    """UsageError if ``target`` is a folder, or if its own folder is missing or cannot be read."""
    try:  # a name may be too long, or its folder closed to us
        is_folder, has_place = target.is_dir(), target.parent.is_dir()
    except OSError as error:
        raise UsageError(f"{flag}: cannot write {target}: {error.strerror}; choose another place") from error
    if is_folder:
        raise UsageError(f"{flag}: expected a file, got the folder {target}; name a file in it")
    if not has_place:
        raise UsageError(f"{flag}: expected a file in an existing folder, got {target}; make its folder")


def check_apart(target: Path, *read: Place, flag: str = "--out") -> None:
    """UsageError if writing ``target`` would destroy what the command reads, or a file of a run."""
    if not target.exists():
        return
    from assay.data.files import IMAGE_EXTENSIONS, extension

    for place in read:
        # samefile: the same file may be named through a link.
        if isinstance(place, Path) and place.exists() and target.samefile(place):
            raise UsageError(f"{flag}: expected another file than the input, got {target}")
    folder = target.parent
    in_run = target.name in RUN_FILES and any((folder / name).is_file() for name in RUNS)
    if in_run or (folder / "manifest.json").is_file():
        raise UsageError(f"{flag}: {target} belongs to the run or model in {folder}; choose another name")
    if extension(target.name) in IMAGE_EXTENSIONS:
        raise UsageError(f"{flag}: expected a file for rows, got the image {target}; images stay as they are")
