"""The page's addresses: what they answer, and that nobody else is answered."""

import csv
import io
import json
import re

import pytest
from browser import HOST
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from review_runs import TITLES, write_run

from assay.web.middleware import SECURITY_HEADERS

BEARER = {"authorization": "Bearer secret-of-this-run"}

FILLED = {"item": "5", "label": "1", "size": "small", "name": "review.js"}


def routes(opened) -> list[tuple[str, str]]:
    """Each method with an address of each route."""
    found = []
    for route in opened.app.app.routes:
        assert isinstance(route, APIRoute), f"{route}: not one of ours"
        path = re.sub(r"{(\w+)}", lambda match: FILLED[match[1]], route.path)
        found += [(method, path) for method in sorted(route.methods)]
    return found


def choice(item, label, revision=0):
    return {"item": item, "label": label, "revision": revision}


def decide(opened, *choices, client="one"):
    return opened.browser.post("/decide", {"client": client, "choices": [*choices]})


def test_there_are_the_routes_that_were_meant(opened):
    """No documentation, no schema, no folder of files comes along with the framework."""
    assert {path for _, path in routes(opened)} == {
        "/",
        "/item/5",
        "/card/5",
        "/grid/1",
        "/keys",
        "/image/5/small",
        "/decide",
        "/undo",
        "/find",
        "/progress",
        "/export/review.js",
        "/static/review.js",
    }


def test_every_route_refuses_strangers(opened):
    """By default: a foreign host, a foreign page, a page without an origin, and who has no token."""
    cookie, bearer = opened.browser.cookies(), BEARER
    strangers = {
        421: [{"host": "evil.example", **cookie}, {"host": "localhost:1", **bearer}],
        403: [
            {"origin": "http://evil.example", **cookie},
            {"origin": "null", **cookie},
            {"origin": "null", **bearer},
            {"sec-fetch-site": "cross-site", **cookie},
            {"sec-fetch-site": "same-site", **bearer},
            {"sec-fetch-site": "same-origin", "origin": f"http://{HOST}"},
            {},
        ],
    }
    for method, path in routes(opened):
        for status, headers in [(code, one) for code, every in strangers.items() for one in every]:
            answer = opened.browser.ask(method, path, headers, b"{}")
            assert answer.status == status, (method, path, headers)
            assert opened.run_name not in answer.text
    assert opened.session.store.rows() == []


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods_change_nothing(opened, method):
    """Even for who has the token they are not there."""
    for _, path in routes(opened):
        assert opened.browser.ask(method, path, BEARER, b"{}").status in (404, 405)
    assert opened.session.store.rows() == []


def test_every_route_has_the_security_headers(opened):
    """Pages, images, files, refusals and errors; only images may be kept, and by this browser alone."""
    for method, path in [*routes(opened), ("GET", "/nothing"), ("GET", "/item/999")]:
        answer = opened.browser.ask(method, path, BEARER, b"{}")
        assert {name: answer.header(name) for name, _ in SECURITY_HEADERS} == dict(SECURITY_HEADERS)
        kept = path.startswith("/image/")
        assert answer.header("cache-control") == (
            "private, max-age=3600, immutable" if kept else "no-store"
        ), path


def test_the_pages_say_where_one_is(opened):
    """The first page shows the first image of the queue; a page of its own and its part say the same."""
    item = opened.session.first()
    page, one, card = (opened.browser.get(path).text for path in ("/", f"/item/{item}", f"/card/{item}"))
    assert page == one
    assert card.strip() in page
    assert f'data-item="{item}"' in card
    assert "<script src=" in page
    assert re.findall(r"<(?:script|style)[^>]*>[^<]", page) == []  # nothing inline


@pytest.mark.parametrize(
    "path",
    [
        *("/item/0", "/item/-1", "/item/41", "/item/99999999999999999999999", "/item/x", "/item/1.5"),
        *(
            "/item/%2e%2e",
            "/item/..%2f..%2fetc%2fpasswd",
            "/item/",
            "/item/5/..",
            "/card/0",
            "/grid/-1",
            "/grid/3",
        ),
        *("/image/0/small", "/image/5/huge", "/image/../small", "/image/5/..%2f", "/image/-5/large"),
        *(
            "/static/..%2f..%2fapp.py",
            "/static/app.py",
            "/static/",
            "/export/run.json",
            "/export/..%2frun.json",
        ),
        *("/docs", "/redoc", "/openapi.json", "/favicon.ico", "/decide", "/.git/config"),
    ],
)
def test_what_there_is_not_is_not_found(opened, run, path):
    """The answer names neither a path of this machine nor another image."""
    answer = opened.browser.get(path)
    assert answer.status in (404, 405, 422)
    assert str(run) not in answer.text
    assert ".png" not in answer.text
    assert len(answer.text) < 300


def test_a_decision_is_acknowledged_when_it_is_on_the_disk(opened):
    """The answer has the new revision, the next image and how far it is; the row is in the file by then."""
    order = (opened.session.order.rows + 1).tolist()
    answer = decide(opened, choice(order[0], 2))
    assert answer.status == 200
    assert answer.json["results"] == [{"item": order[0], "stale": False, "revision": 1}]
    assert (answer.json["next"], answer.json["done"], answer.json["total"]) == (order[1], 1, 36)
    (row,) = opened.session.store.rows()
    assert (row.name, row.after, row.who, row.client) == (f"{order[0] - 1}.png", TITLES[2], "mia", "one")


