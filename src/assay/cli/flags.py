"""Flags that several commands share, each with its help text, once."""

from pathlib import Path
from typing import Annotated

import typer

Images = Annotated[
    Path, typer.Argument(metavar="IMAGES", help="A folder, zip, tar or Parquet file of images.")
]
Noisy = Annotated[
    Path | None,
    typer.Option(help="Noisy labels, for all images: CSV, Parquet or JSON lines. Without: class folders."),
]
Trusted = Annotated[Path | None, typer.Option(help="Trusted labels, for a few images.")]
Classes = Annotated[
    Path | None, typer.Option(help="Names of the classes, one a line, for labels that are integers.")
]
PathColumn = Annotated[str | None, typer.Option("--path-col", help="The column of image names.")]
LabelColumn = Annotated[str | None, typer.Option("--label-col", help="The column of labels.")]
Duplicates = Annotated[str, typer.Option(help="Different noisy labels for one image: refuse or vote.")]
ClassMap = Annotated[
    list[str] | None,
    typer.Option(metavar="FROM=TO", help="Read a trusted label as another class; may be repeated."),
]
NewClasses = Annotated[
    bool, typer.Option("--allow-new-classes", help="Trusted labels may name classes that no noisy label has.")
]
Normalize = Annotated[
    bool,
    typer.Option(
        "--normalize-labels", help="Treat labels that differ in case, space or Unicode form as one."
    ),
]
FollowSymlinks = Annotated[
    bool, typer.Option("--follow-symlinks", help="Symbolic links may leave the folder of images.")
]
EmptyClasses = Annotated[bool, typer.Option("--allow-empty-classes", help="Class folders may be empty.")]

Out = Annotated[
    Path, typer.Option("-o", "--out", help="Folder for all results; the same command resumes in it.")
]
Backbone = Annotated[
    str, typer.Option(help="tf_efficientnet_lite0, 1 or 2 come with the package; any name timm knows.")
]
WeightsFile = Annotated[
    Path | None, typer.Option("--weights", help="A local safetensors file for the backbone.")
]
Size = Annotated[int, typer.Option(min=16, max=1024, help="Side in pixels that images are resized to.")]
Dtype = Annotated[str, typer.Option(help="auto, float32 or bfloat16; auto times both once a machine.")]
Holdout = Annotated[
    int | None,
    typer.Option(min=0, help="Trusted images sealed for the final figure. Default: a fifth, at most 2,000."),
]
HoldoutSplit = Annotated[
    str, typer.Option(help="stratified, or notebook: the 2,000 that the notebook held out.")
]
Folds = Annotated[int, typer.Option(min=2, help="Parts of the cross-validation.")]
Threshold = Annotated[
    float, typer.Option(min=0, max=1, help="Confidence from which a fixed label may be relied on.")
]
Seed = Annotated[int, typer.Option(help="Same seed, machine and versions: same bytes.")]
Effort = Annotated[str, typer.Option(help="fast: frozen features and a head.")]
Workers = Annotated[int, typer.Option(min=1, help="Threads that read and decode images.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Start anew in a folder that holds another run.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 4 if an image had to be skipped.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No words and no progress on stderr.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan with its time and disk, and stop.")]
