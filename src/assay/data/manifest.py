"""A manifest: a Parquet file that says where each image is, and may have its labels and its group."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from assay.data.dataset import Listing, ReadOptions, Skipped
from assay.data.files import USUAL, Limits, check_entry, raw_fault
from assay.data.place import Place, Url, is_url
from assay.data.remote import remote_source
from assay.data.tables import is_parquet, read_table, shown
from assay.errors import TableError, UsageError

URI, NAME, VERSION = "uri", "file", "version"
NOISY, TRUSTED, GROUP = "noisy", "trusted", "group"
"""Names of its columns; only ``uri`` must be there."""


def is_manifest(path: Path, options: ReadOptions) -> bool:
    """Whether a file is Parquet with a column ``uri``, and without images of its own."""
    if not is_parquet(path) or not path.is_file():
        return False
    from assay.data.parquet import names_images  # polars is slow to import

    return names_images(path, URI, options.path_column)


def manifest_listing(path: Path, origin: Place, limits: Limits = USUAL) -> Listing:
    """The images of a manifest, in the order of its rows, named by the column ``file`` or else by their uri.

    A column ``version`` has what ``RemoteSource.address`` gave.

    Parameters
    ----------
    origin : where the manifest came from, beside which relative uris begin. One from a store names no file
        here

    Raises
    ------
    TableError : two rows of one name
    """
    table = read_table(path)
    columns = table.columns or ()
    known = [name for name in (URI, NAME, VERSION) if name in columns]
    cells = {name: table.column(columns.index(name)) for name in known}
    no_text = ("",) * len(table.rows)
    names, versions = cells.get(NAME, no_text), cells.get(VERSION, no_text)
    return listing_of(cells[URI], names, versions, origin, path.name, limits)


def listing_of(
    written: Sequence[str],
    names: Sequence[str],
    versions: Sequence[str],
    origin: Place,
    table: str,
    limits: Limits = USUAL,
) -> Listing:
    """The images at these URLs and paths, named as ``names`` says or else as they are written.

    Parameters
    ----------
    written, names, versions : N each; empty where there is none
    origin : the file beside which relative paths begin
    table : where the rows come from, for a message

    Raises
    ------
    TableError : two rows of one name
    """
    uris, skipped = list[str](), dict[int, Skipped]()
    row_of: dict[str, int] = {}
    for row, (text, given) in enumerate(zip(written, names, strict=True)):
        uri = _whole(text, origin)
        fault = uri if isinstance(uri, Skipped) else None
        uris.append("" if isinstance(uri, Skipped) else uri)
        plain = text
        if is_url(text):
            plain = text.partition("?")[0] if fault else str(Url(text))
        if (fault := fault or raw_fault(plain)) is not None:
            skipped[row] = fault
        name = given or plain or f"row {row + 1}"
        name = name.replace("\0", "\ufffd")  # a table with a NUL in it could not be read again
        if (first := row_of.setdefault(name, row)) != row:
            raise TableError(
                f"{table} row {row + 1:,}: expected a name of its own, got {shown(name)} as in row "
                f"{first + 1:,}; keep one of the rows, or name them in a column {NAME}"
            )
    return Listing(tuple(row_of), remote_source(uris, versions, limits), skipped)


def _whole(written: str, origin: Place) -> str | Skipped:
    """The URL or the absolute path of a row."""
    if not written:
        return Skipped("missing_image", "the row has no uri")
    if is_url(written):
        try:
            return Url(written).whole
        except UsageError as error:
            return Skipped("bad_path", str(error))
    if isinstance(origin, Path):
        return str((origin.parent / written).absolute())  # any file here: the user wrote it
    if (bad := check_entry(written)) is not None:
        return Skipped("bad_path", f"{bad.detail}; a manifest from a store names no file here")
    return f"{str(origin).rpartition('/')[0]}/{written}"


def with_manifest(place: Place, options: ReadOptions) -> ReadOptions:
    """The options with the labels and groups of the manifest at ``place``, where they name no others."""
    if not isinstance(place, Path) or not is_manifest(place, options):
        return options
    table = read_table(place)
    columns = table.columns or ()
    if NOISY in columns and options.noisy is None and options.annotations is None:
        options = replace(options, noisy=table, label_column=options.label_column or NOISY)
    if TRUSTED in columns and options.trusted is None:
        column = options.trusted_label_column or TRUSTED
        options = replace(options, trusted=table, trusted_label_column=column)
    if GROUP in columns and options.group_column is None:
        options = replace(options, group_column=GROUP)
    return options
