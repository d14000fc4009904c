"""Where options come from: the command line, the environment, assay.toml, the default."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from assay.cli.app import app
from assay.cli.options import ImageOptions, LabelOptions, TrainingOptions
from assay.data.dataset import ReadOptions
from assay.pipeline.options import PRESET_NAMES, RunOptions


def test_the_defaults_are_those_of_the_library(tmp_path):
    """Without options a run on the command line has the settings of ``RunOptions()``."""
    read = ImageOptions().read_options(**vars(LabelOptions(trusted=tmp_path)))
    assert read == ReadOptions(trusted=tmp_path)
    assert TrainingOptions().run_options(read) == RunOptions(read=read)


def names(*groups):
    return {field.name for group in groups for field in fields(group)}


def test_every_library_option_is_on_the_command_line():
    """``decisions``, ``features`` and ``excel_safe`` are options of assay run itself."""
    assert names(LabelOptions, ImageOptions) | {"decisions", "features"} == names(ReadOptions)
    assert names(TrainingOptions) | {"read", "excel_safe"} == names(RunOptions)


def test_the_presets_are_those_of_the_library():
    """No preset is refused later."""
    arguments = app["run"].assemble_argument_collection()
    (preset,) = [argument for argument in arguments if argument.name == "--preset"]
    assert preset.get_choices() == PRESET_NAMES


def test_flag_environment_file_default(assay, small_data, tmp_path, monkeypatch):
    """A flag is stronger than the environment, that than assay.toml, and that than the default."""
    command = ["run", small_data.images, *small_data.labels, "-o", tmp_path / "out", "--dry-run", "--json"]

    def held(*more):
        return json.loads(assay(*command, *more).out)["holdout"]

    file = Path("assay.toml")
    file.write_text('backbone = "tiny"\n')
    assert held() == 24
    file.write_text('backbone = "tiny"\nholdout = 30\n')
    assert held() == 30
    file.write_text('backbone = "tiny"\nholdout = 30\n[run]\nholdout = 33\n')
    assert held() == 33
    monkeypatch.setenv("ASSAY_HOLDOUT", "36")
    assert held() == 36
    assert held("--holdout", "39") == 39
    monkeypatch.setenv("ASSAY_HOLDOUT", "")  # as good as unset
    assert held() == 33


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sed = 1", "assay.toml: 'sed' is not an option; did you mean 'seed'?"),
        ("[run]\nseeed = 1", "assay.toml: 'seeed' is not an option of assay run; did you mean 'seed'?"),
        ("[rum]\nseed = 1", "assay.toml: 'rum' is not a command; did you mean 'run'?"),
        ("[report]\nxyz = 1", "'xyz' is not an option of assay report; expected one of follow-symlinks, "),
        ("seed = ", "assay.toml: expected TOML, got something else ("),
        (b"\xff\xfe", "assay.toml: expected TOML, got something else ("),
        ('seed = "huge"', 'Invalid value for [seed] from assay.toml: unable to convert "huge" into int.'),
    ],
)
def test_wrong_settings_are_refused(assay, refused, text, message):
    """The message names the file, the key and what was probably meant; help works all the same."""
    Path("assay.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(2, message, "noise", "images", "--trusted", "t.csv")
    for words in (["run", "--help"], ["--version"], []):
        assert assay(*words).code == 0


def test_a_wrong_variable_is_refused(refused, monkeypatch):
    """Its name is in the message."""
    monkeypatch.setenv("ASSAY_SEED", "x")
    message = 'Invalid value for ASSAY_SEED from environment: unable to convert "x" into int.'
    refused(2, message, "noise", "images", "--trusted", "t.csv")


def test_needed_options_may_come_from_the_file(assay, small_data, tmp_path):
    """Paths, lists and flags too."""
    Path("assay.toml").write_text(
        f'[run]\nout = "{tmp_path / "out"}"\ntrusted = "{small_data.folder / "trusted.csv"}"\n'
        f'noisy = "{small_data.folder / "noisy.csv"}"\nbackbone = "tiny"\nquiet = true\n'
        'class-map = ["ash=ash", "elm=ash"]\n'
    )
    found = assay("run", small_data.images)
    assert (found.code, found.err) == (0, "")
    assert (tmp_path / "out" / "labels.csv").exists()


@pytest.mark.parametrize(
    ("words", "seconds"), [("90s", 90), ("20m", 1_200), ("1.5h", 5_400), ("45", 45), ("0.5m", 30)]
)
def test_a_time_is_read_with_its_unit(words, seconds):
    """Seconds, minutes or hours; a bare number is seconds; run and compare alike."""
    for command in ("run", "compare"):
        _, bound, _ = app.parse_args([command, "images", "-o", "out", "--time-limit", words])
        assert bound.arguments["training"].time_limit == seconds


def test_the_cache_is_named_by_flag_or_environment(assay, small_data, tmp_path, monkeypatch):
    """``--cache`` is stronger than ``ASSAY_CACHE``; features go there."""
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "environment"))
    audit = ("audit", small_data.images, "--backbone", "tiny", "-q")
    assert assay(*audit, "--cache", tmp_path / "flag").code == 0
    assert (tmp_path / "flag" / "features").is_dir()
    assert not (tmp_path / "environment").exists()
    assert assay(*audit).code == 0
    assert (tmp_path / "environment" / "features").is_dir()


def test_only_typed_options_are_refused(assay, refused, finished, lineup, small_data, tmp_path, monkeypatch):
    """An option that a command has no use for is refused on the command line, not in the environment."""
    for model, images, words, message in (
        (lineup, "new", ["--all-systems", "--coverage=0.9"], "--coverage: expected one model"),
        (finished, "new", ["--columns", "Index"], "--columns: selects models of --all-systems"),
        (finished, "-", ["--path-col", "path"], "--path-col: expected a Parquet file of images"),
    ):
        refused(2, message, "predict", model, images, *words)
    for name, value in (("COLUMNS", "Index,Assay"), ("COVERAGE", "0.9"), ("BACKBONE", "tiny")):
        monkeypatch.setenv(f"ASSAY_{name}", value)
    Path("assay.toml").write_text('noisy = "noisy.csv"\n')
    rows = tmp_path / "rows.csv"
    assert assay("predict", lineup, small_data.images, "--all-systems", "-o", rows).code == 0
    assert rows.read_text().splitlines()[0] == "Index,Assay"
    assert assay("audit", finished, "-o", tmp_path / "audit", "-q").code == 0
