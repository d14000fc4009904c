"""How fast the page of assay export --web answers, and whether it answers as Python does.

    python benchmarks/web.py --page FOLDER --images FOLDER [--n 100]

FOLDER is a page that ``assay export RUN --web`` wrote, and a folder of images. Chromium, headless, 390 px
wide, gets the page from a plain web server on this machine, its cache empty. Measured: seconds from opening
it to the model being ready and to the first answer; milliseconds from each further image to its answer; the
processor time of the browser, drawing included; the same class, and the largest difference of a probability,
by format. Results go to benchmarks/results/web.json.
"""

import argparse
import base64
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from _shared import keep
from playwright.sync_api import sync_playwright

from assay.data.files import Skipped
from assay.data.loader import load_image
from assay.predict.runtime import load_runtime

ANSWER = """async ([name, bytes]) => {
  const file = new File([Uint8Array.from(atob(bytes), (one) => one.charCodeAt(0))], name);
  const start = performance.now();
  await labelFile(file);
  const took = performance.now() - start;
  const rows = [...document.querySelectorAll("#classes li")];
  return [took, rows.map((row) => [row.children[0].textContent, +row.children[2].value])];
}"""


def main() -> None:
    """Open the page, label the images, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--page", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--n", type=int, default=100, help="images, spread over the folder")
    asked = parser.parse_args()
    runtime = load_runtime(asked.page / "model.onnx", threads=1)
    labels = runtime.titles or runtime.labels
    found = sorted(file for file in asked.images.iterdir() if file.is_file())
    files = [found[i] for i in np.linspace(0, len(found) - 1, asked.n).astype(int)]
    took: list[float] = []
    compared: dict[str, list[tuple[bool, float]]] = {}
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(asked.page))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            page = browser.new_context(viewport={"width": 390, "height": 844}).new_page()
            start, spent = time.perf_counter(), processor_s()
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            page.wait_for_selector("body[data-ready]")
            ready_s = time.perf_counter() - start
            for file in files:
                ms, rows = page.evaluate(ANSWER, [file.name, base64.b64encode(file.read_bytes()).decode()])
                if not took:
                    first_s, first_processor_s = time.perf_counter() - start, processor_s() - spent
                    spent += first_processor_s
                took.append(ms)
                image = load_image(file, runtime.target)
                if isinstance(image, Skipped):
                    continue
                probs = runtime.probabilities(image.pixels[None])[0]
                differences = [abs(p - float(probs[labels.index(label)])) for label, p in rows]
                same = rows[0][0] == labels[int(probs.argmax())]
                compared.setdefault(file.suffix, []).append((same, max(differences)))
            each_processor_s = (processor_s() - spent) / (len(took) - 1)
            browser.close()
        server.shutdown()
    part = {
        "bytes": sum(file.stat().st_size for file in asked.page.iterdir() if file.suffix != ".md"),
        "ready_s": round(ready_s, 2),
        "first_answer_s": round(first_s, 2),
        "first_answer_processor_s": round(first_processor_s, 2),
        "processor_ms_an_image": round(1000 * each_processor_s, 1),
        "ms_an_image": {
            name: round(float(np.quantile(took[1:], q)), 1)
            for name, q in (("least", 0), ("p25", 0.25), ("median", 0.5), ("p95", 0.95))
        },
        "compared": {ending: summary(rows) for ending, rows in sorted(compared.items())},
    }
    keep("web", f"{asked.page.name} {runtime.size} px, {asked.images.name}", part)


def processor_s() -> float:
    """Processor time of the browser so far: what it waits for other programs does not count."""
    times = [one.cpu_times() for one in psutil.Process().children(recursive=True)]
    return sum(one.user + one.system for one in times)


class Silent(SimpleHTTPRequestHandler):
    """Without a line for each request."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def summary(rows: list[tuple[bool, float]]) -> dict[str, Any]:
    """Of images of one format."""
    differences = np.array([difference for _, difference in rows])
    return {
        "n": len(rows),
        "same_class": sum(same for same, _ in rows),
        "within_0.001": int((differences <= 1e-3).sum()),
        "largest_difference": float(f"{differences.max():.2g}"),
    }


if __name__ == "__main__":
    main()
