"""assay run: what it prints, writes and ends with."""

import json
import re

import pytest
from PIL import Image
from small_datasets import noise

from assay.cli import console

TABLE = """\
NN % of the labels are wrong (NN % to NN %), with no sign that classes differ.
Labels: kept N · changed N · unsure N · trusted 96 · skipped 0.

accuracy of                             95 % interval  images       measured on
histogram baseline              NN %     NN to NN      24           holdout
assay                           NN %     NN to NN      24           holdout
assay, cross-validated          NN %     NN to NN      96  cross-validation
fixed labels, cross-validated   NN %     NN to NN      96  cross-validation

assay is NN points better than the baseline (+NN to +NN), McNemar p = P.
tiny at 32 px, NN MB. N s, NN GiB. Results: OUT/
"""


def squeezed(text: str) -> list[str]:
    return [re.sub(r" {2,}", "  ", line) for line in text.splitlines()]


def without_figures(text: str, out: object) -> list[str]:
    """Lines in which measured numbers are N and runs of spaces are two."""
    text = text.replace(str(out), "OUT")
    text = re.sub(r"p = [\d.e-]+\.", "p = P.", text)
    text = re.sub(r"\d+\.\d+", "NN", text)
    text = re.sub(r"(kept|changed|unsure) \d+", r"\1 N", text)
    return squeezed(re.sub(r"\d+ s,", "N s,", text))


def test_the_printed_table_is_this(assay, small_data, tmp_path, monkeypatch):
    """A run says how wrong the labels are, what was done to them, how good the model is and what it cost."""
    monkeypatch.setattr(console, "SHOW_EVERY_S", float("inf"))  # progress is told by a slow machine alone
    noisy = assay(*small_data.command(tmp_path / "out"))
    assert noisy.code == 0
    assert without_figures(noisy.out, tmp_path / "out") == squeezed(TABLE)
    assert noisy.err == (
        "warning: Only 96 images carry both labels: all figures are rough. "
        "200 to 500 trusted labels would settle them.\n"
    )


def test_a_finished_run_prints_its_table_again(assay, small_data, finished):
    """The same command tells what the first one told, and that nothing was computed."""
    noisy = assay(*small_data.command(finished))
    assert noisy.code == 0
    assert without_figures(noisy.out, finished) == squeezed(TABLE)
    assert noisy.err == (
        f"{finished}: this very run is finished: nothing was computed; --overwrite starts anew\n"
    )


def test_json_is_all_that_is_on_stdout(assay, small_data, finished):
    """``--json`` prints the facts of noise.json and evaluation.json as one object, and nothing else."""
    noisy = assay(*small_data.command(finished, "--json"))
    facts = json.loads(noisy.out)
    noise = json.loads((finished / "noise.json").read_text())
    evaluation = json.loads((finished / "evaluation.json").read_text())
    assert facts == {"folder": str(finished), "noise": noise, **evaluation}
    assert facts["systems"]["assay"]["paired"]["p_value"] < 0.05


def test_quiet_is_quiet(assay, small_data, tmp_path):
    """``--quiet`` leaves the table alone on stdout and nothing on stderr."""
    noisy = assay(*small_data.command(tmp_path / "out", "--quiet"))
    assert noisy.err == ""
    assert without_figures(noisy.out, tmp_path / "out") == squeezed(TABLE)


def test_a_dry_run_prints_the_plan_and_writes_nothing(assay, small_data, tmp_path):
    """The plan counts, times and says how much room it takes; no folder and no cache come into being."""
    noisy = assay(*small_data.command(tmp_path / "out", "--dry-run", "--cache", str(tmp_path / "cache")))
    assert noisy.code == 0
    text = re.sub(r"about \d+ s", "about T s", re.sub(r"\d+\.\d ms", "T ms", noisy.out))
    assert text == (
        "240 images, 3 classes, 120 trusted labels\n"
        "would hold out 24 of them, estimate the noise from 96, embed every image and its mirror with\n"
        "tiny at 32 px (T ms each, T ms to decode), fix the labels, train, measure, and write "
        f"{tmp_path / 'out'}/\n"
        "about T s and 0 MB of cache if nothing is cached\n"
    )
    assert {file.name for file in tmp_path.iterdir()} == {"here"}
    plan = json.loads(assay(*small_data.command(tmp_path / "out", "--dry-run", "--json")).out)
    assert (plan["images"], plan["holdout"], plan["resumes"]) == (240, 24, False)


