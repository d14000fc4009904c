"""The page in Chromium: the answers of Python, without a network, for everybody."""

import base64
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from chromium import Watched
from onnxruntime_web import need_onnxruntime_web
from pictures import saved
from PIL import Image
from small_runs import draw_image

from assay.correct.outliers import fit_scorer
from assay.data.loader import load_image
from assay.data.resize import FILTERS, to_square
from assay.embed.tiny import TinyBackbone
from assay.export.graph import with_graph
from assay.export.web_page import read_runtime, write_page
from assay.predict.model import Model
from assay.predict.runtime import load_runtime
from assay.train.heads import fit_logistic

pytestmark = pytest.mark.slow

LABELS = ("<img src=x onerror=alert(1)>", "birch & ash", "c" * 80)
THRESHOLD = 0.8

PICTURE = ("1.png", saved(Image.fromarray(draw_image(1, np.random.default_rng(0))).resize((90, 70))))

ANSWER = """async ([name, bytes]) => {
  await labelFile(new File([Uint8Array.from(atob(bytes), (one) => one.charCodeAt(0))], name));
  const all = (selector) => [...document.querySelectorAll(selector)];
  return {
    alert: document.querySelector("#alert").textContent,
    kind: document.querySelector("#answer:not([hidden])")?.dataset.kind,
    verdict: document.querySelector("#verdict").textContent,
    reason: document.querySelector("#reason").textContent,
    rows: all("#classes li").map((row) => [row.children[0].textContent, +row.children[2].value]),
  };
}"""

RESIZE = """async ([width, height, bytes, size, interpolations]) => {
  const { toSquare } = await import("/resize.js");
  const data = Uint8ClampedArray.from(atob(bytes), (one) => one.charCodeAt(0));
  return interpolations.map((one) => {
    const found = toSquare({ width, height, data: data.slice() }, size, one).data;
    return btoa(String.fromCharCode(...found));
  });
}"""


