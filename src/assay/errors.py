"""The exceptions that assay raises on purpose, and the exit code of each.

::

    AssayError
    ├── UsageError            2  a flag, a setting or a combination that cannot be
    │   ├── MissingExtraError 2  a package of an extra is not installed
    │   └── OtherRunError     2  the folder holds a run with other settings
    ├── DataError             3  the input cannot be trusted to mean what it says
    │   ├── LabelError        3  a label, or the classes as a whole
    │   ├── TableError        3  a label file that cannot be read
    │   └── ModelError        3  a model folder that is damaged or not ours
    ├── GateError             5  a quality gate failed
    ├── ResourceError         6  disk, memory or time ran out
    └── BusyError             7  another run holds the folder

Only ``cli/endings.py`` turns one into an exit code; a bad *item* is never an exception, it is a
``Skipped`` with its reason.
"""


class AssayError(Exception):
    """Anything that assay refuses to do; the message says what was expected, what came, what to do."""

    exit_code = 1


class UsageError(AssayError):
    """Wrong usage or configuration."""

    exit_code = 2


class MissingExtraError(UsageError):
    """A package is missing that an extra would install; the message is the install line.

    It names the folder: under the name ``assay`` the package index has another project.
    """

    def __init__(self, package: str, extra: str) -> None:
        line = f"pip install '.[{extra}]'"
        super().__init__(f"this needs {package}, which is not installed: in assay's folder, {line}")


class OtherRunError(UsageError):
    """The output folder holds a run made with other settings."""


class DataError(AssayError):
    """Input data refused before any work was done on it."""

    exit_code = 3


class LabelError(DataError):
    """A label that cannot be right, or classes that cannot be learned."""


class TableError(DataError):
    """A label file that cannot be read without guessing."""


class ModelError(DataError):
    """A model folder that is damaged, hostile or of another kind."""


class GateError(AssayError):
    """The result is not good enough to ship."""

    exit_code = 5


class ResourceError(AssayError):
    """Out of disk, memory or time; what was good stays good."""

    exit_code = 6


class BusyError(AssayError):
    """Another run holds the folder."""

    exit_code = 7
