"""The report as a browser shows it: readable by all, on any screen and on paper, asking nobody."""

import shutil

import pytest
from report_pages import HOSTILE_LABELS, HOSTILE_NAMES, rename

from assay.report.write import write_report

pytestmark = pytest.mark.slow

HIDDEN = """() => [...document.querySelectorAll('main *')].filter((one) => one.children.length === 0
  && one.textContent.trim() && !one.closest('svg') && !one.checkVisibility()).map((one) => one.outerHTML)"""

CUT = """() => [...document.querySelectorAll('main *')].filter((one) => !one.closest('svg, .hidden')
  && getComputedStyle(one).overflowX !== 'visible' && one.scrollWidth > one.clientWidth).length"""


@pytest.fixture(scope="module")
def report(finished, tmp_path_factory):
    return write_report(finished, tmp_path_factory.mktemp("report") / "report.html").page


@pytest.fixture(scope="module")
def hostile(finished, tmp_path_factory):
    """The report of a run whose classes and images are called what an attacker would call them."""
    place = tmp_path_factory.mktemp("hostile")
    shutil.copytree(finished, place / "out")
    rename(place / "out", place / "images", HOSTILE_LABELS, HOSTILE_NAMES)
    return write_report(place / "out", images=place / "images").page


@pytest.fixture(scope="module")
def visit(chrome):
    """Opens a page; at the end it has asked for nothing but itself, and nothing went wrong in it."""
    contexts, wrong = [], []

    def give(page, **options):
        context = chrome.new_context(**options)
        contexts.append(context)
        opened, address = context.new_page(), page.resolve().as_uri()
        opened.set_default_timeout(120_000)  # a busy machine is slow, and not wrong
        opened.on("console", lambda message: wrong.append(message.text))
        opened.on("pageerror", lambda error: wrong.append(str(error)))
        opened.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        opened.on(
            "request",
            lambda asked: wrong.append(asked.url) if not asked.url.startswith((address, "data:")) else None,
        )
        opened.goto(address)
        return opened

    yield give
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture(scope="module")
def page(visit, report):
    """The report, for tests that say how wide it is and leave it open."""
    return visit(report)


def violations(page) -> list[str]:
    """The rules that axe finds broken, with the elements."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response
    assert len(found["passes"]) > 10  # it did look
    return [f"{rule['id']}: {[node['html'] for node in rule['nodes']]}" for rule in found["violations"]]


def widths(page) -> tuple[int, int]:
    """What the page is wide, and what it has to be."""
    return tuple(page.evaluate("[document.documentElement.scrollWidth, innerWidth]"))


def test_everybody_can_read_it(page):
    """Headings, landmarks, tables, names of images, contrast: axe finds nothing, in light and dark."""
    grounds = set()
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        assert violations(page) == []
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2


@pytest.mark.parametrize("width", [320, 360, 1280])
def test_every_screen_is_wide_enough(page, width):
    """Nothing is scrolled to sideways but a table inside its frame, which the keyboard reaches."""
    page.set_viewport_size({"width": width, "height": 800})
    assert widths(page) == (width, width)
    frames = page.locator(".wide").evaluate_all("all => all.map((one) => one.tabIndex)")
    assert {*frames} == {0}
    sizes = page.locator("img.chart").evaluate_all("all => all.map((one) => one.clientWidth)")
    assert min(sizes) > 280


def test_paper_shows_all_that_the_screen_shows(report, visit):
    """On a sheet of paper nothing is hidden, cut off or left behind an edge, and the ground is white."""
    page = visit(report, viewport={"width": 718, "height": 1000}, color_scheme="dark")  # A4 and its margins
    page.emulate_media(media="print")
    assert page.evaluate(HIDDEN) == []
    assert page.evaluate(CUT) == 0
    assert widths(page)[0] <= 718
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 29, 31)"


def test_hostile_names_do_nothing(hostile, visit):
    """Names that are markup are text, in the page and in its pictures, and the page keeps its width."""
    page = visit(hostile, viewport={"width": 360, "height": 800})
    assert page.locator("main script, [onerror], [onload], [onmouseover]").count() == 0
    assert page.locator("main th", has_text=HOSTILE_LABELS[0]).count() > 0
    assert widths(page) == (360, 360)
    assert violations(page) == []


def test_every_image_is_shown(page):
    """The policy lets through what is inside the page."""
    seen = page.locator("img").evaluate_all("all => all.map((one) => one.complete && one.naturalWidth > 0)")
    assert len(seen) > 24
    assert all(seen)
    policy = page.locator("meta[http-equiv]").get_attribute("content")
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")


def test_the_contents_are_the_headings(page):
    """Each entry has the words of the heading that it leads to, in their order."""
    headings = page.locator("main h2").all_text_contents()
    assert page.locator("nav a").all_text_contents() == headings
    targets = "all => all.map((one) => document.querySelector(one.hash + ' h2').textContent)"
    assert page.locator("nav a").evaluate_all(targets) == headings


@pytest.mark.parametrize("width", [390, 1920])
def test_an_image_is_enlarged_by_keyboard(page, width):
    """Enter opens it with its labels, arrow keys go on in its gallery, Escape closes it again."""
    page.set_viewport_size({"width": width, "height": 800})
    first = page.locator(".enlarge").first
    first.focus()
    small = first.locator("img").bounding_box()["width"]
    page.keyboard.press("Enter")
    assert page.locator("#light").is_visible()
    n = page.locator(".gallery").first.locator(".enlarge").count()
    assert page.text_content("#light-place") == f"1 of {n}"
    assert page.locator("#light img").bounding_box()["width"] > 1.5 * small
    page.keyboard.press("ArrowRight")
    assert page.text_content("#light-place") == f"2 of {n}"
    shown = page.locator("#light .words").text_content()
    assert shown == page.locator(".gallery").first.locator("li .words").nth(1).text_content()
    assert violations(page) == []
    page.keyboard.press("Escape")
    assert not page.locator("#light").is_visible()
    assert page.evaluate("document.activeElement.className") == "enlarge"


def test_matrices_stand_beside_each_other_on_a_wide_screen(page):
    """At 1,920 pixels the page is used to its edges; on a phone they are below each other."""
    for width, rows in ((1920, 1), (390, 3)):
        page.set_viewport_size({"width": width, "height": 1000})
        tops = page.locator("#confusion table").evaluate_all(
            "all => all.map((one) => Math.round(one.getBoundingClientRect().top))"
        )
        assert len({*tops}) == rows
        right = page.locator("#confusion").bounding_box()
        assert right["x"] + right["width"] > 0.95 * width
