"""The addresses of the page: what they answer, and what they refuse; its thumbnails."""

import asyncio
import csv
import importlib
import io
import re
import sys
import time
from dataclasses import dataclass, field

import pytest
from browser import HOST
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import picture, saved
from review_runs import TITLES, draw_images, write_run

from assay.data.dataset import Skipped
from assay.data.loader import draw_thumbnail
from assay.errors import BusyError, MissingExtraError
from assay.review.app import Thumbnails
from assay.review.pages import export, page_renderer
from assay.web.middleware import SECURITY_HEADERS

BEARER = {"authorization": "Bearer secret-of-this-run"}

ROUTES = {
    *(("GET", path) for path in ("/", "/item/5", "/card/5", "/grid/1", "/keys", "/find", "/progress")),
    *(("GET", path) for path in ("/image/5/small", "/export/review.js", "/static/review.js")),
    *(("POST", path) for path in ("/decide", "/undo", "/keys")),
}


def choice(item, label, revision=0):
    return {"item": item, "label": label, "revision": revision}


def decide(opened, *choices, client="one"):
    return opened.browser.post("/decide", {"client": client, "choices": [*choices]})


def test_the_routes_are_known(opened):
    """The framework adds no documentation, schema or folder of files."""
    filled = {"item": "5", "label": "1", "size": "small", "name": "review.js"}
    found = set()
    for route in opened.browser.app.app.routes:
        assert isinstance(route, APIRoute), f"{route}: not one of ours"
        path = re.sub(r"{(\w+)}", lambda match: filled[match[1]], route.path)
        found |= {(method, path) for method in route.methods}
    assert found == ROUTES


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (421, {"host": "evil.example", **BEARER}),
        (403, {"origin": "http://evil.example", **BEARER}),
        (403, {"origin": "null", **BEARER}),
        (403, {"sec-fetch-site": "cross-site", **BEARER}),
        (403, {"sec-fetch-site": "same-origin", "origin": f"http://{HOST}"}),
        (403, {}),
    ],
)
def test_every_route_is_guarded(opened, status, headers):
    """Another host, another page, or no token: refused, and the answer does not show the page."""
    for method, path in ROUTES:
        answer = opened.browser.ask(method, path, headers, b"{}")
        assert (answer.status, "· assay" in answer.text) == (status, False), (method, path)
    assert opened.session.store.states == {}


def test_other_methods_change_nothing(opened):
    """Even with the token they do not exist."""
    for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        for _, path in ROUTES:
            assert opened.browser.ask(method, path, BEARER, b"{}").status in (404, 405), (method, path)
    assert opened.session.store.states == {}


def test_every_route_has_the_security_headers(opened):
    """Errors too; a browser may keep images alone."""
    for method, path in [*ROUTES, ("GET", "/nothing"), ("GET", "/item/999")]:
        answer = opened.browser.ask(method, path, BEARER, b"{}")
        assert {name: answer.header(name) for name, _ in SECURITY_HEADERS} == dict(SECURITY_HEADERS)
        kept = "private, max-age=3600, immutable" if path.startswith("/image/") else "no-store"
        assert answer.header("cache-control") == kept, path


def test_the_first_page_shows_the_first_image(opened):
    """As its own page and its card do; nothing in the page is an inline script or style."""
    item = opened.session.first()
    page, one, card = (opened.browser.get(path).text for path in ("/", f"/item/{item}", f"/card/{item}"))
    assert page == one
    assert card.strip() in page
    assert f'data-item="{item}"' in card
    assert re.findall(r"<(?:script|style)[^>]*>[^<]", page) == []


