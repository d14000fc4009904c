"""assay serve: a model behind HTTP."""

from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from assay.cli import options
from assay.cli.console import notifier, show
from assay.errors import UsageError
from assay.progress import notify

EXAMPLES = (
    "assay serve out/",
    "assay serve classifier.onnx --port 8000 --name pets",
    "assay serve out/ --host 192.168.1.20 --allow-remote --max-mb 8",
)


def command(
    model: options.Model,
    /,
    *,
    host: options.Host = "127.0.0.1",
    port: options.Port = 8000,
    allow_remote: options.AllowRemote = False,
    name: str | None = None,
    max_mb: Annotated[int, Parameter(validator=Number(gte=1))] = 16,
    max_pixels: options.MaxPixels = 25_000_000,
    timeout_s: Annotated[int, Parameter(name="--timeout", validator=Number(gte=1))] = 30,
    workers: options.Workers = 2,
    quiet: options.Quiet = False,
) -> int:
    """Serve predictions over HTTP: image files, and the Open Inference Protocol.

    Parameters
    ----------
    name
        Name of the model in requests. Without it: the name of the file or folder.
    max_mb
        Largest request, in megabytes.
    timeout_s
        Seconds in which a request must arrive and be answered.
    """
    from assay.predict.runtime import load_runtime
    from assay.serve.app import Service, make_app
    from assay.web.listen import answer_until_interrupted, is_loopback, listen, url_host
    from assay.web.middleware import Guard

    place = model.resolve()
    name = name or (place.stem if place.is_file() else place.name) or "model"
    runtime = load_runtime(model)
    if runtime.width:
        raise UsageError(
            f"{model}: expected a model of images, got one of features; predict with assay predict "
            "--features, or serve model.onnx with any server of ONNX"
        )
    service = Service(runtime, name, workers, max_pixels)
    service.check()
    listener = listen(host, port, allow_remote=allow_remote)
    hostname, free_port = url_host(host), listener.getsockname()[1]
    app = Guard(
        make_app(service),
        port=free_port,
        token=None,
        hosts=(hostname,),
        max_body_bytes=max_mb * 1_000_000,
        timeout_s=timeout_s,
    )
    if not is_loopback(host):
        notify(f"warning: other machines can reach {host}; connections are not encrypted")

    def ready() -> None:
        show(f"http://{hostname}:{free_port}")
        notifier(quiet)(f"Model {name!r} is ready. Send an image file with POST /predict; Ctrl-C stops.")

    # Ctrl-C and SIGTERM are how a service ends, after requests in progress were answered: exit code 0.
    try:
        answer_until_interrupted(app, listener, ready=ready, shutdown_timeout_s=timeout_s)
    except (KeyboardInterrupt, SystemExit) as ended:
        if getattr(ended, "code", 0) == 129:  # a closed terminal ends it as well, and is an interruption
            raise
    return 0
