"""A whole review as a person does it, in the system's Chromium, by keyboard alone."""

import sqlite3

import pytest
from chromium import serving
from review_runs import TITLES, write_run

from assay.data.decision_store import State, read_states
from assay.review.keys import ACTIONS

pytestmark = pytest.mark.slow


def item(page) -> int:
    return int(page.get_attribute("#card", "data-item"))


def until(page, condition: str) -> None:
    """Wait for a condition of JavaScript."""
    page.wait_for_function(f"() => {condition}")


def press(page, key: str) -> int:
    """Press a key that decides, and wait for the acknowledgement; the image that it was for."""
    before = item(page)
    page.keyboard.press(key)
    page.wait_for_function(
        "before => Number(document.querySelector('#card').dataset.item) != before", arg=before
    )
    return before


def labels(run) -> dict[int, str | None]:
    """Item -> label, of those that were looked at, from the file."""
    states = read_states(run / "decisions.sqlite")
    return {
        int(name.removesuffix(".png")) + 1: state.label for name, state in states.items() if state.history
    }


def test_twenty_reviews_with_a_reload_in_the_middle(run, visit):
    """Each key is one decision of the image that was shown; a reload loses none and shows the same image."""
    expected = {}
    with serving(run) as server:
        page = visit(server.address)
        for number in range(20):
            if number == 10:
                shown = item(page)
                page.reload()
                assert item(page) == shown
            key = "123a12s312a3213s2123"[number]
            proposed = int(page.get_attribute("#card", "data-proposed"))
            label = {"a": TITLES[proposed], "s": None}.get(key) or (
                TITLES[int(key) - 1] if key.isdigit() else None
            )
            expected[press(page, key)] = label
        assert "18 of 36 decided, 2 skipped" in page.text_content("#progress")
        assert "Saved:" in page.text_content("#status")
        code, said = server.interrupt()
    assert (code, "18 of 36 decided, 2 skipped" in said) == (0, True)
    assert labels(run) == expected


def test_undo_jump_and_moving_about(run, visit):
    """Undo goes back to the image and takes its label away; moving decides nothing."""
    with serving(run) as server:
        page = visit(server.address)
        first = press(page, "1")
        press(page, "2")
        page.keyboard.press("u")
        until(page, "document.querySelector('#status').textContent.startsWith('Undone')")
        second = item(page)
        assert labels(run) == {first: "ash"}
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
        until(page, "document.querySelector('#jump-error').textContent != ''")
        page.keyboard.press("Escape")
        until(page, "!document.querySelector('dialog[open]')")
        page.keyboard.press("?")
        assert page.is_visible("#help")
        page.keyboard.press("3")  # in a dialog a key decides nothing
        page.keyboard.press("Escape")
        until(page, "!document.querySelector('dialog[open]')")
        assert item(page) == elsewhere
        assert labels(run) == {first: "ash"}


def test_what_was_acknowledged_survives_a_kill(run, visit):
    """The server dies right after it said 'saved': the row is there, the page says that it is alone."""
    with serving(run) as server:
        page = visit(server.address)
        decided = {press(page, "1"): "ash", press(page, "2"): "birch"}
        server.kill()
        shown = item(page)
        page.keyboard.press("3")
        until(page, "document.querySelector('#alert').textContent.startsWith('Not saved')")
        assert "the server does not answer" in page.text_content("#alert")
        assert item(page) == shown
        port = server.port
    assert labels(run) == decided
    with serving(run, "--port", port) as server:
        # The old window has the old secret, so it may not decide either.
        page.keyboard.press("3")
        until(page, "document.querySelector('#alert').textContent.includes('token')")
        page.goto(server.address)
        page.wait_for_url("**/item/*")
        assert "2 of 36 decided" in page.text_content("#progress")
        decided |= {press(page, "3"): "cedar"}
    assert labels(run) == decided


def test_two_tabs_cannot_overwrite_each_other(run, visit):
    """The later one is told who was first and shown how it is now; its next decision counts, also when the
    first one undoes: that is told so, and its next undo takes back what it decided before.
    """
    with serving(run) as server:
        page = visit(server.address)
        before = press(page, "3")
        other, image = visit(server.address), item(page)
        assert item(other) == image
        press(page, "1")
        other.keyboard.press("2")
        until(other, "document.querySelector('#alert').textContent != ''")
        assert f"Not saved: mia decided image {image} elsewhere" in other.text_content("#alert")
        assert "Decided: ash" in other.text_content("#card")
        assert labels(run) == {before: "cedar", image: "ash"}
        press(other, "2")
        page.keyboard.press("u")
        until(page, "document.querySelector('#alert').textContent.includes('not undone')")
        assert item(page) == image
        assert labels(run) == {before: "cedar", image: "birch"}
        page.keyboard.press("u")
        until(page, "document.querySelector('#status').textContent.startsWith('Undone')")
        assert item(page) == before
        assert labels(run) == {image: "birch"}
        rows = read_states(run / "decisions.sqlite")[f"{image - 1}.png"]
        assert rows.revision == 2