@pytest.mark.parametrize(
    "path",
    [
        *("/item/0", "/item/-1", "/item/41", "/item/99999999999999999999999", "/item/x", "/item/1.5"),
        *("/item/%2e%2e", "/item/..%2f..%2fetc%2fpasswd", "/item/", "/item/5/..", "/card/0"),
        *("/grid/-1", "/grid/3", "/image/0/small", "/image/5/huge", "/image/../small", "/image/5/..%2f"),
        *("/image/-5/large", "/static/..%2f..%2fapp.py", "/static/app.py", "/static/"),
        *("/export/run.json", "/export/..%2frun.json", "/docs", "/redoc", "/openapi.json"),
        *("/favicon.ico", "/decide", "/.git/config"),
    ],
)
def test_an_unknown_address_is_not_found(opened, run, path):
    """The answer names no path of this machine and no image."""
    answer = opened.browser.get(path)
    assert answer.status in (404, 405, 422)
    assert str(run) not in answer.text
    assert ".png" not in answer.text
    assert len(answer.text) < 300


def test_a_confirmed_decision_is_on_disk(opened):
    """The answer has its revision, the next image and the progress; the card shows the decision."""
    first, second = (opened.session.order.rows[:2] + 1).tolist()
    answer = decide(opened, choice(first, 2))
    assert (answer.status, answer.json["results"]) == (200, [{"item": first, "stale": False, "revision": 1}])
    assert (answer.json["next"], answer.json["done"], answer.json["total"]) == (second, 1, 36)
    (row,) = (state.last for state in opened.session.store.states.values())
    assert (row.name, row.after, row.who, row.client) == (f"{first - 1}.png", TITLES[2], "mia", "one")
    assert 'Decided: </dt><dd title="cedar">' in opened.browser.get(f"/card/{first}").text
    decide(opened, choice(first, None, revision=1))
    assert 'Decided: </dt><dd title="skipped">' in opened.browser.get(f"/card/{first}").text


def test_a_stale_decision_is_a_conflict(opened):
    """409 and who was first, nothing written; of several, those that are not stale are written."""
    decide(opened, choice(10, 0), client="two")
    answer = decide(opened, choice(10, 1))
    assert answer.status == 409
    assert answer.json["results"] == [{"item": 10, "stale": True, "revision": 1, "by": "mia"}]
    answer = decide(opened, choice(10, 1), choice(11, None), choice(11, 2))
    assert answer.status == 200
    assert [result["stale"] for result in answer.json["results"]] == [True, False, True]
    labels = [(name, state.label) for name, state in opened.session.store.states.items()]
    assert labels == [("9.png", "ash"), ("10.png", None)]


def test_undo_is_for_the_decisions_of_one_window(opened):
    """As many as requested, newest first; 404 if none is left, 409 if another window decided since."""
    assert opened.browser.post("/undo", {"client": "one", "count": 2}).status == 404
    decide(opened, choice(10, 0), choice(11, 0), choice(12, 0))
    answer = opened.browser.post("/undo", {"client": "one", "count": 2})
    assert ([result["item"] for result in answer.json["results"]], answer.json["done"]) == ([12, 11], 1)
    decide(opened, choice(10, 1, revision=1), client="two")
    assert opened.browser.post("/undo", {"client": "one"}).status == 409
    assert opened.browser.post("/undo", {"client": "two", "count": 9}).json["results"][0]["item"] == 10


@pytest.mark.parametrize(
    ("item", "label", "status", "message"),
    [
        (1, 0, 422, "This image already has a trusted label"),
        (3, 0, 422, "in the holdout; its trusted label is not shown"),
        (4, 0, 422, "could not be used: truncated"),
        (12, 3, 422, "expected a class from 0 to 2, got 3"),
        (41, 0, 404, "no such image"),
    ],
)
def test_an_impossible_decision_is_refused(opened, item, label, status, message):
    """Nothing is written, not even the valid choices of the request."""
    answer = decide(opened, choice(10, 0), choice(item, label))
    assert (answer.status, message in answer.text) == (status, True)
    assert opened.session.store.states == {}


def test_keys_are_saved_and_restored(opened):
    """Saved keys are on the next page; an empty request restores the default ones."""
    default = opened.session.keys
    answer = opened.browser.post("/keys", {"keys": {"class-0": "x", "accept": "a"}})
    assert answer.json == {"keys": {"class-0": "x", "accept": "a"}}
    assert 'name="class-0" value="x"' in opened.browser.get("/keys").text
    assert not any("<kbd></kbd>" in opened.browser.get(path).text for path in ("/item/5", "/grid/1", "/keys"))
    assert opened.browser.post("/keys", {"keys": {"accept": "xy"}}).status == 422
    assert opened.browser.post("/keys", {"keys": {}}).json == {"keys": default}


