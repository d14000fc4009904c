"""Images on the page: drawn anew, and only those of the folder that can be shown."""

import pytest
from review_runs import draw_images, write_run


def test_an_image_is_drawn_anew(opened, images):
    """A thumbnail in WebP, never the bytes of the file; one that is no image has a reason and no bytes."""
    answer = opened.browser.get("/image/5/large?v=x")
    assert (answer.status, answer.header("content-type")) == (200, "image/webp")
    assert answer.body[:4] == b"RIFF"
    assert answer.body != (images / "4.png").read_bytes()


@pytest.mark.parametrize("reason", ["timeout", "crash"])
def test_what_ended_a_decoder_is_not_drawn(tmp_path, opener, reason):
    """It would end the server too."""
    names = [f"{row}.png" for row in range(8)]
    draw_images(tmp_path / "images", names)
    out = write_run(tmp_path / "out", names, images=tmp_path / "images")
    lines = (out / "labels.csv").read_text().splitlines()
    lines[7] = lines[7].rpartition(",")[0] + f",{reason}"
    (out / "labels.csv").write_text("\n".join(lines) + "\n")
    opened = opener(out)
    answer = opened.browser.get("/image/7/small")
    assert (answer.status, reason in answer.text) == (404, True)
    assert opened.browser.get("/image/6/small").status == 200


def test_an_image_outside_of_the_folder_is_not_sent(tmp_path, opener):
    """A link that leaves the folder, as somebody may have put it there, shows nothing of what it leads to."""
    names = [f"{row}.png" for row in range(8)]
    draw_images(tmp_path / "images", names)
    draw_images(tmp_path, ["secret.png"])
    opened = opener(write_run(tmp_path / "out", names, images=tmp_path / "images"))
    assert opened.browser.get("/image/6/small").status == 200
    (tmp_path / "images" / "6.png").unlink()
    (tmp_path / "images" / "6.png").symlink_to(tmp_path / "secret.png")
    answer = opened.browser.get("/image/7/small")
    assert (answer.status, b"RIFF" in answer.body) == (404, False)
