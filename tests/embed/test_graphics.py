"""How a graphics processor is told to compute; none is needed to see what it is told."""

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")

from assay.embed.graphics import steady  # noqa: E402  # after torch is known to be there

pytestmark = pytest.mark.train


def told() -> tuple[bool, bool]:
    return torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_it_computes_exactly_and_repeatably_only_inside(device):
    """Afterwards all is as before, whatever happened; of a processor nothing is changed."""
    before = told()
    with steady(device):
        assert told() == (before if device == "cpu" else (False, True))
    assert told() == before
    with pytest.raises(RuntimeError, match="inside"), steady(device):
        raise RuntimeError("inside")
    assert told() == before