def test_thousands_of_classes_may_have_keys(tmp_path, images, opener):
    """Most of them empty; an unknown class is refused."""
    opened = opener(write_run(tmp_path / "many", labels=[f"class {i}" for i in range(5_000)], images=images))
    keys = dict.fromkeys((f"class-{i}" for i in range(5_000)), "")
    answer = opened.browser.post("/keys", {"keys": {**keys, "class-4999": "x", "accept": "a"}})
    assert (answer.status, answer.json) == (200, {"keys": {"class-4999": "x", "accept": "a"}})
    assert opened.browser.post("/keys", {"keys": {"class-5000": "y"}}).status == 422


@pytest.mark.parametrize(("labels", "shown"), [("AJK", ["→", "←"]), (TITLES, ["j or →", "k or ←"])])
def test_the_help_shows_the_keys(tmp_path, images, opener, labels, shown):
    """Where classes are letters, the arrow keys alone move."""
    page = opener(write_run(tmp_path / "out", labels=[*labels], images=images)).browser.get("/item/5").text
    rows = re.findall(r"<tr><td>(.*)</td><td>(?:Next|Prev).*</td></tr>", page)
    assert [re.sub("</?kbd>", "", row) for row in rows] == shown


def test_files_are_offered_for_download(opened):
    """Decisions as CSV, and the labels to rely on."""
    decide(opened, choice(10, 0), choice(11, None))
    answer = opened.browser.get("/export/decisions.csv")
    assert answer.header("content-disposition") == 'attachment; filename="decisions.csv"'
    rows = [*csv.DictReader(io.StringIO(answer.text))]
    assert [(row["file"], row["label"]) for row in rows] == [("9.png", "ash"), ("10.png", "")]
    corrected = [*csv.DictReader(io.StringIO(opened.browser.get("/export/corrected.csv").text))]
    (row,) = (row for row in corrected if row["file"] == "9.png")
    assert (row["label"], row["confidence"], row["source"]) == ("ash", "1.0", "decided")
    assert {row["source"] for row in corrected} <= {"trusted", "holdout", "decided", "kept", "changed"}


BAD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("one"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["client", "choices", "item", "label", "revision", "count", "keys"]), inner
        )
    ),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(BAD, st.sampled_from(["/decide", "/undo", "/keys"]))
def test_no_json_breaks_the_server(opened, value, path):
    """NaN and huge numbers included."""
    assert opened.browser.post(path, value).status < 500


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[" * 100_000, b"1" * 10_000, b"\xff", b'{"client": "one", "choices": [NaN]}'],
    ids=["empty", "open", "deep", "long", "no text", "nan"],
)
@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded"])
def test_an_unexpected_body_is_refused(opened, body, kind):
    """Malformed, deep, or of another type: not repeated in the answer, nothing written."""
    for path in ("/decide", "/undo", "/keys"):
        answer = opened.browser.ask("POST", path, {"content-type": kind, **BEARER}, body)
        assert answer.status in (400, 422)
        assert len(answer.body) < 300
    assert opened.session.store.states == {}


@pytest.fixture
def own_run(tmp_path):
    """A run whose images and rows may be changed."""
    names = [f"{row}.png" for row in range(8)]
    draw_images(tmp_path / "images", names)
    return write_run(tmp_path / "out", names, images=tmp_path / "images")


def test_an_image_is_a_new_thumbnail(opened, images):
    """WebP, never the bytes of the file."""
    answer = opened.browser.get("/image/5/large?v=x")
    assert (answer.status, answer.header("content-type"), answer.body[:4]) == (200, "image/webp", b"RIFF")
    assert answer.body != (images / "4.png").read_bytes()


