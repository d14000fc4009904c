"""Serving the page."""

from collections.abc import Callable

from assay.review.app import make_app
from assay.review.session import ReviewSession
from assay.review.thumbnails import Thumbnails
from assay.web.listen import Listener, answer_until_interrupted
from assay.web.middleware import Guard


def guarded_app(
    session: ReviewSession, thumbnails: Thumbnails, *, port: int, token: str, hosts: tuple[str, ...] = ()
) -> Guard:
    """The page behind its guard."""
    return Guard(make_app(session, thumbnails), port=port, token=token, hosts=hosts)


def serve(
    session: ReviewSession,
    listener: Listener,
    *,
    token: str,
    hosts: tuple[str, ...] = (),
    ready: Callable[[], None],
) -> None:
    """Answer requests until the process is interrupted.

    Parameters
    ----------
    listener : a listening socket; closed at the end
    hosts : names of this machine besides loopback
    ready : called once requests are answered
    """
    thumbnails = Thumbnails(session.run.images, session.run.reading.limits)
    app = guarded_app(session, thumbnails, port=listener.getsockname()[1], token=token, hosts=hosts)
    try:
        answer_until_interrupted(app, listener, ready=ready)
    finally:
        thumbnails.close()