def draw_mixed(row, size, generator):
    """A picture of class ``row % 3``, with up to half of the next class in it."""
    one, other = (Image.fromarray(draw_image((row + k) % 3, generator)) for k in range(2))
    return Image.blend(one, other, row // 3 % 6 / 10).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def model():
    """Unsure at times; it sharpens, predicts twice below 0.9, and has an outlier score."""
    generator = np.random.default_rng(5)
    truth = np.arange(600) % 3
    sizes = generator.integers(20, 400, (600, 2)).tolist()
    drawn = [draw_mixed(row, size, generator) for row, size in enumerate(sizes)]
    images = np.stack([to_square(np.asarray(one), 32, "sharp") for one in drawn])
    features = TinyBackbone().embed(images)
    head = fit_logistic(features[:90], truth[:90], 3)
    bare = Model("tiny", 32, LABELS, head, interpolation="sharp", flip_tta_below=0.9)
    top = bare.probabilities(features).max(axis=1).astype(float)
    return with_graph(bare, None, images[:9], fit_scorer(features, truth, top))


@pytest.fixture(scope="module")
def runtime(model):
    return load_runtime(model, threads=1)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """The page of that model."""
    facts = {
        "labels": LABELS,
        "size": model.size,
        "interpolation": model.interpolation,
        "flip_tta_below": model.flip_tta_below,
        "threshold": THRESHOLD,
        "accuracy": "It was right on 97.0 % of 100 images.",
    }
    place = tmp_path_factory.mktemp("web") / "page"
    write_page(place, model.graph, facts, read_runtime(need_onnxruntime_web()))
    return place


@pytest.fixture(scope="module")
def address(folder):
    """The page on a server that stays."""
    with served(folder) as found:
        yield found


@contextmanager
def served(folder):
    """The address of the folder on a plain web server."""

    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:  # else a test that fails would never end
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def visit(chrome):
    """Opens the page; at the end there were no errors, and no request went anywhere else."""
    windows = []

    def give(address, **options):
        context = chrome.new_context(**{"viewport": {"width": 390, "height": 844}, **options})
        page, asked = context.new_page(), []
        context.on("request", lambda request: asked.append(request.url))
        page.set_default_timeout(120_000)  # a busy machine is slow, and not wrong
        windows.append((address, Watched(page), asked))
        page.goto(address)
        page.wait_for_selector("body[data-ready]")
        return page

    yield give
    for address, window, asked in windows:
        window.page.context.close()
        assert (window.errors, window.elsewhere) == ([], [])
        assert len(asked) > 5
        assert [url for url in asked if not url.startswith((address, "blob:", "data:"))] == []


@pytest.fixture(scope="module")
def page(visit, address):
    """A window for all tests that leave it as it was."""
    return visit(address)


def answer(page, name, data):
    return page.evaluate(ANSWER, [name, base64.b64encode(data).decode()])


def hundred_files():
    """(name, bytes): every kind of file and of pixels that browsers take, of many sizes."""
    generator = np.random.default_rng(0)
    files = []

    def drawn(row, *size):
        return draw_mixed(row, size or generator.integers(20, 400, 2).tolist(), generator)

    def add(name, image, form="PNG", **options):
        files.append((name, saved(image, form, **options)))

    for row in range(30):
        add(f"rgb {row}.png", drawn(row))
    for row, size in enumerate([(32, 32), (1, 40), (40, 1), (700, 90), (60, 900), (33, 31)]):
        add(f"size {row}.png", drawn(row, *size))
    for row in range(6):
        add(f"gray {row}.png", drawn(row).convert("L"))
        mask = Image.fromarray(generator.integers(0, 256, (9, 9), np.uint8)).resize((90, 70))
        clear = drawn(row, 90, 70).convert("RGBA")
        clear.putalpha(mask)
        add(f"clear {row}.png", clear)
        add(f"clear gray {row}.png", clear.convert("LA"))
        add(f"palette {row}.png", drawn(row).convert("P", palette=Image.Palette.ADAPTIVE))
    add("hidden colour.png", drawn(1).convert("P"), transparency=3)
    add("one bit.png", drawn(2).convert("1"))
    add("deep.png", Image.fromarray(np.asarray(drawn(0).convert("L")).astype(np.uint16) * 257))
    add("noise.png", Image.fromarray(generator.integers(0, 256, (64, 64, 3), np.uint8)))
    add("white.png", Image.new("RGB", (50, 50), "white"))
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        add(f"turned {turn}.png", drawn(turn), exif=exif)
        add(f"turned {turn}.jpg", drawn(turn), "JPEG", exif=exif, quality=90)
    for row, size in enumerate([(40, 60), (64, 70), (129, 128), (300, 200), (1000, 700), (255, 2000)]):
        add(f"photo {row}.jpg", drawn(row, *size), "JPEG", quality=80, progressive=row % 2 == 0)
    for row in range(2):
        add(f"gray {row}.jpg", drawn(row).convert("L"), "JPEG")
        add(f"ink {row}.jpg", drawn(row).convert("CMYK"), "JPEG")
        add(f"exact {row}.webp", drawn(row), "WEBP", lossless=True, exif=exif)
        add(f"photo {row}.webp", drawn(row), "WEBP")
        add(f"bitmap {row}.bmp", drawn(row), "BMP")
        add(f"few colours {row}.gif", drawn(row), "GIF")
    add("last.jpg", drawn(2, 640, 480), "JPEG", quality=95, subsampling=0)
    return files


def test_a_hundred_images_get_the_answers_of_python(page, runtime):
    """The same class for each; of PNG the same probabilities and the same verdict."""
    files = hundred_files()
    assert len(files) == 100
    kinds, asked_twice = set(), 0
    for name, data in files:
        found = answer(page, name, data)
        pixels = load_image(data, runtime.target).pixels[None]
        (probs,), (score,) = runtime.scored(pixels)
        rows = dict(found["rows"])
        assert (found["alert"], found["rows"][0][0]) == ("", LABELS[probs.argmax()]), name
        if name.endswith(".png"):
            assert [rows[label] for label in LABELS] == pytest.approx(probs, abs=1e-3), name
            kind = "outlier" if score > 1 else "unsure" if probs.max() < THRESHOLD else "sure"
            assert found["kind"] == kind, name
            number = f"{100 * probs.max():.1f} %"
            verdicts = {"outlier": "Belongs to no class", "unsure": "Not sure"}
            assert found["verdict"] == verdicts.get(kind, LABELS[probs.argmax()])
            assert number in found["reason"], name
            kinds.add(kind)
            asked_twice += runtime.without_tta(pixels).max() < runtime.flip_tta_below
    assert kinds == {"sure", "unsure", "outlier"}
    assert asked_twice > 3


def test_the_resize_is_pillows_to_the_bit(page):
    """Every interpolation, enlarged and reduced, of squares, tall and wide pictures."""
    generator = np.random.default_rng(1)
    sizes = [
        (32, 32),
        (20, 31),
        (50, 33),
        (33, 50),
        (200, 90),
        (90, 200),
        (31, 400),
        (1, 50),
        (300, 1),
        (64, 48),
    ]
    for width, height in sizes:
        pixels = generator.integers(0, 256, (height, width, 3), np.uint8)
        packed = base64.b64encode(pixels.tobytes()).decode()
        found = page.evaluate(RESIZE, [width, height, packed, 48, [*FILTERS]])
        for one, interpolation in zip(found, FILTERS, strict=True):
            expected = to_square(pixels, 48, interpolation)
            assert base64.b64decode(one) == expected.tobytes(), (width, height, interpolation)


def test_it_works_without_a_network_after_one_visit(folder, visit):
    """The server is gone and the network too: a reload gives the same answers."""
    with served(folder) as address:
        page = visit(address)
        page.wait_for_selector("#offline:not(:empty)")
        assert page.text_content("#offline") == "It works without a network from now on."
        first = answer(page, *PICTURE)
    page.context.set_offline(True)
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert answer(page, *PICTURE) == first


def test_a_file_that_is_no_picture_is_explained(page):
    """The message names the file and what is wrong with it; the next picture is labelled as before."""
    image = Image.fromarray(draw_image(1, np.random.default_rng(0))).resize((200, 200))
    whole, photo = saved(image), saved(image, "JPEG")
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 255
    cases = {
        "empty.png": (b"", "empty.png is empty."),
        "words.jpg": (b"a page of words", "words.jpg is not a JPEG, PNG, WebP, GIF or BMP picture."),
        "photo.heic": (b"\0\0\0\x18ftypheic" + bytes(99), "is not a JPEG, PNG, WebP, GIF or BMP picture."),
        "cut.jpg": (photo[: len(photo) // 2], "cut.jpg ends too early"),
        "cut.png": (whole[: len(whole) // 2], "cut.png ends too early"),
        "damaged.png": (bytes(damaged), "damaged.png is damaged"),
        "hair.png": (saved(image.resize((1, 101))), "hair.png is longer than 100:1."),
    }
    for name, (data, words) in cases.items():
        found = answer(page, name, data)
        assert words in found["alert"]
        assert found["kind"] is None, name
    assert answer(page, "good.png", whole)["alert"] == ""


def test_the_camera_is_labelled_picture_by_picture(visit, address):
    """While it is on, answers come by themselves and are not read aloud; stopping keeps the last picture."""
    page = visit(address)
    page.click("#camera")
    page.wait_for_selector("#answer:not([hidden])")
    assert page.is_visible("#live")
    assert page.get_attribute("#answer", "aria-live") == "off"
    page.click("#camera")
    page.wait_for_selector("#still:not([hidden])")
    assert page.get_attribute("#still", "alt") == "The photo from the camera"
    assert page.get_attribute("#answer", "aria-live") == "polite"
    assert not page.is_visible("#live")


def test_everybody_can_use_it(visit, address):
    """Before and after an answer and an error axe finds nothing, and nothing is wider than the screen."""
    from axe_playwright_python.sync_playwright import Axe

    page = visit(address)
    for name, data in ((None, None), PICTURE, ("bad", b"bad")):
        if name:
            answer(page, name, data)
        for scheme, width in (("dark", 390), ("light", 1280)):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 800})
            found = Axe().run(page).response
            assert len(found["passes"]) > 10  # it did look
            assert [
                (rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found["violations"]
            ] == []
            assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("main img[onerror]").count() == 0
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    outline = "getComputedStyle(document.querySelector('.button.main')).outlineStyle"
    assert page.evaluate(outline) == "solid"