def test_a_stale_decision_is_a_conflict(opened):
    """409, who was first, and nothing written; among several, those that are not stale are."""
    decide(opened, choice(10, 0), client="two")
    answer = decide(opened, choice(10, 1))
    assert answer.status == 409
    assert answer.json["results"] == [{"item": 10, "stale": True, "revision": 1, "by": "mia"}]
    answer = decide(opened, choice(10, 1), choice(11, None))
    assert answer.status == 200
    assert [result["stale"] for result in answer.json["results"]] == [True, False]
    assert [(row.name, row.after) for row in opened.session.store.rows()] == [
        ("9.png", "ash"),
        ("10.png", None),
    ]


def test_undo_takes_back_ones_own(opened):
    """Up to as many as asked for; 404 once nothing is left, 409 if another window was there since."""
    undo = {"client": "one", "count": 2}
    assert opened.browser.post("/undo", undo).status == 404
    decide(opened, choice(10, 0), choice(11, 0), choice(12, 0))
    answer = opened.browser.post("/undo", undo)
    assert [result["item"] for result in answer.json["results"]] == [12, 11]
    assert answer.json["done"] == 1
    decide(opened, choice(10, 1, revision=1), client="two")
    assert opened.browser.post("/undo", {"client": "one"}).status == 409


def test_what_cannot_be_decided_is_refused_with_words(opened):
    """A locked image, a class that there is not, an image that there is not: nothing is written."""
    assert "trusted label" in decide(opened, choice(1, 0)).json["error"]
    assert decide(opened, choice(10, 3)).status == 422
    assert decide(opened, choice(10, 0), choice(41, 0)).status == 404
    assert opened.session.store.rows() == []


def test_keys_are_kept(opened):
    """What was chosen is on the next page; an empty choice means the usual ones."""
    usual = opened.session.keys
    answer = opened.browser.post("/keys", {"keys": {"class-0": "x", "accept": "a"}})
    assert answer.json == {"keys": {"class-0": "x", "accept": "a"}}
    assert 'name="class-0" value="x"' in opened.browser.get("/keys").text
    assert opened.browser.post("/keys", {"keys": {"accept": "xy"}}).status == 422
    assert opened.browser.post("/keys", {"keys": {}}).json == {"keys": usual}


def test_keys_are_kept_of_any_number_of_classes(tmp_path, images, opener):
    """Of thousands most have no key; what is no class of the run is refused as ever."""
    opened = opener(write_run(tmp_path / "many", labels=[f"class {i}" for i in range(5_000)], images=images))
    keys = dict.fromkeys((f"class-{i}" for i in range(5_000)), "")
    answer = opened.browser.post("/keys", {"keys": {**keys, "class-4999": "x", "accept": "a"}})
    assert (answer.status, answer.json) == (200, {"keys": {"class-4999": "x", "accept": "a"}})
    assert opened.browser.post("/keys", {"keys": {"class-5000": "y"}}).status == 422
    assert opened.session.keys == {"class-4999": "x", "accept": "a"}


def test_only_keys_that_there_are_are_shown(tmp_path, images, opener):
    """Where classes are letters the arrow keys alone move, and no page has an empty key."""
    opened = opener(write_run(tmp_path / "letters", labels=[*"AJK"], images=images))
    page = opened.browser.get("/item/5").text
    assert 'data-key="j"' in page
    assert 'data-key-accept="." ' in page
    assert re.findall(r"<tr><td>(.*)</td><td>(?:Next|Prev).*</td></tr>", page) == [
        "<kbd>→</kbd>",
        "<kbd>←</kbd>",
    ]
    assert (
        "<kbd>j</kbd> or <kbd>→</kbd>"
        in opener(write_run(tmp_path / "words", images=images)).browser.get("/item/5").text
    )
    opened.browser.post("/keys", {"keys": {"class-0": "x"}})
    assert not any("<kbd></kbd>" in opened.browser.get(path).text for path in ("/item/5", "/grid/1", "/keys"))


def test_files_can_be_had_from_the_page(opened):
    """Decisions as CSV and Label Studio's JSON, and a corrected label for every image."""
    decide(opened, choice(10, 0), choice(11, None))
    answer = opened.browser.get("/export/decisions.csv")
    assert answer.header("content-disposition") == 'attachment; filename="decisions.csv"'
    rows = [*csv.DictReader(io.StringIO(answer.text))]
    assert [(row["file"], row["label"]) for row in rows] == [("9.png", "ash"), ("10.png", "")]
    tasks = json.loads(opened.browser.get("/export/label-studio.json").body)
    assert [task["data"]["image"] for task in tasks] == ["9.png", "10.png"]
    corrected = [*csv.DictReader(io.StringIO(opened.browser.get("/export/corrected.csv").text))]
    assert len(corrected) == 40
    assert corrected[9] == {"file": "9.png", "label": "ash", "source": "decided"}


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
def test_nothing_that_is_sent_breaks_the_server(opened, value, path):
    """Any JSON, NaN and huge numbers included, has an answer that is no fault of the server."""
    assert opened.browser.post(path, value).status < 500


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b"1" * 10_000,
        b"\xff",
        b'{"client": NaN}',
        b'{"client": "one", "choices": [NaN]}',
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded"])
def test_a_body_that_is_no_request_is_refused(opened, body, kind):
    """Malformed, deep, or of another type; nothing of it is repeated, nothing is written."""
    for path in ("/decide", "/undo", "/keys"):
        answer = opened.browser.ask("POST", path, {"content-type": kind, **BEARER}, body)
        assert answer.status in (400, 422)
        assert len(answer.body) < 300
    assert opened.session.store.rows() == []
