"""assay serve: image files and tensors over HTTP."""

import asyncio
import gc
import json
import tracemalloc
from dataclasses import replace
from io import BytesIO
from itertools import product

import numpy as np
import psutil
import pytest

pytest.importorskip("fastapi")

from browser import HOST, Browser, run_beside, send
from misbehaving import decode_or_behave
from PIL import Image
from small_runs import CLASSES

from assay.data.workers import DecoderPool
from assay.errors import UsageError
from assay.predict.predictor import load_model
from assay.predict.runtime import load_runtime
from assay.serve.app import MAX_FILES, Service, make_app
from assay.serve.protocol import read_request
from assay.web.listen import listen
from assay.web.middleware import Guard

THRESHOLDS = {"0.9": 0.2, "0.95": 0.0}


@pytest.fixture(scope="module")
def runtime(model):
    """The model, with thresholds for sets."""
    return replace(load_runtime(model), thresholds=THRESHOLDS)


@pytest.fixture(scope="module")
def client(runtime):
    """A program that asks it, past the guard."""
    app = Guard(make_app(Service(runtime, "trees")), port=8765, token=None, max_body_bytes=200_000)
    found = Browser(app)
    yield found
    found.close()


def post(client, path, body, **headers):
    return client.ask("POST", path, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def form(*files):
    """A form with files, and its headers."""
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="'
        + name.encode()
        + b'"\r\n\r\n'
        + data
        for name, data in files
    ]
    return b"\r\n".join([*parts, b"--x--\r\n"]), {"content_type": "multipart/form-data; boundary=x"}


STRANGE = (*form(("é-+2AA-.png", b"x")), "multipart/form-data; boundary=x; charset=")
"""A form whose name is in no encoding that there is, once a charset is put after it."""


def test_a_name_that_is_no_text_is_answered(client):
    """A half of a character that needs two cannot be written as UTF-8."""
    found = post(client, "/predict", STRANGE[0], content_type=STRANGE[2] + "utf-7")
    assert (found.status, found.json["predictions"][0]["status"]) == (200, "not_an_image")


def test_an_image_gets_its_label(client, model, new_images):
    """The body is the file; the answer is what assay predict says."""
    expected = load_model(model).predict(new_images)
    found = post(client, "/predict?top=2", (new_images / "5.png").read_bytes())
    assert found.status == 200
    assert found.json["label"] == CLASSES[2]
    assert found.json["status"] == "ok"
    assert found.json["probability"] == pytest.approx(expected.confidence[0], abs=1e-4)
    assert found.json["top"][0]["label"] == CLASSES[2]
    assert len(found.json["top"]) == 2


def test_several_files_in_a_form_get_a_row_each(client, new_images):
    """In order, under their names; one that is no image does not spoil the others."""
    names = ("5.png", "empty.png", "6.png")
    body, headers = form(*((name, (new_images / name).read_bytes()) for name in names))
    found = post(client, "/predict", body, **headers)
    rows = found.json["predictions"]
    assert [row["file"] for row in rows] == list(names)
    assert [row["label"] for row in rows] == [CLASSES[2], None, CLASSES[0]]
    assert [row["status"] for row in rows] == ["ok", "empty_file", "ok"]
    assert [len(row["top"]) for row in rows] == [1, 0, 1]


