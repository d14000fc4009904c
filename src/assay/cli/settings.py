"""assay.toml: defaults for flags, for all commands or for one."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.errors import UsageError


def read_settings(file: Path, flags: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, Any]]:
    """The defaults of each command: values at the top of the file are for every command with such a flag.

    Parameters
    ----------
    flags : command -> flag without its dashes -> name of the parameter

    Raises
    ------
    UsageError : not TOML, a table that is no command, a key that is no flag
    """
    found: dict[str, dict[str, Any]] = {command: {} for command in flags}
    shared = _read(file)
    tables = {key: shared.pop(key) for key in list(shared) if isinstance(shared[key], dict)}
    for key, value in shared.items():
        having = [command for command in flags if key in flags[command]]
        if not having:
            raise UsageError(_unknown(file, key, {name for names in flags.values() for name in names}))
        for command in having:
            found[command][flags[command][key]] = value
    for command, values in tables.items():
        if command not in flags:
            raise UsageError(f"{file}: expected a table for {', '.join(flags)}, got [{command}]")
        for key, value in values.items():
            if key not in flags[command]:
                raise UsageError(_unknown(file, key, set(flags[command]), f" below [{command}]"))
            found[command][flags[command][key]] = value
    return found


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: expected TOML, got something else ({error})") from error


def _unknown(file: Path, key: str, known: set[str], where: str = "") -> str:
    from difflib import get_close_matches

    near = get_close_matches(key, sorted(known), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"the flags are {', '.join(sorted(known))}"
    return f"{file}: {key!r}{where} is no flag; {hint}"
