"""What Prometheus reads: the status document and the alerts as metrics, made anew for each scrape."""

from supervisor.web.metrics.page import CHAPTERS, CONTENT_TYPE, render

__all__ = ["CHAPTERS", "CONTENT_TYPE", "render"]
