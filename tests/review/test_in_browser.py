"""A review as a person does it in Chromium: by keyboard, on any screen, with hostile names."""

import csv
import sqlite3

import pytest
from chromium import need_chromium, serving, serving_apart
from review_runs import TITLES, draw_images, write_run

from assay.data.decisions import NO_CLASS, State, read_states
from assay.review.keys import ACTIONS
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


@pytest.fixture(scope="module")
def shared(tmp_path_factory, images):
    """A server and its run, for the tests that do not end it; each decides images of its own."""
    run = write_run(tmp_path_factory.mktemp("shared") / "out", images=images)
    with serving(run) as server:
        yield server, run


def url(server, page: str) -> str:
    return f"http://127.0.0.1:{server.port}/{page}"


def item(page) -> int:
    return int(page.get_attribute("#card", "data-item"))


def until(page, condition: str) -> None:
    """Wait for a condition of JavaScript."""
    page.wait_for_function(f"() => {condition}")


def until_text(page, selector: str, text: str) -> None:
    until(page, f"document.querySelector('{selector}').textContent.includes('{text}')")


def press(page, key: str) -> int:
    """Press a key that goes to another image, and wait for it; the image that it was pressed on."""
    before = item(page)
    page.keyboard.press(key)
    until(page, f"Number(document.querySelector('#card').dataset.item) != {before}")
    return before


def close_dialog(page) -> None:
    page.keyboard.press("Escape")
    until(page, "!document.querySelector('dialog[open]')")


def labels(run) -> dict[int, str | None]:
    """Item -> label, of reviewed images, from the file."""
    states = read_states(run / "decisions.sqlite")
    return {int(name.removesuffix(".png")) + 1: one.label for name, one in states.items() if one.history}


@pytest.fixture
def new_labels(shared):
    """``labels`` without those of earlier tests on the shared run."""
    earlier = labels(shared[1])
    return lambda: {item: label for item, label in labels(shared[1]).items() if item not in earlier}


def violations(page) -> list[str]:
    """The rules that axe finds broken, with the elements."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response
    assert len(found["passes"]) > 10  # it did run
    return [f"{rule['id']}: {[node['html'] for node in rule['nodes']]}" for rule in found["violations"]]


def test_a_missing_browser_is_reported(monkeypatch):
    """Without Chromium these tests are skipped and say how to install it; in CI they fail."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="missing: chromium; apt-get install chromium"):
        need_chromium()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="missing: chromium"):
        need_chromium()


def test_reviews_by_keyboard(run, visit):
    """Each key decides the shown image; a reload in the middle loses nothing and keeps the image."""
    expected = {}
    with serving(run) as server:
        page = visit(server.address)
        for number, key in enumerate("123a1s3n21"):
            if number == 5:
                shown = item(page)
                page.reload()
                assert item(page) == shown
            proposed = TITLES[int(page.get_attribute("#card", "data-proposed"))]
            label = {"a": proposed, "s": None, "n": NO_CLASS}[key] if key in "asn" else TITLES[int(key) - 1]
            expected[press(page, key)] = label
        assert "9 of 36 decided, 1 skipped" in page.text_content("#progress")
    assert labels(run) == expected


def test_confirmed_decisions_survive_a_kill(run, visit):
    """The page reports that the server is gone; the next server has every decision, and another token."""
    with serving_apart(run) as server:
        page = visit(server.address)
        decided = {press(page, "1"): "ash", press(page, "2"): "birch"}
        server.kill()
        shown = item(page)
        page.keyboard.press("3")
        until_text(page, "#alert", "Not saved: no connection to the server")
        assert item(page) == shown
    assert labels(run) == decided
    with serving(run, server.port) as server:
        page.keyboard.press("3")  # with the old token
        until_text(page, "#alert", "token")
        page.goto(server.address)
        page.wait_for_url("**/item/*")
        assert "2 of 36 decided" in page.text_content("#progress")
        decided |= {press(page, "3"): "cedar"}
    assert labels(run) == decided


