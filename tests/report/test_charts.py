import xml.etree.ElementTree as ET

import numpy as np
import pytest

from assay.evaluate.evaluate import evaluate
from assay.report.charts import WIDTH, accuracy_chart, coverage_chart, reliability_chart, tag
from assay.report.heat import heat_picture, level, shares


def share(estimate, low, high):
    return {"estimate": estimate, "low": low, "high": high, "level": 0.95}


def curve(title="assay", n=200, seed=0):
    """A curve of probabilities that promise too much."""
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet([0.4, 0.4, 0.4], size=n)
    truth = np.where(rng.random(n) < 0.8, probs.argmax(axis=1), rng.integers(3, size=n))
    found = evaluate(truth, probs, ("a", "b", "c"), source="holdout").to_json()
    return {"title": title, **found}


def parsed(svg):
    """A chart is well-formed, knows its name, and draws nothing outside its frame."""
    root = ET.fromstring(svg)
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    assert width == WIDTH
    for node in root.iter():
        for key, limit in (("x", width), ("x1", width), ("x2", width), ("cx", width), ("y", height)):
            assert 0 <= float(node.attrib.get(key, 0)) <= limit, ET.tostring(node)
    assert root.attrib["aria-labelledby"].split() == [root[0].attrib["id"], root[1].attrib["id"]]
    return root


def test_every_accuracy_has_its_line():
    """A point and an interval a row, and the same in words."""
    rows = [
        {"title": "given labels", "accuracy": share(0.4, 0.38, 0.42)},
        {"title": "<assay> & co", "accuracy": share(1.0, 0.96, 1.0)},
    ]
    root = parsed(accuracy_chart(rows))
    assert len(root.findall("circle")) == 2
    assert (
        root.find("desc").text == "given labels 40.0 % (38.0 to 42.0); <assay> & co 100.0 % (96.0 to 100.0)."
    )
    texts = [node.text for node in root.findall("text")]
    assert {"given labels", "40.0 %", "<assay> & co", "100.0 %"} <= {*texts}


def test_reliability_has_a_point_a_bin():
    """At its mean confidence, as high as its share of right answers, in words too."""
    found = curve()
    root = parsed(reliability_chart("r", found))
    bins = found["reliability"]
    points = root.findall("circle")
    assert len(points) == len(bins)
    heights = [float(point.attrib["cy"]) for point in points]
    assert np.argsort(heights).tolist() == np.argsort([-one["right"]["estimate"] for one in bins]).tolist()
    assert root.find("desc").text.count(" images") == len(bins)


def test_coverage_has_a_line_a_curve():
    """Both lines, told apart by dash and name, on one scale that holds them."""
    curves = [curve("assay", seed=0), curve("fixed labels", seed=1)]
    root = parsed(coverage_chart(curves))
    lines = root.findall("polyline")
    assert [line.attrib["class"] for line in lines] == ["curve one", "curve two"]
    for line, found in zip(lines, curves, strict=True):
        assert len(line.attrib["points"].split()) == len(found["risk_coverage"])
    assert {"assay", "fixed labels"} <= {node.text for node in root.findall("text")}


def test_a_curve_without_a_mistake_is_drawn():
    """All right: the line lies on the axis."""
    probs = np.tile([0.9, 0.1], (5, 1))
    found = evaluate(np.zeros(5, dtype=int), probs, ("a", "b"), source="holdout").to_json()
    (line,) = parsed(coverage_chart([{"title": "assay", **found}])).findall("polyline")
    heights = {point.partition(",")[2] for point in line.attrib["points"].split()}
    assert len(heights) == 1


def test_attributes_are_escaped():
    """A quote in a name does not end the attribute."""
    assert ET.fromstring(tag("g", id='"><b a="')).attrib == {"id": '"><b a="'}


@pytest.mark.parametrize(
    ("value", "name"), [(0.0, "h0"), (0.004, "h0"), (0.006, "h1"), (0.5, "h5"), (0.96, "h10"), (1.0, "h10")]
)
def test_a_cell_has_a_colour_by_its_share(value, name):
    """Ten steps, and what is not nothing never looks like nothing."""
    assert level(value) == name


def test_rows_become_shares():
    """Each row by its own total, an empty one stays empty."""
    assert shares([[1, 3], [0, 0]]).tolist() == [[0.25, 0.75], [0.0, 0.0]]


@pytest.mark.parametrize("k", [17, 300, 301, 1_000])
def test_many_classes_become_a_small_picture(k):
    """However many there are: one picture with the names of some, that weighs little."""
    rng = np.random.default_rng(0)
    titles = [f"class {i} <&>" for i in range(k)]
    words = {"title": "T", "description": "D", "columns": "noisy"}
    svg = heat_picture("heat", rng.random((k, k)), titles, **words)
    root = parsed(svg)
    assert root.find("image").attrib["href"].startswith("data:image/png;base64,")
    assert len(svg) < 150_000
    assert 10 <= sum(str(node.text).startswith("class") for node in root.findall("text")) <= 40