def test_a_minimum_confidence_and_sets_are_answered(client, new_images):
    """As assay predict does for the same options."""
    image = (new_images / "5.png").read_bytes()
    unsure = post(client, "/predict?min_confidence=1", image)
    assert (unsure.status, unsure.json["label"], unsure.json["status"]) == (200, None, "unsure")
    wide = post(client, "/predict?coverage=0.95", image).json
    assert sorted(wide["set"]) == sorted(CLASSES)
    assert wide["set"][0] == wide["label"]
    refused = post(client, "/predict?coverage=0.99", image)
    assert refused.status == 409
    assert "at most 0.95" in refused.json["error"]


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "words"),
    [
        ("/predict", b"", {}, 400, "expected an image file as the body"),
        ("/predict", b"no image", {}, 422, "expected an image, got one that is not_an_image"),
        ("/predict?min_confidence=2", b"x", {}, 422, "query.min_confidence"),
        ("/predict?coverage=nan", b"x", {}, 422, "query.coverage"),
        ("/predict?top=0", b"x", {}, 422, "query.top"),
        ("/predict", b"broken", {"content_type": "multipart/form-data; boundary=x"}, 400, "form"),
        ("/predict", b"broken", {"content_type": "multipart/form-data"}, 400, "form"),
        (
            "/predict",
            form(("a.png", b"x"))[0][:-4],
            form()[1],
            400,
            "form: expected the boundary that ends it",
        ),
        (
            "/predict",
            STRANGE[0],
            STRANGE[1] | {"content_type": STRANGE[2] + "undefined"},
            400,
            "form: expected UTF-8",
        ),
        ("/predict", form()[0], form()[1], 400, "expected image files in the form, got none"),
        ("/predict", form(*[("a.png", b"")] * (MAX_FILES + 1))[0], form()[1], 400, "form: Too many files"),
        ("/predict", b"x" * 200_001, {}, 413, "expected at most 200,000 bytes"),
        ("/v2/models/trees/infer", b"{", {}, 422, "truncated"),
        ("/v2/models/trees/infer", b"{}", {}, 422, "inputs"),
        ("/v2/models/other/infer", b"{}", {}, 404, "there is no such model; this server has 'trees'"),
        ("/v2/models/trees/versions/0/infer", b"{}", {}, 404, "there is no such version"),
        (
            "/v2/models/trees/infer",
            b"{}",
            {"inference_header_content_length": "3"},
            422,
            "at most the 2 bytes",
        ),
        ("/nothing", b"", {}, 404, "Not Found"),
    ],
)
def test_what_is_not_understood_is_refused(client, path, body, headers, status, words):
    """With a status of its own and a line that says what was expected."""
    found = post(client, path, body, **headers)
    assert found.status == status
    assert words in found.text


def test_images_have_so_many_pixels_at_most(runtime):
    """Fault 62: one by its header, before a pixel is decoded; all of a form four times as many, or 413."""
    buffer = BytesIO()
    Image.new("1", (1001, 1000)).save(buffer, "PNG")
    image, browser = buffer.getvalue(), Browser(make_app(Service(runtime, "trees", max_pixels=1_001_000)))
    found = [post(browser, "/predict", form(*[("a.png", image)] * n)[0], **form()[1]) for n in (4, 5)]
    smaller = Browser(make_app(Service(runtime, "trees", max_pixels=1_000_999)))
    huge = post(smaller, "/predict", image)
    for one in (browser, smaller):
        one.close()
    assert [one.status for one in found] == [200, 413]
    assert found[1].json["error"] == "form: expected at most 4,004,000 pixels in all images, got 5,005,000"
    assert (huge.status, huge.json["status"]) == (422, "too_many_pixels")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"host": HOST, "origin": "https://evil.example"}, 403),
        ({"host": HOST, "sec-fetch-site": "cross-site"}, 403),
        ({"host": HOST, "origin": "null"}, 403),
        ({"host": HOST}, 200),
    ],
)
def test_other_pages_are_not_answered(client, headers, status):
    """A program needs neither token nor type; a page of another site is refused whatever type it sends."""
    assert client.ask("GET", "/v2/health/live", headers).status == status
    body = json.dumps(tensors(np.zeros((1, 32, 32, 3), np.uint8))).encode()
    for kind in ({}, {"content-type": "text/plain"}):
        assert client.ask("POST", "/v2/models/trees/infer", headers | kind, body).status == status


def tensors(images, outputs=(), **more):
    data = {"name": "images", "shape": images.shape, "datatype": "UINT8", "data": images.ravel().tolist()}
    return {"id": "7", "inputs": [data | more], "outputs": outputs}


def infer(client, asked):
    return post(client, "/v2/models/trees/infer", json.dumps(asked).encode())