def test_saved_keys_work_in_every_window(run, visit):
    """Also after a restart; the old key does nothing, and single keys can be switched off."""
    with serving(run) as server:
        page = visit(server.address)
        keys = page.context.new_page()
        keys.goto(url(server, "keys"))
        keys.fill("input[name=class-0]", "x")
        keys.fill("input[name=accept]", "x")
        keys.keyboard.press("Enter")
        until_text(keys, "#alert", "used for both")
        keys.fill("input[name=class-0]", "a")
        keys.fill("input[name=skip]", "")
        keys.fill("input[name=class-2]", "")
        with keys.expect_request("**/keys") as sent, keys.expect_navigation():
            keys.keyboard.press("Enter")
        # Without actions, an empty request would restore the default keys.
        assert {"class-0", "class-1", *ACTIONS} == {*sent.value.post_data_json["keys"]}
        for _ in range(3):  # the next card was prefetched with the old keys
            press(page, "ArrowRight")
        decided = {press(page, "a"): "ash"}
        assert labels(run) == decided
    with serving(run) as server:
        page.goto(server.address)
        page.wait_for_url("**/item/*")
        page.keyboard.press("1")
        decided[press(page, "a")] = "ash"
        assert labels(run) == decided
        page.goto(url(server, "keys"))
        page.uncheck("#single-keys")
        page.goto(url(server, ""))
        page.keyboard.press("a")
        press(page, "ArrowRight")
        assert labels(run) == decided


def test_classes_that_are_letters_have_their_keys(tmp_path, images, visit):
    """With or without Shift; actions that would have had them have signs. The page reports the last image."""
    run = write_run(tmp_path / "few", [f"{row}.png" for row in range(10)], ("A", "S", "U"), images=images)
    with serving(run) as server:
        page = visit(server.address)
        expected = {press(page, key): key.upper() for key in ("a", "S", "u")}
        proposed = int(page.get_attribute("#card", "data-proposed"))
        expected[press(page, ".")] = "ASU"[proposed]
        expected[press(page, ",")] = None
        page.keyboard.press("s")
        until_text(page, "#status", "Saved: S. All images are reviewed.")
        assert "Decided: S" in page.text_content("#card")
        assert labels(run) == {**expected, item(page): "S"}
        page.keyboard.press("-")
        until_text(page, "#status", "Undone")
        assert labels(run) == expected
    with sqlite3.connect(run / "decisions.sqlite") as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    file.close()
    assert State() not in read_states(run / "decisions.sqlite").values()


def test_names_are_shown_as_text(tmp_path, visit):
    """Classes and files named like HTML or scripts do nothing; direction marks and bytes are written out."""
    draw_images(tmp_path / "images", HOSTILE_NAMES)
    run = write_run(tmp_path / "out", HOSTILE_NAMES, HOSTILE_LABELS, images=tmp_path / "images")
    written = {8: "two\\nlines.png", 9: "\\u202egnp.exe", 10: "\\udcff\\udcfe.png"}
    planted = "main svg, main script, [onerror], [onmouseover], [onload]"
    with serving(run) as server:
        page = visit(server.address)
        for number, name in enumerate(HOSTILE_NAMES, 1):
            page.goto(url(server, f"item/{number}"))
            assert page.locator(planted).count() == 0
            assert [page.text_content(f"[data-label='{i}'] span") for i in range(3)] == [*HOSTILE_LABELS]
            assert page.text_content(".name") == written.get(number, name)
            page.wait_for_load_state("load")
            if number > 4:
                page.keyboard.press("123"[number % 3])
                until_text(page, "#status", "Saved")
                assert page.locator(planted).count() == 0
        for address in ("grid/0", "grid/2", "keys"):
            page.goto(url(server, address))
            assert page.locator(planted).count() == 0
        with page.expect_download() as download:
            page.click("text=decisions.csv")
        text = download.value.path().read_text(encoding="utf-8", errors="surrogateescape")
    rows = {row["file"]: row["label"] for row in csv.DictReader(text.splitlines(keepends=True))}
    assert rows == {
        name: HOSTILE_LABELS[(number % 3)] for number, name in enumerate(HOSTILE_NAMES, 1) if number > 4
    }


@pytest.mark.parametrize(("scheme", "width"), [("light", 320), ("dark", 1280)])
def test_everybody_can_use_the_pages(shared, visit, scheme, width):
    """With axe's rules, also in dialogs; on phones and at 400 % zoom; with buttons of a finger's size."""
    server, _ = shared
    page = visit(server.address, color_scheme=scheme, viewport={"width": width, "height": 800})
    for address in PAGES:
        page.goto(url(server, address))
        page.wait_for_load_state("load")
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        small = "all => all.filter((one) => one.checkVisibility() && one.offsetHeight < 24).length"
        assert page.locator("button, input").evaluate_all(small) == 0
        for key in "g?" if address.startswith("item") else "":
            page.keyboard.press(key)
            assert violations(page) == [], key
            close_dialog(page)


