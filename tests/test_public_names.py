"""The names that ``import assay`` offers."""

import pkgutil
from types import ModuleType

import pytest

import assay

NAMES = (
    "AssayError",
    "Engine",
    "NoisyLabelClassifier",
    "ReadOptions",
    "compare",
    "embed_images",
    "estimate_noise",
    "load_model",
    "load_run",
    "read_dataset",
    "run",
    "write_report",
)


def test_the_public_names_are_these():
    """A dozen names, listed, and none that a package has."""
    assert tuple(assay.__all__) == NAMES
    assert dir(assay) == sorted([*NAMES, "__version__"])
    assert not {*NAMES} & {module.name for module in pkgutil.iter_modules(assay.__path__)}


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_there_and_documented(name):
    """Each is a function or class with a docstring that begins with what it means."""
    found = getattr(assay, name)
    assert callable(found)
    assert not isinstance(found, ModuleType)
    assert found.__doc__.partition("\n")[0].endswith((".", ":", ","))


def test_a_wrong_name_is_refused_with_the_right_ones():
    """What is not there is not there, and the message lists what is."""
    with pytest.raises(AttributeError, match=r"module 'assay' has no name 'predit'; it has AssayError, "):
        _ = assay.predit