def test_a_dry_run_on_a_run_says_so(assay, small_data, finished):
    """The plan knows that a part is done."""
    assert f"{finished} holds this run already" in assay(*small_data.command(finished, "--dry-run")).out


def test_other_settings_end_with_2(assay, small_data, finished):
    """The difference is named, and the way out."""
    noisy = assay(*small_data.command(finished, "--seed", "1"))
    assert (noisy.code, noisy.out) == (2, "")
    assert noisy.err == (
        f"assay: {finished} holds a run with seed 0 there, 1 now; "
        "name another folder with --out, or start anew with --overwrite\n"
    )


def test_overwrite_starts_anew(assay, small_data, tmp_path):
    """With ``--overwrite`` the other run takes its place."""
    assert assay(*small_data.command(tmp_path / "out")).code == 0
    assert assay(*small_data.command(tmp_path / "out", "--seed", "1", "--overwrite")).code == 0
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["settings"]["seed"] == 1
    assert record["command"][0] == "assay"


def test_trusted_labels_are_asked_for(assay, small_data, tmp_path):
    """Without trusted labels there is nothing to rest on."""
    noisy = assay("run", small_data.images, "-o", tmp_path / "out")
    assert noisy.code == 2
    assert noisy.err == (
        "assay: expected --trusted with labels that you checked, since everything rests on them; "
        "200 to 500, of images picked at random, will do\n"
    )


@pytest.mark.parametrize("strict", [False, True])
def test_skipped_images_end_with_4_when_strict(assay, own_data, tmp_path, strict):
    """A damaged image is listed; only under ``--strict`` it changes the exit code. Again, the same."""
    (own_data.images / "1.png").write_bytes(b"")
    command = own_data.command(tmp_path / "out", *(["--strict"] if strict else []))
    for _ in range(2):
        noisy = assay(*command)
        assert noisy.code == (4 if strict else 0)
        assert "skipped 1." in noisy.out
    assert (tmp_path / "out" / "skipped.csv").read_text() == (
        "name,reason,detail\n1.png,empty_file,0 bytes\n"
    )


def test_unusual_images_are_counted_and_named(assay, own_data, tmp_path):
    """They are used, and remarks.csv says which."""
    Image.new("RGB", (32, 32), "red").save(own_data.images / "1.png")
    noisy = assay(*own_data.command(tmp_path / "out"))
    assert "1 image of one colour (remarks.csv)" in noisy.err
    assert (tmp_path / "out" / "remarks.csv").read_text() == (
        "name,remark,meaning\n1.png,low_information,of one colour\n"
    )


def test_a_model_no_better_than_the_baseline_ends_with_5(assay, own_data, tmp_path):
    """Results are written, a warning is said, and the exit code is 5, also when the command comes again."""
    for row in range(240):
        noise(row, 32, 32).save(own_data.images / f"{row}.png")
    for _ in range(2):
        noisy = assay(*own_data.command(tmp_path / "out"))
        assert noisy.code == 5
        assert (tmp_path / "out" / "labels.csv").exists()
    facts = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert facts["better_than_baseline"] is False
    warning = "on the holdout the model is not measurably better than the histogram baseline"
    assert warning in facts["warnings"]


