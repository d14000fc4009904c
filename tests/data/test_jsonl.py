import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.data.jsonl import read_jsonl
from assay.errors import TableError


def test_objects_become_rows_of_strings(write_file):
    """Strings and numbers are kept as written, null and a missing key are empty, nested keys left out."""
    path = write_file(
        "metadata.jsonl",
        '{"file_name": "1.png", "label": 7, "box": [1, {"a": 2}]}\n'
        "\n"
        '{"label": 1.0, "file_name": "2.png", "box": null}\n'
        '{"file_name": "3.png", "label": null}\n'
        '{"file_name": "4.png", "label": "007"}\n'
        '{"file_name": "5.png", "label": true}\n',
    )
    table = read_jsonl(path)
    assert table.columns == ("file_name", "label")
    assert [row[1] for row in table.rows] == ["7", "1.0", "", "007", "true"]
    assert table.line_numbers == (1, 3, 4, 5, 6)
    assert table.where(2) == "metadata.jsonl line 4"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"a": ', "Expecting value: line 2 column 1 (char 7); expected one object a line"),
        ('["a"]', "expected an object with file_name and a label, got '[\"a\"]'"),
        ('{"label": "a", "label": "b"}', "the key 'label' comes twice; expected one object a line"),
        ('{"a": {"b": 1, "b": 1}}', "the key 'b' comes twice; expected one object a line"),
        ('{"a": ' + "[" * 1_000 + "]" * 1_000 + "}", "nested deeper than 32; expected one object a line"),
        ('{"a":' * 100_000, "nested deeper than 32; expected one object a line"),
        ('{"a": ' + "9" * 5_000 + "}", "a number of 5,000 characters; expected one object a line"),
        ('{"a": NaN}', "NaN is not a JSON number; expected one object a line"),
        ('{"a": "x\\u0000y"}', "a NUL character; expected one object a line"),
        ('{"a": "x\\ud800"}', "half of a character in 'x\\ud800'; expected one object a line"),
    ],
    ids=["cut", "list", "twice", "twice inside", "deep", "deep and cut", "huge", "nan", "nul", "half"],
)
def test_broken_or_hostile_lines_are_refused(write_file, line, message):
    """Malformed, repeated, deep and huge values are ``bad_json``, without a crash."""
    path = write_file("metadata.jsonl", '{"file_name": "1.png", "label": "a"}\n' + line + "\n")
    with pytest.raises(TableError) as refused:
        read_jsonl(path)
    assert str(refused.value) == f"metadata.jsonl line 2: bad_json: {message}"


def test_a_string_that_never_ends_is_refused_at_once(write_file):
    """A search that began again at each of its half a million quotes would take an hour."""
    path = write_file("metadata.jsonl", '{"a": "' + '\\"' * 500_000 + "\n")
    with pytest.raises(TableError, match=r"bad_json: (Invalid control character|Unterminated)"):
        read_jsonl(path)


def test_brackets_in_text_are_not_depth(write_file):
    """Only structure counts as nesting, not what a string holds."""
    record = {"file_name": "[" * 100 + '\\"{' * 50, "label": "a"}
    assert read_jsonl(write_file("m.jsonl", json.dumps(record))).rows == ((record["file_name"], "a"),)


@settings(max_examples=50)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_any_text_survives(tmp_path_factory, labels):
    """Every string that JSON can hold is read as it was, escaped or not, but one with a NUL."""
    path = tmp_path_factory.mktemp("t") / "m.jsonl"
    path.write_text("".join(json.dumps({"label": label}) + "\n" for label in labels), encoding="utf-8")
    assert read_jsonl(path).rows == tuple((label,) for label in labels)
