"""What a service counts, for Prometheus."""

from assay.errors import MissingExtraError

try:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
except ImportError as error:
    raise MissingExtraError(error.name or "prometheus_client", "web") from None

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
IMAGES = (1, 2, 4, 8, 16, 32)


class Gauges:
    """Counters of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "assay_requests",
            "Requests that were let in and answered.",
            ["path", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "assay_request_seconds",
            "From a request that has come whole to the beginning of its answer.",
            ["path"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.images = Counter(
            "assay_images", "Images, by what became of them.", ["status"], registry=self.registry
        )
        self.batches = Histogram(
            "assay_batch_images", "Images answered together.", buckets=IMAGES, registry=self.registry
        )
        self.in_progress = Gauge(
            "assay_requests_in_progress", "Requests being answered.", registry=self.registry
        )

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self.registry)
