"""A tiny application behind the guard."""

import pytest
from browser import TOKEN, Browser, Echo

from assay.web.middleware import Guard


@pytest.fixture
def echo() -> Echo:
    """An application that would answer every page."""
    return Echo()


@pytest.fixture
def browser(echo):
    """A window that has been let in to it, past the guard."""
    found = Browser(Guard(echo, port=8765, token=TOKEN, max_body_bytes=1000, timeout_s=0.5))
    found.cookie = found.get(f"/?token={TOKEN}").header("set-cookie").partition(";")[0]
    yield found
    found.close()
