"""SVG pictures as a browser sees them."""

import xml.etree.ElementTree as ET

NAMES = "{http://www.w3.org/2000/svg}"


class Picture:
    """An SVG file as a browser sees it."""

    def __init__(self, text: str) -> None:
        self.root = ET.fromstring(text.encode("utf-8"))

    @property
    def title(self) -> str:
        return self.root.findtext(f"{NAMES}title")

    @property
    def description(self) -> str:
        return self.root.findtext(f"{NAMES}desc")

    @property
    def texts(self) -> list[str]:
        """What is written in it, in order."""
        return ["".join(node.itertext()).strip() for node in self.root.iter(f"{NAMES}text")]

    @property
    def links(self) -> list[str]:
        """Addresses that a browser would follow or fetch."""
        found = [value for node in self.root.iter() for key, value in node.attrib.items() if "href" in key]
        return [value for value in found if not value.startswith(("#", "data:image/png;base64,"))]

    @property
    def images(self) -> int:
        return sum(1 for _ in self.root.iter(f"{NAMES}image"))