def test_nested_tensors_get_probabilities(client, runtime):
    """The graph's own answer, as for the flat ones of the reference client."""
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    found = infer(client, tensors(images, data=images.tolist())).json
    (output,) = found["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("probabilities", "FP32", [2, 3])
    expected = runtime.probabilities(images)
    assert np.array(output["data"]).reshape(2, 3) == pytest.approx(expected, abs=1e-5)
    assert (found["model_name"], found["model_version"]) == ("trees", runtime.digest[:12])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"name": "x"}, "expected images UINT8 [N, 32, 32, 3], got x UINT8"),
        ({"datatype": "FP32"}, "got images FP32"),
        ({"shape": [1, 31, 32, 3]}, "got images UINT8 [1, 31, 32, 3]"),
        ({"shape": [1, 32, 32]}, "Expected `array` of length 4"),
        ({"shape": [2, 32, 32, 3]}, "expected 6,144 whole numbers"),
        ({"shape": [0, 32, 32, 3]}, "expected from 1 to 256 images, got 0"),
        ({"shape": [-1, 32, 32, 3]}, "expected from 1 to 256 images, got -1"),
        (
            {"data": [0.5] * 3072},
            "whole numbers from 0 to 255 for images UINT8 [N, 32, 32, 3] (Expected `int`",
        ),
        ({"data": [256] * 3072}, "whole numbers from 0 to 255"),
        ({"data": [-1] * 3072}, "whole numbers from 0 to 255"),
        ({"data": [2**70] * 3072}, "whole numbers from 0 to 255"),
        ({"data": ["a"] * 3072}, "got `str`"),
        ({"data": [True] * 3072}, "got `bool`"),
        ({"data": [[], *[1] * 3071]}, "whole numbers from 0 to 255"),
        ({"data": [[1], [2, 3]]}, "expected 3,072 whole numbers"),
        ({"data": {}}, "expected 3,072 whole numbers"),
        ({"data": [], "parameters": {"binary_data_size": 3072}}, "expected 3,072 bytes"),
        ({"outputs": [{"name": "x"}]}, "outputs: expected probabilities without classification, got x"),
        ({"outputs": [{"name": "probabilities", "parameters": {"classification": 2}}]}, "classification"),
        (
            {"outputs": [{"name": "probabilities"}] * 1000},
            "outputs: expected at most probabilities",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused(client, more, words):
    """With what was expected and what came."""
    found = infer(client, tensors(np.zeros((1, 32, 32, 3), np.uint8), **more))
    assert found.status == 422
    assert words in found.json["error"]


LISTS = ("[" * 1_000_000, "[" + "[[]]," * 200_000 + "1]", "[" + "1," * 500_000 + "1]")


@pytest.mark.parametrize("data", LISTS)
def test_lists_beyond_the_shape_take_no_memory(data):
    """Fault 62: a body of megabytes is not made into objects before its numbers are counted."""
    tensor = f'{{"name":"images","shape":[1,32,32,3],"datatype":"UINT8","data":{data}'
    body = f'{{"inputs":[{tensor}}}]}}'.encode()
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"expected 3,072|lists in lists"):
        read_request(body, None, 32)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4 * len(body)


def test_memory_is_given_back_after_an_attack(runtime):
    """Fault 62: eighty megabytes of lists leave the process as large as the first few did."""
    app = Guard(make_app(Service(runtime, "trees")), port=8765, token=None, max_body_bytes=10_000_000)
    asked = Browser(app)
    start = '{"inputs":[{"name":"images","shape":[1,32,32,3],"datatype":"UINT8","data":'
    bodies = [f"{start}{4 * data}}}]}}".encode() for data in LISTS]
    grown = []
    for _ in range(6):
        for body in bodies:
            assert post(asked, "/v2/models/trees/infer", body, content_type="application/json").status == 422
        gc.collect()
        grown.append(psutil.Process().memory_info().rss)
    asked.close()
    assert grown[-1] - grown[1] < 30 * 2**20


