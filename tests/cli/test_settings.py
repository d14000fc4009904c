"""assay.toml: defaults for flags."""

from pathlib import Path

import pytest

from assay.cli.settings import read_settings
from assay.errors import UsageError

FLAGS = {"run": {"seed": "seed", "json": "as_json", "path-col": "path_col"}, "noise": {"seed": "seed"}}


@pytest.fixture
def settings_of(tmp_path):
    """What a file of this text says."""

    def read(text: str | bytes):
        (tmp_path / "assay.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_settings(tmp_path / "assay.toml", FLAGS)

    return read


def test_without_a_file_there_are_no_defaults(tmp_path):
    """Each command has its table, empty."""
    assert read_settings(tmp_path / "assay.toml", FLAGS) == {"run": {}, "noise": {}}


def test_the_top_is_for_all_and_a_table_for_one(settings_of):
    """A value at the top is for every command with that flag, one in a table for that command, and wins."""
    assert settings_of('seed = 1\njson = true\n[run]\nseed = 2\npath-col = "p"\n') == {
        "run": {"seed": 2, "as_json": True, "path_col": "p"},
        "noise": {"seed": 1},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sed = 1", r"assay.toml: 'sed' is no flag; did you mean 'seed'\?$"),
        ("[run]\nseeed = 1", r"assay.toml: 'seeed' below \[run\] is no flag; did you mean 'seed'\?$"),
        ("[noise]\nxyz = 1", r"assay.toml: 'xyz' below \[noise\] is no flag; the flags are seed$"),
        ("[rum]\nseed = 1", r"assay.toml: expected a table for run, noise, got \[rum\]$"),
        ("seed = ", r"assay.toml: expected TOML, got something else \("),
        (b"\xff\xfe", r"assay.toml: expected TOML, got something else \("),
    ],
)
def test_what_is_no_setting_is_refused(settings_of, text, message):
    """A slip is named, with what was probably meant, and never ignored."""
    with pytest.raises(UsageError, match=message):
        settings_of(text)


def test_flag_environment_file_default(assay, small_data, tmp_path, monkeypatch):
    """A flag is stronger than the environment, that than assay.toml, and that than the default."""
    command = ["run", small_data.images, *small_data.labels, "-o", tmp_path / "out", "--dry-run", "--json"]

    def held(*more) -> str:
        noisy = assay(*command, *more)
        assert noisy.code == 0, noisy.err
        return noisy.out.split('"holdout": ')[1].split(",")[0]

    Path("assay.toml").write_text('backbone = "tiny"\n')
    assert held() == "24"
    Path("assay.toml").write_text('backbone = "tiny"\nholdout = 30\n')
    assert held() == "30"
    Path("assay.toml").write_text('backbone = "tiny"\nholdout = 30\n[run]\nholdout = 33\n')
    assert held() == "33"
    monkeypatch.setenv("ASSAY_HOLDOUT", "36")
    assert held() == "36"
    assert held("--holdout", "39") == "39"


def test_needed_flags_may_come_from_the_file(assay, small_data, tmp_path):
    """``--out`` and ``--trusted`` are needed, wherever they are said."""
    Path("assay.toml").write_text(
        f'[run]\nout = "{tmp_path / "out"}"\ntrusted = "{small_data.folder / "trusted.csv"}"\n'
        f'noisy = "{small_data.folder / "noisy.csv"}"\nbackbone = "tiny"\nquiet = true\n'
        'class-map = ["ash=ash"]\n'
    )
    noisy = assay("run", small_data.images)
    assert (noisy.code, noisy.err) == (0, "")
    assert (tmp_path / "out" / "labels.csv").exists()


def test_a_value_that_cannot_be_is_refused_as_the_flag_would_be(assay, small_data):
    """A word where a number belongs ends with 2 and names the flag."""
    Path("assay.toml").write_text('size = "huge"\n')
    noisy = assay("run", small_data.images, "-o", "out")
    assert noisy.code == 2
    assert noisy.err.startswith("assay: Invalid value for '--size'")


def test_broken_settings_do_not_hide_the_help(assay):
    """Help and version answer whatever assay.toml says; commands refuse it."""
    Path("assay.toml").write_text("sed = 1\n")
    assert assay("run", "--help").code == 0
    assert assay("--version").code == 0
    assert assay("noise", "images").err == "assay: assay.toml: 'sed' is no flag; did you mean 'seed'?\n"


def test_the_cache_is_named_by_flag_or_environment(assay, small_data, tmp_path, monkeypatch):
    """``--cache`` is stronger than ``ASSAY_CACHE``; features go there."""
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "environment"))
    assert assay(*small_data.command(tmp_path / "one", "-q", "--cache", str(tmp_path / "flag"))).code == 0
    assert (tmp_path / "flag" / "features").is_dir()
    assert not (tmp_path / "environment").exists()
    assert assay(*small_data.command(tmp_path / "two", "-q")).code == 0
    assert (tmp_path / "environment" / "features").is_dir()
