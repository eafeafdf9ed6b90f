"""Traces of rounds: where the time of a round goes, on the aggregator and on the workers. Off unless asked for.

A span's identity is computed from what it is about, so that the two ends of a task need not tell each other: the
worker's span finds its place below the aggregator's. A round that a crash cut short and that is done again is drawn
into the same trace.
"""

from neurofed.tracing.spans import RoundSpans, Span, work_span

__all__ = ["RoundSpans", "Span", "work_span"]