def test_the_reference_client_infers(runtime):
    """Fault 61: tritonclient reads the metadata, and gets the graph's own answer as JSON and as bytes."""
    triton = pytest.importorskip("tritonclient.http")
    images = np.random.default_rng(2).integers(0, 256, (2, 32, 32, 3), np.uint8)

    def ask(port):
        with triton.InferenceServerClient(f"127.0.0.1:{port}") as asked:
            assert asked.is_server_live()
            assert asked.is_model_ready("trees")
            found = asked.get_model_metadata("trees")
            (tensor,), (output,), (version,) = found["inputs"], found["outputs"], found["versions"]
            shape = [2, *tensor["shape"][1:]]
            for binary_in, binary_out, named in product((True, False), (True, False, None), ("", version)):
                given = triton.InferInput(tensor["name"], shape, tensor["datatype"])
                given.set_data_from_numpy(images, binary_data=binary_in)
                wanted = binary_out is not None and [triton.InferRequestedOutput(output["name"], binary_out)]
                yield asked.infer("trees", [given], named, wanted or None, "7")

    async def talk(port):
        return await asyncio.to_thread(lambda: [*ask(port)])

    with listen("127.0.0.1", 0) as listener:
        app = Guard(make_app(Service(runtime, "trees")), port=listener.getsockname()[1], token=None)
        answers = run_beside(listener, app, talk)
    assert len(answers) == 12
    for found in answers:
        assert found.as_numpy("probabilities") == pytest.approx(runtime.probabilities(images), abs=1e-6)
        assert found.get_response()["id"] == "7"


def test_the_protocol_describes_server_and_model(client):
    """Health, metadata, and 404 for other models."""
    assert client.get("/v2").json["name"] == "assay"
    assert client.get("/v2/health/live").json == {"live": True}
    assert client.get("/v2/health/ready").json == {"ready": True}
    assert client.get("/v2/models/trees/ready").json == {"name": "trees", "ready": True}
    found = client.get("/v2/models/trees").json
    assert found["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, 32, 32, 3]}]
    assert found["parameters"]["labels"] == list(CLASSES)
    assert found["parameters"]["pixels"] == (
        "RGB from 0 to 255, rows from the top, in terms of Pillow: bicubic: draft(None, (size, size)), which "
        "reduces JPEG alone; upright by EXIF, sRGB, transparent pixels over white; the whole image by "
        "resize((size, size), BICUBIC), aspect ratio not kept; size = 32"
    )
    assert client.get("/v2").json["extensions"] == ["binary_tensor_data"]
    assert client.get(f"/v2/models/trees/versions/{found['versions'][0]}").json == found
    assert client.get("/v2/models/other").status == 404
    assert {"/predict", "/v2/models/{name}/infer", "/metrics"} < {*client.get("/openapi.json").json["paths"]}


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (RuntimeError("no such kernel"), 500, "no such kernel"),
        (MemoryError(), 503, "this machine is out of memory; send fewer or smaller images"),
    ],
)
def test_a_model_that_cannot_run_is_an_error(runtime, new_images, error, status, words):
    """With its words, and the next request is answered."""

    class Broken:
        errors = [error]  # noqa: RUF012  # of one session

        def run(self, *asked):
            if self.errors:
                raise self.errors.pop()
            return runtime.session.run(*asked)

    browser = Browser(make_app(Service(replace(runtime, session=Broken()), "trees")))
    first, second = (post(browser, "/predict", (new_images / "5.png").read_bytes()) for _ in range(2))
    browser.close()
    assert (first.status, words in first.json["error"], second.status) == (status, True, 200)


