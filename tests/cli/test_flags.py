"""Flags in groups, and that they say what the options say."""

import dataclasses
import inspect
from typing import get_args

import pytest
import typer

from assay.cli.app import app
from assay.cli.compare import CompareFlags
from assay.cli.flags import LabelFlags, TrainingFlags
from assay.cli.groups import with_flags
from assay.cli.values import seconds_of
from assay.data.dataset import ReadOptions
from assay.errors import UsageError
from assay.pipeline.options import RunOptions


def test_a_group_is_spread_over_the_command_line():
    """The fields of a group become parameters, in their order, and reach the command as one object."""

    @dataclasses.dataclass(frozen=True)
    class Pair:
        left: int
        right: int = 2

    @with_flags
    def command(first: str, pair: Pair, last: bool = True) -> int:
        assert (first, last) == ("a", True)
        return pair.left + pair.right

    parameters = inspect.signature(command).parameters
    assert list(parameters) == ["first", "left", "right", "last"]
    assert parameters["left"].default is inspect.Parameter.empty
    assert (parameters["right"].default, parameters["last"].default) == (2, True)
    assert command(first="a", left=1, right=2, last=True) == 3


def test_the_defaults_are_those_of_the_options(tmp_path):
    """Without a flag a run on the command line has the settings of ``RunOptions()``."""
    read = LabelFlags(trusted=tmp_path).options()
    assert read == ReadOptions(trusted=tmp_path)
    assert TrainingFlags().options(read) == RunOptions(read=read)


def test_every_option_has_its_flag():
    """What a reader or a run can be told can be told on the command line."""
    renamed = {
        name: name.replace("_col", "_column") for name in ("path_col", "label_col", "trusted_label_col")
    }
    label_flags = {renamed.get(field.name, field.name) for field in dataclasses.fields(LabelFlags)}
    label_flags.add("decisions")  # a flag of run alone
    assert label_flags == {field.name for field in dataclasses.fields(ReadOptions)}
    training_flags = {field.name for field in dataclasses.fields(TrainingFlags)}
    assert training_flags == {field.name for field in dataclasses.fields(RunOptions)} - {"read"}


def test_class_maps_are_pairs(tmp_path):
    """``FROM=TO``, the first = parting them; anything else is refused."""
    flags = LabelFlags(trusted=tmp_path, class_map=["a=b", "c=d=e"])
    assert flags.options().class_map == {"a": "b", "c": "d=e"}
    with pytest.raises(UsageError, match=r"^--class-map: expected FROM=TO, got 'ab'$"):
        LabelFlags(trusted=tmp_path, class_map=["ab"]).options()


def commands() -> dict[str, list]:
    return {name: command.params for name, command in typer.main.get_command(app).commands.items()}


def test_every_flag_has_its_variable():
    """A flag ``--path-col`` may come from ``ASSAY_PATH_COL``, in every command."""
    for name, parameters in commands().items():
        for parameter in parameters:
            longest = max(parameter.opts, key=len)
            if longest.startswith("--") and longest != "--help":
                expected = "ASSAY_" + longest[2:].upper().replace("-", "_")
                assert parameter.envvar == expected, f"{name} {longest}"


def test_every_parameter_says_what_it_is():
    """Each argument and flag has its help, a sentence."""
    for name, parameters in commands().items():
        for parameter in parameters:
            assert parameter.help, f"{name} {parameter.name}"
            assert parameter.help.endswith("."), f"{name} {parameter.name}"


OWN = {
    "--out": "each command writes its own things",
    "images": "audit takes a run and, after it, where its images are now",
    "--backbone": "compare leaves it to each recipe",
    "--size": "the same",
    "--trusted": "audit alone can do without",
    "--seed": "in review it orders images, and nothing is computed from it",
}


def test_a_flag_is_one_thing_everywhere():
    """A flag of one name has one help text, but for what names a command's own things."""
    texts: dict[str, set[str]] = {}
    for parameters in commands().values():
        for parameter in parameters:
            texts.setdefault(max(parameter.opts, key=len), set()).add(parameter.help)
    assert {name for name, found in texts.items() if len(found) > 1} == {*OWN}


def test_choices_are_those_that_the_rooms_know():
    """The words that a flag accepts are refused nowhere later."""
    from assay.pipeline.options import PRESET_NAMES

    hints = {field.name: field.type for field in dataclasses.fields(TrainingFlags)}
    assert get_args(get_args(hints["preset"])[0]) == PRESET_NAMES


@pytest.mark.parametrize(
    ("words", "seconds"), [("90s", 90), ("20m", 1_200), ("1.5h", 5_400), ("45", 45), ("0.5m", 30)]
)
def test_a_time_is_read_with_its_unit(words, seconds):
    """Seconds, minutes, hours; a bare number is seconds."""
    assert seconds_of(words) == seconds


@pytest.mark.parametrize("words", ["", "m", "soon", "20 minutes", "-5m", "0", "inf", "nanh", "1d"])
def test_what_is_no_time_is_refused(words):
    """With what was expected."""
    with pytest.raises(UsageError, match=r"^--time-limit: expected .*, got "):
        seconds_of(words)


def test_compare_reads_a_time_limit_as_run_does(tmp_path):
    """In seconds, for each of its recipes."""
    read = ReadOptions(noisy=tmp_path / "noisy.csv")
    noisy = {"preset": "balanced", "time_limit": "20m"}
    assert CompareFlags(**noisy).compare_options(read).run.time_limit == 1_200
    assert TrainingFlags(**noisy).options(read).time_limit == 1_200
