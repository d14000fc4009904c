"""The machine that a figure was measured on, in words."""

import os
import platform
from pathlib import Path


def machine() -> str:
    """Cores, processor and system."""
    return f"{os.cpu_count()} cores, {processor()}, {platform.platform()}"


def processor() -> str:
    """The name of the processor, where Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
