"""Which flags were typed.

The environment and assay.toml speak to many commands: what they say is no word to one that has no use for it.
"""

from collections.abc import Collection

from typer.main import get_current_context  # type: ignore[attr-defined]  # typer has it nowhere else


def typed(names: Collection[str]) -> list[str]:
    """The flags of these parameters that stand on the command line."""
    context = get_current_context()
    named = [parameter for parameter in context.command.params if parameter.name in names]
    sources = {parameter.opts[0]: context.get_parameter_source(parameter.name or "") for parameter in named}
    return [flag for flag, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
