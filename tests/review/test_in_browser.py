"""The pages as a browser shows them: readable by all, on any screen, and deaf to hostile names."""

import csv

import pytest
from chromium import need_chromium, serving
from review_runs import draw_images, write_run

from assay.review.run import read_review_run

pytestmark = pytest.mark.slow

PAGES = ("item/5", "grid/1", "keys")

HOSTILE_LABELS = (
    "<img src=x onerror=alert(1)>",
    '"onmouseover="alert(2)',
    "</script><script>alert(3)</script>",
)

HOSTILE_NAMES = (
    *(f"{row}.png" for row in range(4)),
    '"><img src=x onerror=alert(4)>.png',
    "{{7*7}}${7*7}<svg onload=alert(5)>.png",
    "'; DROP TABLE decisions; --.png",
    "two\nlines.png",
    "\u202egnp.exe",
    "\udcff\udcfe.png",
    "e\u0301 \U0001f600 .png",
    "-rf.png",
)


def opened(server, visit, page: str, **context):
    found = visit(server.address, **context)
    found.goto(f"http://127.0.0.1:{server.port}/{page}")
    found.wait_for_load_state("load")
    return found


def violations(page) -> list[str]:
    """The rules that axe finds broken, with the elements."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response
    assert len(found["passes"]) > 10  # it did look
    return [f"{rule['id']}: {[node['html'] for node in rule['nodes']]}" for rule in found["violations"]]


@pytest.fixture
def hostile(tmp_path):
    """A run whose classes and images are called what an attacker would call them."""
    draw_images(tmp_path / "images", HOSTILE_NAMES)
    return write_run(tmp_path / "out", HOSTILE_NAMES, HOSTILE_LABELS, images=tmp_path / "images")


def test_without_a_browser_nothing_is_green(monkeypatch):
    """Where there is no Chromium these tests are skipped and say what is missing; in CI they fail."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="missing: chromium; apt-get install chromium"):
        need_chromium()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="missing: chromium"):
        need_chromium()


def test_hostile_names_are_words(hostile, visit):
    """Names of classes and files are shown as they are and do nothing, on every page, decided or not."""
    with serving(hostile) as server:
        page = visit(server.address)
        planted = "main svg, main script, [onerror], [onmouseover], [onload]"
        for item in range(1, len(HOSTILE_NAMES) + 1):
            page.goto(f"http://127.0.0.1:{server.port}/item/{item}")
            assert page.locator(planted).count() == 0
            assert [page.text_content(f"[data-label='{i}'] span") for i in range(3)] == [*HOSTILE_LABELS]
            page.wait_for_load_state("load")
            if item > 4:
                page.keyboard.press("123"[item % 3])
                page.wait_for_function(
                    "() => document.querySelector('#status').textContent.startsWith('Saved')"
                )
                assert page.locator(planted).count() == 0
        for address in ("grid/0", "grid/2", "keys"):
            page.goto(f"http://127.0.0.1:{server.port}/{address}")
            assert page.locator(planted).count() == 0
        page.goto(f"http://127.0.0.1:{server.port}/keys")
        with page.expect_download() as download:
            page.click("text=decisions.csv")
        text = download.value.path().read_text(encoding="utf-8", errors="surrogateescape")
    rows = {row["file"]: row["label"] for row in csv.DictReader(text.splitlines(keepends=True))}
    assert rows == {
        name: HOSTILE_LABELS[(item % 3)] for item, name in enumerate(HOSTILE_NAMES, 1) if item > 4
    }


def test_no_name_turns_the_page_round(hostile, visit):
    """Marks of direction and bytes that are no text are written out."""
    with serving(hostile) as server:
        page = visit(server.address)
        for item, shown in ((8, "two\\nlines.png"), (9, "\\u202egnp.exe"), (10, "\\udcff\\udcfe.png")):
            page.goto(f"http://127.0.0.1:{server.port}/item/{item}")
            assert page.text_content(".name") == shown


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(run, visit, scheme):
    """Contrast, names, roles, headings and all else that axe can tell, on each page, dialogs included."""
    with serving(run) as server:
        for address in PAGES:
            page = opened(server, visit, address, color_scheme=scheme)
            found = {address: violations(page)}
            if address.startswith("item"):
                for key in "g?":
                    page.keyboard.press(key)
                    found[f"{address} {key}"] = violations(page)
                    page.keyboard.press("Escape")
                    page.wait_for_function("() => !document.querySelector('dialog[open]')")
            assert {name: what for name, what in found.items() if what} == {}


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_every_screen_is_wide_enough(run, visit, width):
    """Nothing is cut off or scrolled to sideways, at phone width and with 400 % zoom."""
    with serving(run) as server:
        for address in PAGES:
            page = opened(server, visit, address, viewport={"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            small = "all => all.filter((one) => one.checkVisibility() && one.offsetHeight < 24).length"
            assert page.locator("button, input").evaluate_all(small) == 0


def test_focus_is_seen_and_where_it_was(run, visit):
    """The focused button has an outline; after a click on it the next image's words get the focus."""
    with serving(run) as server:
        page = opened(server, visit, "item/5")
        button = page.locator("#card .classes button").first
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "To the image"
        button.focus()
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Tab")
        style = "getComputedStyle(document.activeElement).outlineStyle"
        assert page.evaluate(style) == "solid"
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.querySelector('#status').textContent.startsWith('Saved')")
        assert page.evaluate("document.activeElement.id") == "card-title"


def test_it_is_announced(run, visit):
    """A screen reader hears what was saved and which image is next, and what went wrong as an alert."""
    with serving(run) as server:
        page = opened(server, visit, "item/5")
        page.keyboard.press("2")
        page.wait_for_function("() => document.querySelector('#status').textContent.startsWith('Saved')")
        assert page.get_attribute("#status", "role") == "status"
        assert page.get_attribute("#alert", "role") == "alert"
        title = page.text_content("#card-title")
        assert page.text_content("#status") == f"Saved: birch. {title}"
        assert page.get_attribute("img.large", "alt") == f"{title.partition(':')[0]}, to be judged"


def test_nothing_can_be_decided_of_a_locked_image(run, visit):
    """A trusted, a held out and an unusable image are shown with the reason; keys say so."""
    with serving(run) as server:
        page = opened(server, visit, "item/1")
        for item in (1, 3, 4):
            page.goto(f"http://127.0.0.1:{server.port}/item/{item}")
            page.wait_for_url(f"**/item/{item}")
            assert page.locator("#card .classes button:not([disabled])").count() == 0
            for key in "a1s":
                page.keyboard.press(key)
                page.wait_for_function("() => document.querySelector('#alert').textContent != ''")
                assert page.text_content("#alert") == "This image cannot be decided."
        assert "0 of 36 decided" in page.text_content("#progress")


def test_what_a_window_did_is_of_the_run_that_it_did_it_in(run, visit):
    """Another run at the same address finds nothing of it: no undo takes back what was decided there."""
    with serving(run) as server:
        page = opened(server, visit, "item/5")
        page.keyboard.press("2")
        page.wait_for_function("() => document.querySelector('#status').textContent.startsWith('Saved')")
        of_run = page.get_attribute("body", "data-run")
        assert of_run == read_review_run(run).key
        assert {*page.evaluate("Object.keys(sessionStorage)")} == {
            f"{name} {of_run}" for name in ("client", "counts", "marked")
        }
