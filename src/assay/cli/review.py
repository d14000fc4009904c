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
from assay.errors import DataError
from assay.progress import notify

if TYPE_CHECKING:
    from assay.review.session import ReviewSession

EXAMPLES = (
    "assay review out/",
    "assay review out/ images/ --port 8765 --no-browser",
    "assay review out/ --import decisions.csv",
)


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
    excel_safe: options.ExcelSafe = False,
    take: Annotated[Path | None, Parameter(name="--import")] = None,
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
    take
        Import decisions from this file, for images that have none yet, instead of showing the page.
    """
    from assay.data.decisions import FILE, open_decisions
    from assay.pipeline.options import default_cache
    from assay.review.neighbours import Neighbours
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
        else:
            _serve(session, host, port, allow_remote, no_browser, quiet)
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
