"""Numbers for Prometheus. No text and no name of a person is among them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
MILLISECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


class Metrics:
    """All of the gateway's numbers, in a registry of their own."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "safetylayers_requests", "Requests, by endpoint and status.", ("endpoint", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "safetylayers_request_seconds",
            "From a request's arrival to its last byte.",
            ("endpoint",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.rulings = Counter(
            "safetylayers_rulings",
            "Findings of guards and monitors, by what they led to.",
            ("by", "kind", "action", "shadow"),
            registry=self.registry,
        )
        self.guard_seconds = Histogram(
            "safetylayers_guard_seconds",
            "How long a guard read one passage.",
            ("guard",),
            buckets=MILLISECONDS,
            registry=self.registry,
        )
        self.tokens = Counter("safetylayers_tokens", "Tokens, by kind.", ("kind",), registry=self.registry)
        self.steered = Counter("safetylayers_steered_tokens", "Tokens that the gate changed.", registry=self.registry)
        self.running = Gauge("safetylayers_running_replies", "Replies being made.", registry=self.registry)
        self.waiting = Gauge("safetylayers_held_replies", "Replies waiting for a reviewer.", registry=self.registry)
        self.mode = Gauge(
            "safetylayers_mode", "1 for the mode in force on this replica.", ("mode",), registry=self.registry
        )
        self.monitors_alive = Gauge(
            "safetylayers_monitors_alive", "Whether the last canary was seen by the monitors.", registry=self.registry
        )
