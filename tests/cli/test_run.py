"""assay run: what it prints, writes and ends with."""

import json
import re

import pytest
from PIL import Image
from small_datasets import noise
from small_runs import draw_data
from written import facts_of, rows_of, without_figures

from assay import progress
from assay.pipeline.finished import read_finished_run

TABLE = """\
N % of the labels are wrong (N % to N %), with no sign that classes differ. \
Counted: N of 96 checked labels; the rate also uses predictions for 216 labels.
Labels: kept N · changed N · unsure N · trusted 96 · outlier N · skipped 0.

accuracy of 95 % interval balanced accuracy images measured on
histogram baseline N % N to N N % (N to N) 24 holdout
assay N % N to N N % (N to N) 24 holdout
assay, cross-validated N % N to N N % (N to N) 96 cross-validation
corrected labels, cross-validated N % N to N N % (N to N) 96 cross-validation

assay is N points better than the baseline (N to N), McNemar p = N.
tiny at 32 px, N MB. N s, N GiB. Results: OUT/
"""


def test_the_printed_table_is_this(assay, small_data, tmp_path, monkeypatch):
    """Label noise, actions, accuracy and cost; the same command prints it again, -q without messages."""
    monkeypatch.setattr(progress, "LINE_EVERY_S", float("inf"))  # a slow machine would print progress
    found = assay(*small_data.command(tmp_path / "out"))
    assert found.code == 0
    text = without_figures(found.out.replace(str(tmp_path / "out"), "OUT").replace("p < ", "p = "))
    text = re.sub(r"\d+ of 96", "N of 96", text)
    assert re.sub(r"\d+ s,", "N s,", re.sub(r"(kept|changed|unsure|outlier) \d+", r"\1 N", text)) == TABLE
    (few,) = found.err.splitlines()
    assert few.startswith("warning: Only 96 images ")
    again = assay(*small_data.command(tmp_path / "out"))
    assert (again.code, again.out, "--overwrite" in again.err) == (0, found.out, True)
    quiet = assay(*small_data.command(tmp_path / "out", "--quiet"))
    assert (quiet.out, quiet.err) == (found.out, "")


def test_json_is_all_that_is_on_stdout(assay, small_data, finished):
    """``--json`` prints the facts of noise.json and evaluation.json as one object, and nothing else."""
    facts = json.loads(assay(*small_data.command(finished, "--json")).out)
    noise_facts, evaluation = facts_of(finished / "noise.json"), facts_of(finished / "evaluation.json")
    assert facts == {"folder": str(finished), "noise": noise_facts, **evaluation}
    assert facts["systems"]["assay"]["paired"]["p_value"] < 0.05


def test_a_dry_run_prints_the_plan_and_writes_nothing(assay, small_data, finished, tmp_path):
    """It counts, times and says how much disk space is needed; a run that is there is not repeated."""
    found = assay(*small_data.command(tmp_path / "out", "--dry-run", "--cache", str(tmp_path / "cache")))
    assert found.code == 0
    assert re.sub(r"about \d+ s", "about T s", without_figures(found.out)) == (
        "240 images, 3 classes, 120 trusted labels\n"
        "Trusted labels: 24 for the holdout, 96 for training and for estimating the noise.\n"
        "Features: every image and its mirror image, tiny at 32 px (N ms each, N ms to decode).\n"
        f"Results: {tmp_path / 'out'}/\n"
        "Takes about T s, reads N kB and needs N kB of cache if nothing is cached.\n"
    )
    assert {file.name for file in tmp_path.iterdir()} == {"here"}
    plan = json.loads(assay(*small_data.command(tmp_path / "out", "--dry-run", "--json")).out)
    assert (plan["images"], plan["holdout"], plan["resumes"]) == (240, 24, False)
    size = sum(file.stat().st_size for file in small_data.images.iterdir())
    assert plan["bytes_to_read"] == pytest.approx(size, rel=0.1)
    assert "a part of this run is there already" in assay(*small_data.command(finished, "--dry-run")).out


def test_other_settings_are_refused_but_for_overwrite(assay, refused, small_data, run):
    """The difference is named; with ``--overwrite`` the other run takes its place."""
    command = small_data.command(run, "--seed", "1")
    assert "--overwrite" in refused(2, "seed", *command)
    assert assay(*command, "--overwrite").code == 0
    record = facts_of(run / "run.json")
    assert (record["settings"]["seed"], record["command"][:2]) == (1, ["assay", "run"])


def test_skipped_and_unusual_images_are_listed(assay, own_data, tmp_path):
    """Damaged images change the exit code only under ``--strict``, a second time too."""
    (own_data.images / "1.png").write_bytes(b"")
    Image.new("RGB", (32, 32), "red").save(own_data.images / "3.png")
    command = own_data.command(tmp_path / "out")
    for more, code in (((), 0), (("--strict",), 4), (("--strict",), 4)):
        found = assay(*command, *more)
        assert (found.code, "skipped 1." in found.out) == (code, True)
    issues = rows_of(tmp_path / "out" / "image_issues.csv")
    assert sorted((row["file"], row["severity"], row["reason"]) for row in issues) == [
        ("1.png", "skipped", "empty_file"),
        ("3.png", "warning", "low_information"),
    ]


