"""A local web page where a person decides labels."""

from assay.review.run import STRATEGIES, Order, ReviewRun, order_images, read_review_run

__all__ = ["STRATEGIES", "Order", "ReviewRun", "order_images", "read_review_run"]