@pytest.fixture(scope="module")
def planted(runtime):
    """A service with processes of its own, begun as by a server, that do what planted files say."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assay.serve.app.DecoderPool", DecoderPool)
        patch.setattr("assay.serve.app.decode", decode_or_behave)
        patch.setattr("assay.serve.app.QUICK_S", 0.5)
        app = make_app(Service(runtime, "trees", 1))
    browser, running = Browser(Guard(app, port=8765, token=None)), app.router.lifespan_context(app)
    browser.loop.run_until_complete(running.__aenter__())
    yield browser
    browser.loop.run_until_complete(running.__aexit__(None, None, None))
    browser.close()


def ask_together(browser, *asked):
    """The answers in the order of their arrival, by number."""
    order = []

    async def one(number, path, body, headers):
        method = "POST" if body else "GET"
        answer = await send(browser.app, method, path, [("host", HOST), *headers.items()], [body])
        order.append((number, answer))

    async def all_of_them():
        await asyncio.gather(*(one(number, *each) for number, each in enumerate(asked)))

    browser.loop.run_until_complete(all_of_them())
    return order


def test_an_image_that_crashes_or_hangs_its_decoder_costs_that_image(planted, new_images, monkeypatch):
    """Fault 63: it gets 422, the others of a form their labels, and meanwhile the service is ready."""
    monkeypatch.setattr("assay.serve.app.READY_S", 30)  # this machine may be busy
    image = (new_images / "5.png").read_bytes()
    body, headers = form(("a.png", b"crash"), ("b.png", image))
    rows = post(planted, "/predict", body, **headers).json["predictions"]
    assert [row["status"] for row in rows] == ["crash", "ok"]
    hangs = [("/predict", b"loop:%d" % number, {}) for number in range(2)]
    order = ask_together(planted, *hangs, ("/v2/health/ready", b"", {}), ("/predict", image, {}))
    assert {number for number, _ in order[:2]} == {2, 3}
    answers = dict(order)
    assert [answers[n].status for n in range(4)] == [422, 422, 200, 200]
    assert answers[0].json["status"] == "timeout"


def test_a_small_request_does_not_wait_for_a_whole_form(planted, new_images):
    """Fault 62: images of requests are decoded by turns."""
    body, headers = form(*[(f"{number}.png", b"nap:%d" % number) for number in range(6)])
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    asked = ("/predict", (new_images / "5.png").read_bytes(), {})
    order = ask_together(planted, ("/predict", body, named), asked)
    assert [number for number, _ in order] == [1, 0]


def test_a_service_that_cannot_predict_is_not_ready(runtime):
    """503, so that whoever sends requests sends them elsewhere."""
    browser = Browser(make_app(Service(runtime, "trees", max_waiting=0)))
    for path in ("/v2/health/ready", "/v2/models/trees/ready"):
        assert (browser.get(path).status, browser.get(path).json["ready"]) == (503, False)
    assert browser.get("/v2/health/live").status == 200
    browser.close()


def test_too_many_waiting_images_are_refused_at_once(runtime, new_images):
    """503 with a hint when to come again; those before are answered."""
    app = make_app(Service(runtime, "trees", max_waiting=3))
    image = (new_images / "5.png").read_bytes()
    body, headers = form(*[("a.png", image)] * 8)
    browser = Browser(app)
    found = post(browser, "/predict", body, **headers)
    later = post(browser, "/predict", image)
    browser.close()
    assert (found.status, found.header("retry-after")) == (503, "1")
    assert later.status == 200


def test_metrics_count_what_was_done(runtime, new_images):
    """Requests by address and status, images by theirs, batches; a bug is a 500, what took too long a 503."""

    async def broken():
        raise RuntimeError("a bug")

    async def slow():
        await asyncio.sleep(60)

    app = make_app(Service(runtime, "trees"))
    browser = Browser(app)
    app.add_api_route("/broken", broken)
    app.add_api_route("/slow", slow)
    body, headers = form(*((name, (new_images / name).read_bytes()) for name in ("5.png", "empty.png")))
    post(browser, "/predict", body, **headers)
    browser.get("/nothing")
    with pytest.raises(RuntimeError, match="a bug"):
        browser.get("/broken")
    with pytest.raises(TimeoutError):
        browser.loop.run_until_complete(
            asyncio.wait_for(send(app, "GET", "/slow", [("host", HOST)], [b""]), 0.2)
        )
    text = browser.get("/metrics").text
    browser.close()
    for path, status in (("/predict", 200), ("other", 404), ("/broken", 500), ("/slow", 503)):
        assert f'assay_requests_total{{path="{path}",status="{status}"}} 1.0' in text
    for counted in ('images_total{status="ok"}', 'images_total{status="empty_file"}', "batch_images_count"):
        assert f"assay_{counted} 1.0" in text


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"name": "a/b"}, "--name: expected 1 to 200 letters without '/'.*, got 'a/b'"),
        ({"name": ".."}, "--name: expected"),
        ({"name": "a" * 201}, "--name: expected"),
        ({"name": "caf\udce9"}, "--name: expected Unicode text"),
        ({"labels": ("a", "b", "\ud800")}, "expected labels of Unicode text"),
    ],
)
def test_a_name_or_label_that_cannot_be_answered_is_refused_at_the_start(runtime, more, words):
    """A name that no address can have, and a label that JSON cannot hold."""
    name = more.pop("name", "trees")
    with pytest.raises(UsageError, match=words):
        Service(replace(runtime, **more), name).check()
    Service(runtime, "trees").check()
