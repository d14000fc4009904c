"""Label Studio's tasks: written with what a run predicts, read back as what people decided.

The control is called ``label``, the image ``image``. A task has the name of its image under ``file`` as well:
``image`` is an address that Label Studio's server can read.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from assay.data.dataset import ImageSource, address_of
from assay.data.place import is_url
from assay.data.tables import unique_keys
from assay.data.tree import file_of
from assay.errors import TableError

LOCAL_FILES = "/data/local-files/?d="
"""Where Label Studio serves files of its machine, by default from the root of all folders on."""

_JSON_LIMIT = 256 * 1024 * 1024


def labelling_config(labels: Sequence[str], titles: Sequence[str]) -> str:
    """The labelling interface of a project: people see titles, results hold labels."""
    choices = "".join(
        f"    <Choice value={quoteattr(title)}{'' if title == label else f' alias={quoteattr(label)}'}/>\n"
        for label, title in zip(labels, titles, strict=True)
    )
    return (
        '<View>\n  <Image name="image" value="$image"/>\n'
        f'  <Choices name="label" toName="image" choice="single">\n{choices}  </Choices>\n</View>\n'
    )


def image_address(source: ImageSource, index: int) -> str:
    """Where Label Studio's server finds an image: a URL, or a file below its document root."""
    uri, member, _ = address_of(source, index)
    if is_url(uri) and not member:
        return uri
    return LOCAL_FILES + quote(str(file_of(source, index)).lstrip("/"), errors="surrogateescape")


def task(
    image: str,
    data: Mapping[str, Any],
    *,
    predicted: str = "",
    score: float = 0.0,
    model: str = "",
    annotation: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """One task.

    Parameters
    ----------
    data : further fields, ``file`` among them
    predicted : the class that is chosen already when a person opens the task; empty for none
    annotation : see ``annotation_of``
    """
    found: dict[str, Any] = {"data": {"image": image, **data}}
    if predicted:
        prediction = {"model_version": model, "score": score, "result": [_choice(predicted)]}
        found["predictions"] = [prediction]
    if annotation is not None:
        found["annotations"] = [annotation]
    return found


def annotation_of(label: str | None, at: str = "", *, is_truth: bool = False) -> dict[str, Any]:
    """What a person said: a class, that none is right (empty), or that they skipped the image (None)."""
    return {
        "was_cancelled": label is None,
        "ground_truth": is_truth,
        **({"created_at": at} if at else {}),
        "result": [_choice(label)] if label else [],
    }


def _choice(label: str) -> dict[str, Any]:
    return {"type": "choices", "from_name": "label", "to_name": "image", "value": {"choices": [label]}}


def read_tasks(path: Path) -> Iterator[tuple[str, str | None, str, str, str]]:
    """(file, label, noisy label, who, when) of each task that somebody annotated.

    The label is as ``annotation_of`` takes it.

    Raises
    ------
    TableError : no JSON, or tasks of another kind
    """
    try:
        if path.stat().st_size > _JSON_LIMIT:
            raise TableError(f"{path.name}: expected at most {_JSON_LIMIT:,} bytes; split the file")
        tasks = json.loads(path.read_bytes(), object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise TableError(f"bad_json: {path.name} is not JSON that can be read: {error}") from None
    if not isinstance(tasks, list):
        raise TableError(f"bad_json: {path.name}: expected a list of Label Studio's tasks, got one object")
    for number, one in enumerate(tasks, start=1):
        try:
            if one.get("annotations"):  # else nobody has decided it yet
                yield _decided(one)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise TableError(
                f"bad_json: {path.name} task {number}: expected data.image and one choice for it: {error!r}"
            ) from None


def _decided(one: Any) -> tuple[str, str | None, str, str, str]:
    last, data = one["annotations"][-1], one["data"]
    label = None
    if not last.get("was_cancelled", False):
        label = ""
        if last["result"]:
            (result,) = last["result"]
            (label,) = result["value"]["choices"]
            if not label:
                raise ValueError("expected the name of a class")
    name, noisy = data.get("file") or data["image"], data.get("noisy_label") or ""
    at, who = last.get("created_at", ""), last.get("completed_by", "")
    if not name or not all(isinstance(text, str) for text in (name, label or "", noisy, at)):
        raise ValueError("text was expected")
    return name, label, noisy, str(who), at