def test_focus_and_announcements(shared, visit):
    """Focus is visible and goes to the next image's title; a screen reader announces what was saved."""
    server, run = shared
    page = visit(server.address)
    page.goto(url(server, "item/20"))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the image"
    page.locator("#card .classes button").nth(1).focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    until_text(page, "#status", "Saved")
    assert page.evaluate("document.activeElement.id") == "card-title"
    title = page.text_content("#card-title")
    assert page.text_content("#status") == f"Saved: birch. {title}"
    assert (page.get_attribute("#status", "role"), page.get_attribute("#alert", "role")) == (
        "status",
        "alert",
    )
    assert page.get_attribute("img.large", "alt") == title.partition(":")[0]
    # What a window keeps is named by its run: another one at this address must not undo these decisions.
    key = page.get_attribute("body", "data-run")
    assert key == read_review_run(run).key
    stored = {*page.evaluate("Object.keys(sessionStorage)")}
    assert stored == {f"{name} {key}" for name in ("client", "counts", "marked")}


def test_a_locked_image_cannot_be_decided(shared, visit, new_labels):
    """A trusted, a held-out and an unusable image: no button is enabled, and keys report it."""
    server, _ = shared
    page = visit(server.address)
    for number in (1, 3, 4):
        page.goto(url(server, f"item/{number}"))
        page.wait_for_url(f"**/item/{number}")
        assert page.locator("#card .classes button:not([disabled])").count() == 0
        for key in "a1s":
            page.keyboard.press(key)
            until_text(page, "#alert", "This image cannot be decided.")
    assert new_labels() == {}


def test_undo_jump_and_moving(shared, visit, new_labels):
    """Undo returns to the image; moving, searching and keys in a dialog decide nothing."""
    server, _ = shared
    page = visit(server.address)
    first = press(page, "1")
    press(page, "2")
    page.keyboard.press("u")
    until_text(page, "#status", "Undone")
    second = item(page)
    assert new_labels() == {first: "ash"}
    press(page, "j")
    press(page, "ArrowLeft")
    assert item(page) == second
    elsewhere = next(number for number in (18, 19) if number != second)
    page.keyboard.press("g")
    page.keyboard.type(f"{elsewhere - 1}.png")
    page.keyboard.press("Enter")
    until(page, f"document.querySelector('#card').dataset.item == {elsewhere}")
    page.keyboard.press("g")
    page.keyboard.type("no such image")
    page.keyboard.press("Enter")
    until_text(page, "#jump-error", "No image has this number or name.")
    close_dialog(page)
    page.keyboard.press("?")
    assert page.is_visible("#help")
    page.keyboard.press("3")
    close_dialog(page)
    assert item(page) == elsewhere
    assert new_labels() == {first: "ash"}


def test_two_windows_cannot_overwrite_each_other(shared, visit, new_labels):
    """The later one is shown the first one's decision; undo leaves it, reports it, and goes on before it."""
    server, _ = shared
    page = visit(server.address)
    before = press(page, "3")
    other, image = visit(server.address), item(page)
    assert item(other) == image
    press(page, "1")
    other.keyboard.press("2")
    until_text(other, "#alert", f"Not saved: mia decided image {image} in the meantime.")
    assert "Decided: ash" in other.text_content("#card")
    assert new_labels() == {before: "cedar", image: "ash"}
    press(other, "2")
    page.keyboard.press("u")
    until_text(page, "#alert", f"Not undone: mia has decided image {image} in the meantime.")
    assert item(page) == image
    assert new_labels() == {before: "cedar", image: "birch"}
    page.keyboard.press("u")
    until_text(page, "#status", "Undone")
    assert item(page) == before
    assert new_labels() == {image: "birch"}


