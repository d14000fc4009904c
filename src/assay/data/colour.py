"""Any Pillow image -> sRGB: bit depth, transparency, CMYK and colour profiles, by fixed rules.

* 16-bit gray is scaled, 65535 to 255; 12-bit TIFF, 4095 to 255.
* Integer (``I``) and float (``F``) images are scaled from the narrowest of the ranges 0..1 (floats only),
  0..255 and 0..65535 that holds all values, or else from minimum to maximum. NaN counts as the minimum.
  The range depends on the image, so it is flagged ``rescaled``.
* Transparent pixels show the background.
* CMYK of a JPEG is inverted, as Adobe writes it and browsers read it.
* A colour profile that fits the pixels is converted to sRGB, by perceptual intent.
"""

from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

from assay.data.formats import BadImageError

_DEEP_GRAY = frozenset(("I;16", "I;16B", "I;16L", "I;16N"))
_NUMBERS = frozenset(("I", "F"))
_PROFILE_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}
_BITS_PER_SAMPLE = 258


def to_rgb(image: Image.Image, background: tuple[int, int, int]) -> tuple[Image.Image, tuple[str, ...]]:
    """The image in sRGB over ``background``, and the flags ``rescaled`` and ``icc_ignored``.

    Raises
    ------
    BadImageError : ``unsupported_format`` for a colour space other than gray, RGB, CMYK, YCbCr
    """
    if image.mode == "RGB" and not image.info.keys() & {"icc_profile", "transparency"}:
        return image, ()
    if image.mode in ("LAB", "HSV"):
        raise BadImageError("unsupported_format", f"colour space {image.mode}")
    flags = ("rescaled",) if image.mode in _NUMBERS else ()
    profile = image.info.get("icc_profile")
    colour, alpha = _split(image)
    rgb = _to_srgb(colour, profile) if profile else colour.convert("RGB")
    if rgb is None:
        rgb, flags = colour.convert("RGB"), (*flags, "icc_ignored")
    if alpha is None:
        return rgb, flags
    canvas = Image.new("RGB", rgb.size, background)
    canvas.paste(rgb, mask=alpha)
    return canvas, flags


def _split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colour in one of L, RGB, CMYK, and how opaque each pixel is (L), None for entirely."""
    if image.mode in _DEEP_GRAY or image.mode in _NUMBERS:
        return _deep_to_gray(image)
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode == "LA":
        return image.getchannel("L"), image.getchannel("A")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return image.convert("RGB"), image.getchannel("A")
    if image.mode == "1":
        return image.convert("L"), None
    return (image if image.mode in _PROFILE_SPACES else image.convert("RGB")), None


def _deep_to_gray(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    values = np.asarray(image)
    least, span = _range(image, values)
    filled = np.nan_to_num(values.astype(np.float32), nan=least, posinf=least + span, neginf=least)
    gray = np.clip((filled - least) * (255.0 / span) + 0.5, 0, 255).astype(np.uint8)
    hidden = image.info.get("transparency")
    opaque = None if hidden is None else Image.fromarray(np.where(values == hidden, 0, 255).astype(np.uint8))
    return Image.fromarray(gray), opaque


def _range(
    image: Image.Image, values: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]"
) -> tuple[float, float]:
    """(value that becomes 0, distance from it to the value that becomes 255)."""
    if image.mode in _DEEP_GRAY:
        bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE)
        return 0.0, 4095.0 if bits == (12,) else 65535.0
    finite = values[np.isfinite(values.astype(np.float64))]
    if not finite.size:
        return 0.0, 1.0
    least, greatest = float(finite.min()), float(finite.max())
    for top in (1.0, 255.0, 65535.0)[image.mode == "I" :]:
        if least >= 0 and greatest <= top:
            return 0.0, top
    return least, (greatest - least) or 1.0


def _to_srgb(colour: Image.Image, profile: bytes) -> Image.Image | None:
    """The image converted from ``profile`` to sRGB; None if the profile is broken or of another space."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if source.profile.xcolor_space.strip() != _PROFILE_SPACES[colour.mode]:
            return None
        if (source.profile.profile_description or "").startswith("sRGB"):
            return colour.convert("RGB")  # converting would only round
        target = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(colour, source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
