"""Flags that several commands share, each with its help text, once.

A group of flags is a frozen dataclass, which ``groups.with_flags`` spreads over the command line. Every
flag may also come from the environment, ``--path-col`` as ``ASSAY_PATH_COL``, or from ``assay.toml``.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from assay.cli.values import class_pairs, seconds_of
from assay.data.limits import USUAL
from assay.errors import UsageError

if TYPE_CHECKING:
    from assay.data.dataset import ReadOptions
    from assay.pipeline.options import RunOptions


def flag(name: str, *more: str, help: str, metavar: str | None = None, **limits: Any) -> Any:  # noqa: A002  # typer's word
    """An option that may also come from ``ASSAY_NAME``."""
    variable = "ASSAY_" + name.lstrip("-").upper().replace("-", "_")
    return typer.Option(name, *more, help=help, metavar=metavar, envvar=variable, show_envvar=False, **limits)


Images = Annotated[
    Path, typer.Argument(metavar="IMAGES", help="A folder, zip, tar or Parquet file of images, or an image.")
]
ModelPlace = Annotated[
    Path,
    typer.Argument(metavar="MODEL", help="A run folder, a model folder, or a file of assay export."),
]
FinishedRun = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")]
RunImages = Annotated[
    Path | None,
    typer.Argument(metavar="[IMAGES]", help="Where the images are, if not where they were for the run."),
]
PathColumn = Annotated[
    str | None,
    flag("--path-col", metavar="NAME", help="Column of image names (in Parquet: of the images)."),
]
FollowSymlinks = Annotated[
    bool, flag("--follow-symlinks", help="Symbolic links may leave the folder of images.")
]
Truncated = Annotated[
    Literal["skip", "accept"],
    flag("--truncated", help="Images whose file is cut: skip them, or use what there is."),
]
MaxPixels = Annotated[
    int, flag("--max-pixels", metavar="N", min=1, help="Largest image that is used, width times height.")
]
LabelColumn = Annotated[str | None, flag("--label-col", metavar="NAME", help="Column of labels.")]
ClassMap = Annotated[
    list[str] | None,
    flag("--class-map", metavar="FROM=TO", help="Read a trusted label as another class; repeatable."),
]
NormalizeLabels = Annotated[
    bool, flag("--normalize-labels", help="Labels that differ in case, space or Unicode form are one.")
]
Backbone = Annotated[
    str,
    flag(
        "--backbone",
        metavar="NAME",
        help="tf_efficientnet_lite0, 1 or 2 need no network; tiny needs no torch to embed; or any name "
        "that timm knows.",
    ),
]
Size = Annotated[
    int,
    flag("--size", metavar="PIXELS", min=16, max=1024, help="Side that images are resized to."),
]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16"],
    flag("--dtype", help="Of the backbone; auto takes what is faster here, timed once a machine."),
]
Seed = Annotated[
    int, flag("--seed", metavar="N", min=0, help="Same seed, machine, versions and cache: same bytes.")
]
Workers = Annotated[
    int,
    flag(
        "--workers",
        metavar="N",
        min=1,
        help="Threads that decode images and fit heads; best: the number of cores.",
    ),
]
Cache = Annotated[
    Path | None,
    flag(
        "--cache",
        metavar="FOLDER",
        help="Features, converted weights and measured speeds; by default the user's cache folder.",
    ),
]
Host = Annotated[str, flag("--host", metavar="ADDRESS", help="Address of this machine to listen on.")]
Port = Annotated[
    int, flag("--port", metavar="N", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
]
AllowRemote = Annotated[
    bool, flag("--allow-remote", help="Other machines may reach it; what is sent is not encrypted.")
]
ResultsFolder = Annotated[
    Path,
    flag("--out", "-o", metavar="FOLDER", help="Folder for all results; the same command resumes there."),
]
Overwrite = Annotated[
    bool, flag("--overwrite", help="Replace the results in the folder; after an interrupt, go on.")
]
Strict = Annotated[bool, flag("--strict", help="Exit with 4 if an image had to be skipped.")]
Json = Annotated[bool, flag("--json", help="Print JSON instead of a table.")]
Quiet = Annotated[bool, flag("--quiet", "-q", help="Nothing on stderr but errors and warnings of safety.")]


@dataclass(frozen=True)
class LabelFlags:
    """What the labels are and how to read them."""

    noisy: Annotated[
        Path | None,
        flag(
            "--noisy",
            metavar="FILE",
            help="Noisy labels of all images: CSV, JSON lines or Parquet. Without it: a metadata file in the "
            "folder, a label column beside the images in Parquet, or class folders.",
        ),
    ] = None
    trusted: Annotated[
        Path | None,
        flag("--trusted", metavar="FILE", help="Checked labels of a few images; required."),
    ] = None
    classes: Annotated[
        Path | None,
        flag("--classes", metavar="FILE", help="Class names, one a line, for labels that are integers."),
    ] = None
    path_col: PathColumn = None
    label_col: LabelColumn = None
    trusted_label_col: Annotated[
        str | None,
        flag(
            "--trusted-label-col", metavar="NAME", help="Column of labels in the trusted file, if it differs."
        ),
    ] = None
    duplicates: Annotated[
        Literal["refuse", "vote"],
        flag("--duplicates", help="What to do when one image has different noisy labels."),
    ] = "refuse"
    class_map: ClassMap = None
    allow_new_classes: Annotated[
        bool, flag("--allow-new-classes", help="Trusted labels may be of classes that no noisy label has.")
    ] = False
    normalize_labels: NormalizeLabels = False
    follow_symlinks: FollowSymlinks = False
    truncated: Truncated = "skip"
    max_pixels: MaxPixels = USUAL.max_pixels
    allow_empty_classes: Annotated[
        bool, flag("--allow-empty-classes", help="Class folders may be empty.")
    ] = False

    def options(self) -> "ReadOptions":
        """The same for ``data``; UsageError without trusted labels."""
        if self.trusted is None:
            raise UsageError(
                "expected --trusted with labels that you checked, since everything rests on them; "
                "200 to 500, of images picked at random, will do"
            )
        return self.reading()

    def reading(self) -> "ReadOptions":
        """The same for a command that needs no label."""
        from assay.data.dataset import ReadOptions

        named = {re.sub("_col$", "_column", name): value for name, value in vars(self).items()}
        return ReadOptions(**(named | {"class_map": class_pairs(self.class_map)}))


@dataclass(frozen=True)
class TrainingFlags:
    """How to learn and how to measure."""

    backbone: Backbone = "tf_efficientnet_lite2"
    weights: Annotated[
        Path | None, flag("--weights", metavar="FILE", help="A safetensors file for the backbone.")
    ] = None
    size: Size = 160
    dtype: Dtype = "auto"
    holdout: Annotated[
        int | None,
        flag(
            "--holdout",
            metavar="N",
            min=0,
            help="Trusted images sealed for the final figure; by default a fifth, at most 2,000.",
        ),
    ] = None
    holdout_split: Annotated[
        Literal["stratified", "notebook"],
        flag("--holdout-split", help="notebook: the 2,000 that the notebook held out."),
    ] = "stratified"
    folds: Annotated[int, flag("--folds", metavar="N", min=2, help="Parts of the cross-validation.")] = 5
    threshold: Annotated[
        float,
        flag(
            "--threshold", metavar="P", min=0, max=1, help="Confidence from which a fixed label is relied on."
        ),
    ] = 0.8
    seed: Seed = 0
    preset: Annotated[
        Literal["fast", "balanced", "best"],
        flag("--preset", help="fast: frozen features and a head; the others: a network is fine-tuned."),
    ] = "fast"
    student: Annotated[
        str | None,
        flag(
            "--student",
            metavar="NAME",
            help="With balanced or best: the network to fine-tune, by timm's name.",
        ),
    ] = None
    student_size: Annotated[
        int | None,
        flag(
            "--student-size",
            metavar="PIXELS",
            min=32,
            max=1024,
            help="With balanced or best: side of its images; smaller is quicker, larger more often right.",
        ),
    ] = None
    teacher: Annotated[
        str | None,
        flag(
            "--teacher",
            metavar="NAME",
            help="With balanced or best: a larger network, fine-tuned first to correct the student's labels.",
        ),
    ] = None
    time_limit: Annotated[
        str | None,
        flag(
            "--time-limit",
            metavar="TIME",
            help="With balanced or best: as many epochs as fit into 90s, 20m or 1.5h.",
        ),
    ] = None
    workers: Workers = 2
    cache: Cache = None
    refit: Annotated[
        bool,
        flag(
            "--refit",
            help="After measuring, train again on everything, the holdout too; keeps the figures of before.",
        ),
    ] = False

    def options(self, read: "ReadOptions") -> "RunOptions":
        """The same for ``systems``."""
        from assay.pipeline.options import RunOptions

        return RunOptions(read=read, **self.settled())

    def settled(self) -> dict[str, Any]:
        """All flags, the cache where none was named, the time limit in seconds."""
        from assay.pipeline.options import default_cache

        limit = None if self.time_limit is None else seconds_of(self.time_limit)
        return vars(self) | {"cache": self.cache or default_cache(), "time_limit": limit}
