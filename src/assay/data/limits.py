"""Limits: what an image file may ask for before anybody has looked into it."""

from dataclasses import dataclass

BYTES_A_PIXEL = 4
"""Of files that are larger than usual: more than RGB without compression."""


@dataclass(frozen=True)
class Limits:
    """What a file may ask for; a file that asks for more is skipped."""

    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 50_000_000
    """Width times height, as the header declares them."""
    background: tuple[int, int, int] = (255, 255, 255)
    """RGB of what shows behind transparent pixels."""

    @staticmethod
    def of(max_pixels: int) -> "Limits":
        """For images of up to so many pixels; if that is more than usual, of as many bytes as they need."""
        if max_pixels <= USUAL.max_pixels:
            return Limits(max_pixels=max_pixels)
        return Limits(BYTES_A_PIXEL * max_pixels, max_pixels)


USUAL = Limits()