def test_fifty_at_once(run, visit):
    """Those that are marked stay open and come one by one; one undo takes the whole page back."""
    with serving(run) as server:
        page = visit(server.address)
        page.goto(f"http://127.0.0.1:{server.port}/grid/1")
        buttons = page.locator("#grid button")
        items = [int(text) for text in buttons.evaluate_all("all => all.map((one) => one.dataset.item)")]
        buttons.first.focus()
        for key in ("ArrowRight", "Space", "End", "Space", "Space", "Home", "Space"):
            page.keyboard.press(key)
        assert page.locator("#grid button[aria-pressed=true]").count() == 2
        page.keyboard.press("a")
        page.wait_for_url(f"**/item/{items[0]}")
        assert labels(run) == dict.fromkeys(items[2:], "birch")
        press(page, "1")
        assert item(page) == items[1]
        press(page, "3")
        assert labels(run) == {**dict.fromkeys(items[2:], "birch"), items[0]: "ash", items[1]: "cedar"}
        for left in (len(items) - 1, len(items) - 2, 0):
            page.keyboard.press("u")
            until(page, "document.querySelector('#status').textContent.startsWith('Undone')")
            assert page.text_content("#progress").startswith(f"{left} of")
        assert labels(run) == {}


def test_keys_can_be_chosen_and_switched_off(run, visit):
    """A new key works, the old one does nothing; the choice is there after a restart."""
    with serving(run) as server:
        page = visit(server.address)
        page.goto(f"http://127.0.0.1:{server.port}/keys")
        page.fill("input[name=class-0]", "x")
        page.fill("input[name=accept]", "x")
        page.keyboard.press("Enter")
        until(page, "document.querySelector('#alert').textContent.includes('for both')")
        page.fill("input[name=accept]", "A")
        page.fill("input[name=skip]", "")
        page.fill("input[name=class-2]", "")
        with page.expect_request("**/keys") as sent, page.expect_navigation():
            page.keyboard.press("Enter")
        # What has no key need not be sent, but for the actions: nothing at all means the usual keys.
        assert {"class-0", "class-1", *ACTIONS} == {*sent.value.post_data_json["keys"]}
    with serving(run) as server:
        page.goto(server.address)
        page.wait_for_url("**/item/*")
        first = item(page)
        page.keyboard.press("1")
        assert press(page, "x") == first
        assert labels(run) == {first: "ash"}
        page.goto(f"http://127.0.0.1:{server.port}/keys")
        page.uncheck("#single-keys")
        page.goto(f"http://127.0.0.1:{server.port}/")
        page.keyboard.press("x")
        press(page, "ArrowRight")
        assert labels(run) == {first: "ash"}


def test_keys_that_were_chosen_in_another_window_are_those_of_the_next_card(run, visit):
    """A key does what the card that is seen says, not what the page said when it was opened."""
    with serving(run) as server:
        page = visit(server.address)
        page.wait_for_url("**/item/*")
        other = page.context.new_page()
        other.goto(f"http://127.0.0.1:{server.port}/keys")
        other.fill("input[name=accept]", "x")
        other.fill("input[name=class-0]", "a")
        with other.expect_navigation():
            other.keyboard.press("Enter")
        # The next card was fetched before.
        for _ in range(3):
            press(page, "ArrowRight")
        assert page.get_attribute("#card .classes [data-label='0']", "data-key") == "a"
        decided = press(page, "a")
        assert labels(run) == {decided: "ash"}


def test_letters_of_images_are_typed_as_they_are(tmp_path, images, visit):
    """Classes that are letters have them, small or with Shift; the action that had one goes to a sign."""
    run = write_run(tmp_path / "letters", labels=("A", "S", "U"), images=images)
    with serving(run) as server:
        page = visit(server.address)
        expected = {press(page, key): key.upper() for key in ("a", "S", "u", "s")}
        proposed = int(page.get_attribute("#card", "data-proposed"))
        expected[press(page, ".")] = "ASU"[proposed]
        expected[press(page, ",")] = None
        assert labels(run) == expected
        page.keyboard.press("-")
        until(page, "document.querySelector('#status').textContent.startsWith('Undone')")
        assert len(labels(run)) == 5


def test_the_last_image_is_the_last(tmp_path, images, visit):
    """When nothing is left the page says so and stays."""
    run = write_run(tmp_path / "few", tuple(f"{row}.png" for row in range(6)), images=images)
    with serving(run) as server:
        page = visit(server.address)
        press(page, "1")
        page.keyboard.press("2")
        until(page, "document.querySelector('#status').textContent.includes('the last image')")
        assert "Decided: birch" in page.text_content("#card")
    assert list(labels(run).values()) == ["ash", "birch"]
    with sqlite3.connect(run / "decisions.sqlite") as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    file.close()
    assert State() not in read_states(run / "decisions.sqlite").values()
