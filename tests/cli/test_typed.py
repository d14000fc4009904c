"""What was typed, and what the environment says besides."""


def test_flags_of_one_model_are_refused_beside_all_recipes(assay, lineup, small_data):
    """Where they were typed."""
    noisy = assay("predict", lineup, small_data.images, "--all-systems", "--coverage", "0.9")
    assert (noisy.code, noisy.out) == (2, "")
    assert "--coverage: expected one model, got --all-systems" in noisy.err


def test_what_the_environment_says_to_the_other_way_is_no_word_to_this_one(
    assay, lineup, small_data, tmp_path, monkeypatch
):
    """Columns of all recipes are none of one model's, nor is a coverage one of all recipes."""
    monkeypatch.setenv("ASSAY_COLUMNS", "Index,Assay")
    monkeypatch.setenv("ASSAY_COVERAGE", "0.9")
    target = tmp_path / "rows.csv"
    assert assay("predict", lineup, small_data.images, "--all-systems", "-o", target).code == 0
    assert target.read_text().splitlines()[0] == "Index,Assay"
    monkeypatch.delenv("ASSAY_COVERAGE")
    assert (
        assay("predict", lineup / "models" / "cnn-1", small_data.images, "-o", tmp_path / "one.csv").code == 0
    )


def test_paths_on_stdin_are_in_no_column(assay, finished):
    """A flag that could do nothing is refused."""
    noisy = assay("predict", finished, "-", "--path-col", "path")
    assert (noisy.code, noisy.out) == (2, "")
    assert "--path-col: expected with a Parquet file of images, got paths on stdin" in noisy.err