def test_without_a_holdout_it_says_not_measured(assay, small_data, tmp_path):
    """``--holdout 0`` learns from everything, and says that the model's accuracy is not measured."""
    noisy = assay(*small_data.command(tmp_path / "out", "--holdout", "0"))
    assert noisy.code == 0
    line = "No image was held out: the accuracy of this model is not measured."
    assert line in noisy.out.splitlines()
    assert "histogram baseline" not in noisy.out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--holdout", "119"], "expected --holdout from 0 to 118, so that two trusted images"),
        (["--holdout-split", "notebook"], "--holdout-split notebook needs more than 2,000 trusted images"),
        (["--folds", "1"], "see assay run -h"),
        (["--size", "huge"], "see assay run -h"),
        (["--duplicates", "all"], "see assay run -h"),
        (["--preset", "heroic"], "see assay run -h"),
        (["--class-map", "ash"], "--class-map: expected FROM=TO, got 'ash'"),
        (["--class-map", "a=b"], "--class-map a=b: 'b' is not a class"),
        (["--weights", "nowhere.safetensors"], "--weights: the backbone 'tiny' has none"),
        (["--backbone", "tf_efficientnet_lite9"], "--backbone: expected the name of a model of timm"),
        (["--sed", "1"], "No such option: --sed"),
    ],
)
def test_wrong_usage_ends_with_2(assay, small_data, tmp_path, flags, message):
    """What cannot be is refused in one line, and nothing is left behind that would be a run."""
    noisy = assay(*small_data.command(tmp_path / "out", *flags))
    assert noisy.code == 2
    assert noisy.err.splitlines()[-1].startswith("assay: ")
    assert message in noisy.err.splitlines()[-1]
    assert not (tmp_path / "out" / "run.json").exists()


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda data: (data.folder / "noisy.csv").unlink(), "noisy.csv"),
        (
            lambda data: (data.folder / "trusted.csv").write_text("file,label\n0.png,ahs\n"),
            "did you mean 'ash'",
        ),
        (lambda data: (data.folder / "trusted.csv").write_text("file,label\n"), "trusted"),
        (lambda data: (data.folder / "noisy.csv").write_text("ash\nbirch\n"), "noisy.csv"),
        (lambda data: (data.folder / "noisy.csv").write_bytes(b"\x00\xff\x00"), "noisy.csv"),
    ],
)
def test_refused_data_end_with_3(assay, own_data, tmp_path, break_it, message):
    """Labels that cannot be trusted to mean what they say are refused before anything is written."""
    break_it(own_data)
    noisy = assay(*own_data.command(tmp_path / "out"))
    assert noisy.code == 3
    assert noisy.err.splitlines()[-1].startswith("assay: ")
    assert message in noisy.err
    assert "Traceback" not in noisy.err
    assert not (tmp_path / "out" / "run.json").exists()


def test_the_pairing_is_said_before_the_work(assay, own_data, tmp_path):
    """Labels without names belong to the images in natural order, and the pairs are shown."""
    labels = [line.split(",")[1] for line in (own_data.folder / "noisy.csv").read_text().splitlines()[1:]]
    (own_data.folder / "noisy.csv").write_text("\n".join(labels) + "\n")
    noisy = assay(*own_data.command(tmp_path / "out"))
    assert noisy.code == 0
    assert "0.png" in noisy.err
    assert "239.png" in noisy.err


def test_strict_comes_first(assay, own_data, tmp_path, monkeypatch):
    """An image that had to be skipped is what was asked for, whatever the baseline has."""
    (own_data.images / "5.png").write_bytes(b"no image")
    monkeypatch.setattr("assay.pipeline.outputs.RunResult.better_than_baseline", False)
    command = own_data.command(tmp_path / "out", "-q")
    assert assay(*command).code == 5
    assert assay(*command, "--strict").code == 4


def test_a_run_without_noisy_labels_ends_before_it_begins(assay, own_data, tmp_path):
    """A file that was forgotten is asked for, and nothing is written."""
    found = assay(
        "run", own_data.images, "--trusted", own_data.folder / "trusted.csv", "-o", tmp_path / "out"
    )
    assert found.code == 3
    assert "assay: expected noisy labels, got none of 240 images; give them with --noisy FILE" in found.err
    assert not (tmp_path / "out").exists()
