"""assay serve: a model behind HTTP."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from assay.cli import flags
from assay.cli.console import notify, show
from assay.cli.groups import with_flags

EXAMPLES = (
    "assay serve out/",
    "assay serve classifier.onnx --port 8000 --name pets",
    "assay serve out/ --host 192.168.1.20 --allow-remote --max-mb 8",
)


@dataclass(frozen=True)
class ServiceFlags:
    """Where, and how much."""

    host: flags.Host = "127.0.0.1"
    port: flags.Port = 8000
    allow_remote: flags.AllowRemote = False
    name: Annotated[
        str | None,
        flags.flag("--name", metavar="NAME", help="Name of the model; by default the file's or folder's."),
    ] = None
    max_mb: Annotated[
        int, flags.flag("--max-mb", metavar="N", min=1, help="Largest request, in megabytes.")
    ] = 16
    max_pixels: flags.MaxPixels = 25_000_000
    timeout_s: Annotated[
        int,
        flags.flag(
            "--timeout", metavar="SECONDS", min=1, help="Time for a request to arrive and be answered."
        ),
    ] = 30
    workers: flags.Workers = 2


@with_flags
def serve_command(model: flags.ModelPlace, service: ServiceFlags, quiet: flags.Quiet = False) -> int:
    """Answer requests for predictions: image files, and the Open Inference Protocol."""
    from assay.predict.runtime import load_runtime
    from assay.serve.service import make_service
    from assay.serve.work import Service
    from assay.web.listen import answer_until_interrupted, is_loopback, listen, url_host
    from assay.web.middleware import Guard

    runtime = load_runtime(model)
    served = Service(runtime, service.name or _name_of(model), service.workers, service.max_pixels)
    served.check()
    listener = listen(service.host, service.port, allow_remote=service.allow_remote)
    host, port = url_host(service.host), listener.getsockname()[1]
    app = Guard(
        make_service(served),
        port=port,
        token=None,
        hosts=(host,),
        max_body_bytes=service.max_mb * 1_000_000,
        timeout_s=service.timeout_s,
    )
    if not is_loopback(service.host):
        notify(f"warning: other machines can reach {service.host}, and what is sent there is not encrypted")

    def ready() -> None:
        show(f"http://{host}:{port}")
        if not quiet:
            notify(f"model {served.name!r} is ready: POST an image file to /predict; Ctrl-C ends")

    # Ctrl-C and a polite kill are how a service ends; what was begun has been answered.
    with contextlib.suppress(KeyboardInterrupt, SystemExit):
        answer_until_interrupted(app, listener, ready=ready, shutdown_timeout_s=service.timeout_s)
    return 0


def _name_of(model: Path) -> str:
    whole = model.resolve()
    return (whole.stem if whole.is_file() else whole.name) or "model"
