"""`neurofed export`: a run for other tools."""

from __future__ import annotations

from pathlib import Path

import click

from neurofed.cli.options import out_option
from neurofed.cli.runfolder import events_of


@click.command()
@click.argument("run")
@out_option
@click.option(
    "--tensorboard",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write an event file below DIR (extra `tensorboard`).",
)
@click.option(
    "--mlflow", metavar="URI_OR_DIR", help="Record the run in MLflow, at a URI or in a folder (extra `mlflow`)."
)
@click.option("--jsonl", metavar="FILE", help="Write lines of JSON, one for each round; - is the standard output.")
@click.option(
    "--otlp", metavar="URL", help="Send the traces of its rounds to a collector, http://HOST:4317 (extra `otel`)."
)
def export(
    run: str, out: Path, tensorboard: Path | None, mlflow: str | None, jsonl: str | None, otlp: str | None
) -> None:
    """Give RUN to other tools: its numbers, and where the time of its rounds went. All is drawn from its event log."""
    if all(target is None for target in (tensorboard, mlflow, jsonl, otlp)):
        raise click.UsageError("expected one of --tensorboard, --mlflow, --jsonl and --otlp, got none")
    from neurofed.files import write_atomically
    from neurofed.report import exports
    from neurofed.report.scalars import recorded

    found = recorded(events_of(out, run))
    if jsonl is not None:
        text = "".join(f"{line}\n" for line in exports.json_lines(found))
        if jsonl == "-":
            click.echo(text, nl=False)
        else:
            write_atomically(Path(jsonl), text.encode(errors="replace"))
            click.echo(jsonl)
    if tensorboard is not None:
        click.echo(exports.to_tensorboard(found, tensorboard))
    if mlflow is not None:
        click.echo(exports.to_mlflow(found, mlflow))
    if otlp is not None:
        click.echo(f"{_send_traces(events_of(out, run), otlp)} spans")


def _send_traces(events: Path, endpoint: str) -> int:
    from neurofed.eventlog import read_events
    from neurofed.tracing import RoundSpans
    from neurofed.tracing.otlp import deliver

    rounds = RoundSpans()
    spans = [span for event in read_events(events) for span in rounds.take(event)]
    deliver(spans, "neurofed-aggregator", endpoint)
    return len(spans)
