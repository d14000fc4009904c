"""assay review: a page on this machine where a person decides."""

import contextlib
import getpass
import os
import threading
import webbrowser
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from assay.cli import flags
from assay.cli.console import notify, show
from assay.cli.groups import with_flags
from assay.cli.targets import check_apart, check_file
from assay.errors import DataError, UsageError

if TYPE_CHECKING:
    from assay.review.session import ReviewSession

EXAMPLES = (
    "assay review out/",
    "assay review out/ images/ --port 8765 --no-browser",
    "assay review out/ --export decisions.csv",
)

DECISIONS = (".csv", ".json")
"""Endings of files of decisions."""


@dataclass(frozen=True)
class ReviewFlags:
    """What to show, in which order, and where."""

    strategy: Annotated[
        Literal["mixed", "doubtful", "confident", "random"],
        flags.flag(
            "--strategy", help="What comes first; mixed: doubtful images, likely errors, random ones."
        ),
    ] = "mixed"
    seed: Annotated[int, flags.flag("--seed", metavar="N", min=0, help="Draws the random part.")] = 0
    who: Annotated[
        str | None, flags.flag("--who", metavar="NAME", help="Who decides; by default the user's name.")
    ] = None
    cache: flags.Cache = None
    follow_symlinks: flags.FollowSymlinks = False


@dataclass(frozen=True)
class ServerFlags:
    """Where the page is."""

    port: flags.Port = 0
    host: flags.Host = "127.0.0.1"
    allow_remote: flags.AllowRemote = False
    no_browser: Annotated[
        bool, flags.flag("--no-browser", help="Only print the address; open no browser.")
    ] = False


@dataclass(frozen=True)
class FileFlags:
    """Decisions out and in, without the page."""

    export: Annotated[
        Path | None,
        flags.flag("--export", metavar="FILE", help="Write the decisions as .csv or Label Studio's .json."),
    ] = None
    relabel: Annotated[
        Path | None,
        flags.flag("--relabel", metavar="FILE", help="With --export: this label file, its labels corrected."),
    ] = None
    take: Annotated[
        Path | None,
        flags.flag("--import", metavar="FILE", help="Take over decisions of images that have none here."),
    ] = None
    path_col: flags.PathColumn = None
    label_col: flags.LabelColumn = None


@with_flags
def review_command(
    run: flags.FinishedRun,
    review: ReviewFlags,
    server: ServerFlags,
    files: FileFlags,
    images: Annotated[
        Path | None,
        typer.Argument(metavar="IMAGES", help="Where the images are, if not where they were for the run."),
    ] = None,
    quiet: flags.Quiet = False,
) -> int:
    """Look at images and decide their labels: one key a class, nothing lost."""
    if files.relabel is not None and files.export is None:
        raise UsageError("--relabel: expected --export with the file to write")
    if files.export is not None:
        check_file(files.export, "--export")
        check_apart(files.export, run, *filter(None, (files.relabel, files.take, images)), flag="--export")
        if files.relabel is None and files.export.suffix.lower() not in DECISIONS:
            raise UsageError(
                f"--export: expected a name ending in {' or '.join(DECISIONS)}, got {files.export}"
            )
    session = _open(run, images, review)
    try:
        if files.take is not None:
            _import(session, files.take)
        if files.export is not None:
            _export(session, files, quiet)
        if files.take is None and files.export is None:
            _serve(session, server, quiet)
    finally:
        session.store.close()
    return 0


def _open(run: Path, images: Path | None, review: ReviewFlags) -> "ReviewSession":
    from assay.data.decision_store import FILE, open_decisions
    from assay.pipeline.options import default_cache
    from assay.review.neighbours import Neighbours
    from assay.review.queue import order_images
    from assay.review.run import read_review_run
    from assay.review.session import ReviewSession

    found = read_review_run(run, images, follow_symlinks=review.follow_symlinks)
    order = order_images(
        found.noisy,
        found.proposed,
        found.confidence,
        found.is_open,
        strategy=review.strategy,
        seed=review.seed,
    )
    neighbours = Neighbours(found, review.cache or default_cache())
    return ReviewSession(found, open_decisions(run / FILE), order, neighbours, review.who or _user())


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may have users without a name
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"


def _serve(session: "ReviewSession", server: ServerFlags, quiet: bool) -> None:
    from assay.review.server import serve
    from assay.web.listen import is_loopback, listen, new_token, url_host

    listener, token = listen(server.host, server.port, allow_remote=server.allow_remote), new_token()
    host = url_host(server.host)
    address = f"http://{host}:{listener.getsockname()[1]}/?token={token}"
    if not is_loopback(server.host):
        notify(f"warning: other machines can reach {server.host}, and what is sent there is not encrypted")
    session.neighbours.start()

    def ready() -> None:
        show(address)
        if not quiet:
            notify("open this address in a browser; Ctrl-C ends the review, and no decision is lost by that")
        if not server.no_browser:
            # Beside the server, which some browsers would keep from answering until they are closed.
            threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()

    # Ctrl-C is how a review ends; nothing is interrupted by it, for each decision is on the disk.
    with contextlib.suppress(KeyboardInterrupt):
        serve(session, listener, token=token, hosts=(host,), ready=ready)
    if not quiet:
        notify(f"{session.progress().found()}; they are in {session.store.path}")


def _import(session: "ReviewSession", file: Path) -> None:
    from assay.data.decisions import read_decisions
    from assay.data.tables import shown

    rows = read_decisions(file)
    known = {name: row for row, name in enumerate(session.run.names)}
    labels, noisy = set(session.run.labels), session.run.noisy
    bad = next((row for row in rows if row.name not in known or (row.after or "") not in labels | {""}), None)
    if bad is not None:
        what = f"the label {shown(bad.after or '')}" if bad.name in known else f"the image {shown(bad.name)}"
        raise DataError(f"{file}: {what} is not of this run; correct the row or leave it out")
    # Where the file does not say which label an image came with, the run knows.
    rows = [replace(row, before=row.before or session.run.label(int(noisy[known[row.name]]))) for row in rows]
    closed = [row.name for row in rows if not session.run.is_open[known[row.name]]]
    taken = session.store.add([row for row in rows if session.run.is_open[known[row.name]]])
    decided = len(rows) - len(closed) - taken
    show(
        f"{taken:,} of {len(rows):,} decisions taken over"
        + (f"; {decided:,} of images that are decided here" if decided else "")
        + (f"; {len(closed):,} of images that nobody may decide, as {shown(closed[0])}" if closed else "")
    )


def _warnings_of(run: Path) -> list[str]:
    from assay.pipeline.outputs import read_facts

    try:
        return list(read_facts(run)["warnings"])
    except DataError:  # the run may have been copied without its figures
        return []


def _export(session: "ReviewSession", files: FileFlags, quiet: bool) -> None:
    from assay.data.decisions import standing, write_csv, write_label_studio
    from assay.data.relabel import relabel
    from assay.review.exports import corrected_labels

    assert files.export is not None
    if files.relabel is not None:
        reading = session.run.reading
        changed = relabel(
            files.relabel,
            files.export,
            corrected_labels(session),
            session.run.names_in_order,
            images=session.run.root,
            path_column=files.path_col or reading.path_column,
            label_column=files.label_col or reading.label_column,
        )
        show(f"{changed:,} labels changed")
        for warning in () if quiet else _warnings_of(session.run.folder):
            notify(f"warning of the run: {warning}")
        return
    write = write_csv if files.export.suffix.lower() == ".csv" else write_label_studio
    write(files.export, session.store.states)
    show(f"{len(standing(session.store.states)):,} images were looked at")