def test_a_model_no_better_than_the_baseline_ends_with_5(assay, own_data, tmp_path):
    """Results are written with a warning; a skipped image comes first under ``--strict``."""
    for row in range(240):
        noise(row, 32, 32).save(own_data.images / f"{row}.png")
    (own_data.images / "5.png").write_bytes(b"no image")
    command = own_data.command(tmp_path / "out", "-q")
    for more, code in (((), 5), ((), 5), (("--strict",), 4)):
        assert assay(*command, *more).code == code
    facts = facts_of(tmp_path / "out" / "evaluation.json")
    assert facts["better_than_baseline"] is False
    assert any("not measurably better" in warning for warning in facts["warnings"])
    assert (tmp_path / "out" / "labels.csv").exists()


def test_without_a_holdout_it_says_not_measured(assay, small_data, tmp_path):
    """``--holdout 0`` trains on everything."""
    found = assay(*small_data.command(tmp_path / "out", "--holdout", "0"))
    assert found.code == 0
    assert "No image was held out: the accuracy of this model is not measured." in found.out.splitlines()
    assert "histogram baseline" not in found.out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--holdout", "119"], "expected --holdout from 0 to 118"),
        (["--holdout-split", "notebook"], "--holdout-split notebook needs more than 2,000 trusted images"),
        (["--class-map", "a=b"], "--class-map a=b: 'b' is not a class"),
        (["--weights", "nowhere.safetensors"], "--weights: the backbone 'tiny' has none"),
        (["--backbone", "tiny"], "Parameter --backbone specified multiple times. See assay run -h."),
        (["--student-size", "64"], "--student-size"),
    ],
)
def test_impossible_settings_end_with_2(refused, small_data, tmp_path, flags, message):
    """They are refused in one line, and no run is left behind."""
    found = refused(2, message, *small_data.command(tmp_path / "out", *flags)).splitlines()
    assert (found[-1].startswith("assay: "), message in found[-1]) == (True, True)
    assert not (tmp_path / "out" / "run.json").exists()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("noisy.csv", None, "noisy.csv"),
        ("noisy.csv", b"ash\nbirch\n", "noisy.csv"),
        ("noisy.csv", b"\x00\xff\x00", "noisy.csv"),
        ("trusted.csv", b"file,label\n0.png,ahs\n", "did you mean 'ash'"),
        ("trusted.csv", b"file,label\n", "trusted"),
    ],
)
def test_refused_data_end_with_3(refused, own_data, tmp_path, file, content, message):
    """Labels that may not mean what they say are refused before anything is written."""
    (own_data.folder / file).unlink()
    if content is not None:
        (own_data.folder / file).write_bytes(content)
    found = refused(3, message, *own_data.command(tmp_path / "out"))
    assert found.splitlines()[-1].startswith("assay: ")
    assert not (tmp_path / "out" / "run.json").exists()


def test_noisy_labels_are_needed(refused, own_data, tmp_path):
    """A forgotten file is named before anything is written."""
    trusted = ["--trusted", own_data.folder / "trusted.csv"]
    refused(3, "--noisy FILE", "run", own_data.images, *trusted, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_labels_without_names_are_shown_with_their_images(assay, own_data, tmp_path):
    """They belong to the images in natural order, and the first and last pairs are printed."""
    labels = [line.split(",")[1] for line in (own_data.folder / "noisy.csv").read_text().splitlines()[1:]]
    (own_data.folder / "noisy.csv").write_text("\n".join(labels) + "\n")
    found = assay(*own_data.command(tmp_path / "out"))
    assert found.code == 0
    assert "0.png" in found.err
    assert "239.png" in found.err


def test_more_images_can_be_accepted(assay, refused, finished, tmp_path):
    """Cut and too large images are skipped with a hint, or used; stored features change no other run."""
    data = draw_data(tmp_path / "data", 60)
    file, out = data.images / "2.png", tmp_path / "out"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with Image.open(data.images / "4.png") as image:
        image.resize((40, 40)).save(data.images / "4.png")
    names = ("--match", "name", "--strip-prefix", "x/")
    few = ("--max-pixels", "1200")
    more = ("--max-pixels", "2000", "--truncated", "accept")

    def command(folder, *flags):
        return data.command(folder, "--holdout", "10", *flags)

    def skipped(folder):
        return [row["file"] for row in rows_of(folder / "labels.csv") if row["action"] == "skipped"]

    first = assay(*command(out, *few))
    assert (first.code, sorted(skipped(out))) == (0, ["2.png", "4.png"])
    assert "--truncated accept" in first.err
    assert "--max-pixels" in first.err
    refused(2, "--truncated", *command(out, *more))
    assert assay(*command(out, *more, *names, "--overwrite")).code == 0
    assert skipped(out) == []
    reading = read_finished_run(out).reading
    assert (reading.truncated, reading.max_pixels) == ("accept", 2000)
    assert (reading.match, reading.strip_prefix) == ("name", "x/")
    assert assay("audit", out, "-q").code == 0  # it reads the images as the run did
    assert assay(*command(tmp_path / "again", *few)).code == 0
    assert "2.png" in skipped(tmp_path / "again")
    labels = ("--labels", data.folder / "trusted.csv", "--json")
    evaluated = (assay("evaluate", finished, data.images, *labels, *flags).out for flags in (few, more))
    assert [json.loads(text)["skipped"] for text in evaluated] == [2, 0]
    before, after = (
        assay("predict", finished, data.images, "-q", *flags).out.splitlines() for flags in (few, more)
    )
    changed = [row for row in after if row not in before]
    assert [row.split(",")[0] for row in changed] == ["2.png", "4.png"]
