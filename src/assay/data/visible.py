"""Strangers' words on a page: names of files and classes, made harmless to whoever reads them."""


def visible(text: str) -> str:
    """Text for a page, which has no place for bytes that are not UTF-8, nor for marks that turn it round."""
    shown = (c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    return "".join(shown)
