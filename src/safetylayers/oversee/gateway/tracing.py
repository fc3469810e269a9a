"""OpenTelemetry traces, by the semantic conventions for generative AI. They hold no text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from opentelemetry.trace import NoOpTracer, Span, Status, StatusCode, Tracer

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from safetylayers.oversee.gateway.answers import Oversight, Usage
    from safetylayers.oversee.gateway.case import Case

NONE: Tracer = NoOpTracer()


def provider_for(endpoint: str, *, replica: str) -> TracerProvider:
    """Return what sends traces to an OTLP collector over HTTP."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.name": "safetylayers", "service.instance.id": replica})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    return provider


def begin(tracer: Tracer, case: Case) -> Span:
    """Begin a request's span."""
    operation = "chat" if case.kind == "chat" else "text_completion"
    span = tracer.start_span(f"{operation} {case.model}")
    if span.is_recording():
        sampling = case.asks[0].sampling
        span.set_attributes(
            {
                "gen_ai.operation.name": operation,
                "gen_ai.provider.name": "safetylayers",
                "gen_ai.request.model": case.model,
                "gen_ai.request.max_tokens": sampling.max_tokens,
                "gen_ai.request.temperature": sampling.temperature,
                "gen_ai.request.top_p": sampling.top_p,
                "gen_ai.request.choice.count": len(case.asks),
                "gen_ai.response.id": case.id,
            }
        )
    return span


def end(span: Span, usage: Usage, finishes: Sequence[str], oversight: Oversight, failed: str | None) -> None:
    """End a request's span."""
    if span.is_recording():
        span.set_attributes(
            {
                "gen_ai.usage.input_tokens": usage.prompt_tokens,
                "gen_ai.usage.output_tokens": usage.completion_tokens,
                "gen_ai.response.finish_reasons": list(finishes),
                "safetylayers.action": oversight.action,
                "safetylayers.policy": oversight.policy,
            }
        )
        if failed:
            span.set_attribute("error.type", failed)
            span.set_status(Status(StatusCode.ERROR))
    span.end()