@pytest.mark.parametrize("reason", ["timeout", "crash"])
def test_an_image_that_ended_its_decoder_is_not_drawn(own_run, opener, reason):
    """It would end the server too."""
    lines = (own_run / "labels.csv").read_text().splitlines()
    lines[7] = ",".join([*lines[7].split(",")[:-2], reason, ""])
    (own_run / "labels.csv").write_text("\n".join(lines) + "\n")
    opened = opener(own_run)
    answer = opened.browser.get("/image/7/small")
    assert (answer.status, reason in answer.text) == (404, True)
    assert opened.browser.get("/image/6/small").status == 200


def test_a_link_out_of_the_folder_is_not_followed(own_run, tmp_path, opener):
    """Nothing of its target is sent."""
    draw_images(tmp_path, ["secret.png"])
    opened = opener(own_run)
    (tmp_path / "images" / "6.png").unlink()
    (tmp_path / "images" / "6.png").symlink_to(tmp_path / "secret.png")
    answer = opened.browser.get("/image/7/small")
    assert (answer.status, b"RIFF" in answer.body) == (404, False)


def test_only_the_page_needs_the_web_extra(session, monkeypatch):
    """Without it the message has the install line."""
    for name in ("jinja2", "fastapi"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "assay.review.app")
    with pytest.raises(MissingExtraError, match=r"jinja2, .*'\.\[web\]'"):
        page_renderer(session)
    with pytest.raises(MissingExtraError, match=r"fastapi, .*'\.\[web\]'"):
        importlib.import_module("assay.review.app")
    assert b"0.png,ash," in export(session, "corrected.csv")


@dataclass
class Bytes:
    """The same bytes for every row; records which rows were read."""

    data: bytes | Skipped
    wait_s: float = 0.0
    reads: list[int] = field(default_factory=list)

    def read(self, index):
        self.reads.append(index)
        time.sleep(self.wait_s)
        return self.data


@pytest.fixture
def source():
    return Bytes(saved(picture(40, 60)), wait_s=0.02)


@pytest.fixture
def thumbnails(source):
    """Of a source that counts what is read."""
    found = Thumbnails(source)
    yield found
    found.close()


def get(thumbnails, *rows):
    """Thumbnails of rows, requested at once; exceptions too."""

    async def all_rows():
        requests = (thumbnails.get(row, "small") for row in rows)
        return await asyncio.gather(*requests, return_exceptions=True)

    return asyncio.run(all_rows())


def test_an_image_is_drawn_once(thumbnails, source):
    """For requests at the same time and later ones."""
    assert len({*get(thumbnails, *[1] * 20), *get(thumbnails, 1)}) == 1
    assert source.reads == [1]


def test_waiting_requests_are_bounded(thumbnails, source):
    """Of a thousand at once some are drawn and the others refused; later ones are drawn again."""
    source.wait_s, thumbnails.max_waiting = 0.001, 50
    found = get(thumbnails, *range(1000))
    assert sum(isinstance(one, bytes) for one in found) == len(source.reads) == 50
    assert sum(isinstance(one, BusyError) for one in found) == 950
    assert isinstance(get(thumbnails, 999)[0], bytes)


def test_memory_is_bounded(thumbnails, source):
    """The thumbnails not requested lately are dropped."""
    thumbnails.memory_bytes = 3 * len(draw_thumbnail(source, 0, 160))
    source.reads.clear()
    for row in (1, 2, 3, 1, 4, 1, 2):
        get(thumbnails, row)
    assert source.reads == [1, 2, 3, 4, 2]


def test_an_image_that_comes_back_is_shown(thumbnails, source):
    """A reason for its absence is not kept."""
    data, source.data = source.data, Skipped("missing")
    assert get(thumbnails, 0) == [Skipped("missing")]
    source.data = data
    assert isinstance(get(thumbnails, 0)[0], bytes)


def test_a_closed_window_does_not_stop_the_drawing_for_others(thumbnails, source):
    """One of two requests for the same image is cancelled."""
    source.wait_s = 0.05

    async def both():
        first, second = (asyncio.ensure_future(thumbnails.get(0, "small")) for _ in range(2))
        await asyncio.sleep(0.01)
        first.cancel()
        return await second

    assert isinstance(asyncio.run(both()), bytes)
    assert source.reads == [0]