def test_fifty_images_at_once(shared, visit, new_labels):
    """Marked images are not labelled and come one by one; one undo is for the whole page."""
    server, run = shared
    n_before = sum(label is not None for label in labels(run).values())
    page = visit(server.address)
    page.goto(url(server, "grid/1"))
    buttons = page.locator("#grid button")
    items = [int(text) for text in buttons.evaluate_all("all => all.map((one) => one.dataset.item)")]
    buttons.first.focus()
    for key in ("ArrowRight", "Space", "End", "Space", "Space", "Home", "Space"):
        page.keyboard.press(key)
    assert page.locator("#grid button[aria-pressed=true]").count() == 2
    page.keyboard.press("a")
    page.wait_for_url(f"**/item/{items[0]}")
    assert new_labels() == dict.fromkeys(items[2:], "birch")
    press(page, "1")
    assert item(page) == items[1]
    press(page, "3")
    assert new_labels() == {**dict.fromkeys(items[2:], "birch"), items[0]: "ash", items[1]: "cedar"}
    for left in (len(items) - 1, len(items) - 2, 0):
        page.keyboard.press("u")
        until_text(page, "#status", "Undone")
        until(page, f"document.querySelector('#progress').textContent.startsWith('{n_before + left} of')")
    assert new_labels() == {}


BOXES = """() => [...document.querySelectorAll(
  'header, #bar, #card-title, .proposal, .labels, .classes, .legend, .actions, .reasons, #card button'
)].map((one) => {
  const { x, y, width } = one.getBoundingClientRect();
  return [one.tagName, x, y, width, one.className === 'reasons' ? 0 : one.offsetHeight].join(' ');
})"""


def test_nothing_moves_between_images(shared, visit):
    """Open, trusted and held-out images, with and without a message: everything stays where it is."""
    server, _ = shared
    page = visit(server.address)

    def boxes():
        for width in (390, 1280, 1920):
            page.set_viewport_size({"width": width, "height": 900})
            yield page.evaluate(BOXES)

    found = []
    for number in (12, 7, 1, 3):
        page.goto(url(server, f"item/{number}"))
        page.wait_for_load_state("load")
        found.append([*boxes()])
    page.keyboard.press("1")
    until_text(page, "#alert", "This image cannot be decided.")
    assert [*found[1:], [*boxes()]] == [found[0]] * 4
    assert found[0][0] != found[0][1] != found[0][2]  # it was another width


def test_the_proposal_is_the_largest_word(shared, visit):
    """With its confidence as a number, the noisy label marked as such, and "None of these" as a decision."""
    server, run = shared
    page = visit(server.address)
    page.goto(url(server, "item/9"))  # row 8 of ash, whose noisy label is another one
    sizes = page.locator("#card *").evaluate_all(
        "all => all.map((one) => [parseFloat(getComputedStyle(one).fontSize), one.className])"
    )
    assert max(sizes)[1] == "proposal"
    found = read_review_run(run)
    assert page.text_content(".proposal") == f"{found.title(int(found.proposed[8]))}?"
    assert page.text_content(".confidence") == f"{100 * found.confidence[8]:.1f} %"
    noisy = page.locator(".labels .noisy")
    assert noisy.text_content().split(":") == ["Noisy label", found.title(int(found.noisy[8]))]
    assert noisy.evaluate("one => getComputedStyle(one).borderStyle") == "dashed"
    assert "None of these" in page.text_content("#card [data-action=none]")


def test_progress_is_n_of_m(shared, visit, new_labels):
    """The header counts what is reviewed, skipped images too."""
    server, run = shared
    page = visit(server.address)
    done, total = page.text_content("#count").removesuffix(" reviewed").split(" of ")
    assert int(total) == read_review_run(run).is_open.sum()
    for key in "sn":
        press(page, key)
    assert page.text_content("#count") == f"{int(done) + 2} of {total} reviewed"
    for _ in range(2):
        page.keyboard.press("u")
        until_text(page, "#status", "Undone")
    assert page.text_content("#count") == f"{done} of {total} reviewed"


def test_an_image_is_enlarged(shared, visit, new_labels):
    """By its key or a click, larger again by Enter or a click; keys decide nothing until it is closed."""
    server, _ = shared
    page = visit(server.address, viewport={"width": 1280, "height": 800})
    page.goto(url(server, "item/12"))
    page.wait_for_load_state("load")
    small = page.locator("#card img.large").bounding_box()
    page.keyboard.press("z")
    image = page.locator("#zoom img")
    assert image.bounding_box()["width"] > 1.4 * small["width"]
    width = image.bounding_box()["width"]
    page.keyboard.press("Enter")
    assert image.bounding_box()["width"] > 2 * width
    assert violations(page) == []
    page.keyboard.press("1")
    page.keyboard.press("z")
    assert not page.is_visible("#zoom")
    page.click(".picture")
    assert page.is_visible("#zoom")
    page.keyboard.press("Escape")
    assert not page.is_visible("#zoom")
    assert (item(page), new_labels()) == (12, {})
