"""A store of objects on this machine: moto's S3 server, with faults of a network in front."""

import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from moto.backends import get_backend
from moto.core import DEFAULT_ACCOUNT_ID
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

BUCKET = "pictures"
HANG, SHORT, SHORT_AND_SAID, BUSY, BROKEN, DENIED = (
    "hang",
    "short",
    "short and said",
    "busy",
    "broken",
    "denied",
)

ANYBODY_READS = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": f"arn:aws:s3:::{BUCKET}/*"}
    ],
}


class Store:
    """Objects by key in one bucket; a fault is of the requests for one key, or of listing for ""."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[str] = []
        """What was asked for: method and path."""
        self._faults: dict[str, list[str]] = defaultdict(list)
        self._closed = threading.Event()
        self._serve = DomainDispatcherApplication(create_backend_app)
        self._objects = get_backend("s3")[DEFAULT_ACCOUNT_ID]["aws"]
        self._objects.create_bucket(BUCKET, "us-east-1")
        self._objects.put_bucket_policy(BUCKET, json.dumps(ANYBODY_READS).encode())

    def put(self, key: str, data: bytes) -> None:
        """Straight into moto: a request for each of thousands would take half a minute."""
        self._objects.put_object(BUCKET, key, data)

    def delete(self, key: str) -> None:
        self._objects.delete_object(BUCKET, key)

    def fail(self, key: str, fault: str, times: int = 1_000) -> None:
        """The next requests for ``key`` have this fault."""
        self._faults[key] = [fault] * times

    def close(self) -> None:
        self._closed.set()

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"].encode("latin-1").decode()
        self.requests.append(f"{environ['REQUEST_METHOD']} {path}")
        faults = self._faults.get(path.removeprefix(f"/{BUCKET}").lstrip("/"))
        fault = faults.pop() if faults else None
        if fault == HANG:
            self._closed.wait(60)
        if fault in (HANG, BUSY, BROKEN, DENIED):
            status = {HANG: "504 Late", BUSY: "503 Slow Down", BROKEN: "500 Oops", DENIED: "403 Forbidden"}[
                fault
            ]
            start_response(status, [("Content-Length", "0")])
            return [b""]
        if fault is None:
            return self._serve(environ, start_response)
        seen = {}
        body = b"".join(
            self._serve(environ, lambda status, headers, *_: seen.update(status=status, headers=headers))
        )
        half = body[: len(body) // 2]
        said = len(half) if fault == SHORT_AND_SAID else len(body)
        headers = [
            (name, value)
            for name, value in seen["headers"]
            if not name.lower().startswith(("content-l", "x-amz-c"))
        ]
        start_response(seen["status"], [*headers, ("Content-Length", str(said))])
        return [half]


class _Quiet(WSGIRequestHandler):
    def log(self, *_):
        pass


@contextmanager
def object_store() -> Iterator[Store]:
    """The store, and an environment in which S3 is there; no object is left of an earlier one."""
    get_backend("s3")[DEFAULT_ACCOUNT_ID]["aws"].reset()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", "none")
        patch.delenv("ASSAY_OFFLINE", raising=False)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "none")
        server = make_server("127.0.0.1", 0, None, threaded=True, request_handler=_Quiet)
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
        server.app = store = Store(f"http://127.0.0.1:{server.port}")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield store
        finally:
            store.close()
            server.shutdown()
            server.server_close()
            thread.join()
