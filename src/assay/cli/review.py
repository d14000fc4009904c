"""assay review: a local web page where a person decides labels."""

import contextlib
import getpass
import os
import threading
import webbrowser
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from assay.cli import options
from assay.cli.console import notifier, show
from assay.errors import DataError, UsageError
from assay.progress import notify

if TYPE_CHECKING:
    from assay.review.session import ReviewSession

EXAMPLES = (
    "assay review out/",
    "assay review out/ images/ --port 8765 --no-browser",
    "assay review out/ --export decisions.csv",
)

DECISIONS = (".csv", ".json")
"""Endings of files of decisions."""


def command(
    run: options.Run,
    images: options.RunImages = None,
    /,
    *,
    strategy: Literal["mixed", "doubtful", "confident", "random"] = "mixed",
    seed: options.Seed = 0,
    who: str | None = None,
    port: options.Port = 0,
    host: options.Host = "127.0.0.1",
    allow_remote: options.AllowRemote = False,
    no_browser: bool = False,
    export: Path | None = None,
    excel_safe: options.ExcelSafe = False,
    relabel: Path | None = None,
    take: Annotated[Path | None, Parameter(name="--import")] = None,
    path_column: options.PathColumn = None,
    label_column: options.LabelColumn = None,
    cache: options.Cache = None,
    follow_symlinks: options.FollowSymlinks = False,
    quiet: options.Quiet = False,
) -> int:
    """Review images in the browser and decide their labels, one key per class.

    Parameters
    ----------
    strategy
        Which images come first. mixed: doubtful ones, likely label errors, random ones.
    who
        Name of the reviewer, kept with each decision. Without it: the user's name.
    no_browser
        Print the address only; do not open a browser.
    export
        Write the decisions as .csv, or as .json for Label Studio, instead of showing the page.
    relabel
        With --export: write a copy of this label file with its labels corrected.
    take
        Import decisions from this file, for images that have none yet.
    """
    if relabel is not None and export is None:
        raise UsageError("--relabel: expected --export with the file to write")
    if relabel is not None and excel_safe:
        raise UsageError("--excel-safe: expected without --relabel, whose copy keeps all other bytes")
    if export is not None:  # before the import, which is for good
        options.check_file(export, "--export")
        read = (place for place in (relabel, take, images) if place is not None)
        options.check_apart(export, run, *read, flag="--export")
        if relabel is None and export.suffix.lower() not in DECISIONS:
            raise UsageError(f"--export: expected a name ending in {' or '.join(DECISIONS)}, got {export}")

    from assay.data.decisions import FILE, open_decisions, standing, write_csv, write_label_studio
    from assay.data.relabel import relabel as copy_with_labels
    from assay.pipeline.options import default_cache
    from assay.pipeline.outputs import read_facts
    from assay.review.neighbours import Neighbours
    from assay.review.pages import corrected_labels
    from assay.review.run import order_images, read_review_run
    from assay.review.session import ReviewSession

    found = read_review_run(run, images, follow_symlinks=follow_symlinks)
    order = order_images(
        found.noisy, found.proposed, found.confidence, found.is_open, strategy=strategy, seed=seed
    )
    neighbours = Neighbours(found, cache or default_cache())
    session = ReviewSession(found, open_decisions(run / FILE), order, neighbours, who or _user(), excel_safe)
    try:
        if take is not None:
            _import(session, take)
        if export is None and take is None:
            _serve(session, host, port, allow_remote, no_browser, quiet)
        elif export is not None and relabel is None:
            if export.suffix.lower() == ".csv":
                write_csv(export, session.store.states, excel_safe=excel_safe)
            else:
                write_label_studio(export, session.store.states)
            show(f"{len(standing(session.store.states)):,} reviewed images exported")
        elif export is not None and relabel is not None:
            changed = copy_with_labels(
                relabel,
                export,
                corrected_labels(session),
                found.names_in_order,
                images=found.root,
                options=replace(
                    found.reading,
                    path_column=path_column or found.reading.path_column,
                    label_column=label_column or found.reading.label_column,
                ),
            )
            show(f"{changed:,} labels changed")
            with contextlib.suppress(DataError):  # the run may have been copied without its figures
                for warning in read_facts(run)["warnings"]:
                    notifier(quiet)(f"warning of the run: {warning}")
    finally:
        session.store.close()
    return 0


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container the user may have no name
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"


def _serve(
    session: "ReviewSession", host: str, port: int, allow_remote: bool, no_browser: bool, quiet: bool
) -> None:
    from assay.review.app import serve
    from assay.web.listen import is_loopback, listen, new_token, url_host

    listener, token = listen(host, port, allow_remote=allow_remote), new_token()
    address = f"http://{url_host(host)}:{listener.getsockname()[1]}/?token={token}"
    if not is_loopback(host):
        notify(f"warning: other machines can reach {host}; connections are not encrypted")
    session.neighbours.start()

    def ready() -> None:
        show(address)
        notifier(quiet)("Open this address in a browser. Ctrl-C ends the review; all decisions are saved.")
        if not no_browser:
            # In a thread: some browsers block until they are closed.
            threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()

    # Ctrl-C is how a review ends; each decision is on disk already.
    with contextlib.suppress(KeyboardInterrupt):
        serve(session, listener, token=token, hosts=(url_host(host),), ready=ready)
    notifier(quiet)(f"{session.progress().counts()}; saved in {session.store.path}")


def _import(session: "ReviewSession", file: Path) -> None:
    from assay.data.decisions import read_decisions
    from assay.data.tables import shown

    run = session.run
    rows = read_decisions(file)
    known = {name: row for row, name in enumerate(run.names)}
    # All are checked before the first is added: half an import could not be taken back.
    for row in rows:
        if row.name not in known:
            raise DataError(f"{file}: the run has no image {shown(row.name)}; correct or remove the row")
        if row.after and row.after not in run.labels:
            raise DataError(f"{file}: the run has no label {shown(row.after)}; correct or remove the row")
    # A file may leave out the label that an image had; the run has it.
    rows = [replace(row, before=row.before or run.label(int(run.noisy[known[row.name]]))) for row in rows]
    closed = [row.name for row in rows if not run.is_open[known[row.name]]]
    taken = session.store.add([row for row in rows if run.is_open[known[row.name]]])
    decided = len(rows) - len(closed) - taken
    show(
        f"{taken:,} of {len(rows):,} decisions imported"
        + (f"; {decided:,} left out: already decided here" if decided else "")
        + (f"; {len(closed):,} left out: trusted or skipped, such as {shown(closed[0])}" if closed else "")
    )
