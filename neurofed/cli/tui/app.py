"""The full-screen monitor: a run's header, curves, workers and events, and keys to steer it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar, Final, Protocol

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import DataTable, Footer, ProgressBar, Static

from neurofed.cli.tui import panels
from neurofed.cli.tui.dialogs import Help, Question
from neurofed.cli.tui.watched import Watched
from neurofed.errors import NeuroFedError
from neurofed.runstate import is_over, one_line
from neurofed.v1 import control_pb2

_DRAW_S: Final = 0.25
_CURVE_CELLS: Final = 56
_RESTING: Final = frozenset(
    {
        control_pb2.RUN_STATE_PAUSING,
        control_pb2.RUN_STATE_PAUSED,
        control_pb2.RUN_STATE_STOPPED,
        control_pb2.RUN_STATE_FAILED,
    }
)


class Control(Protocol):
    """What can be done to a run; `neurofed.client.AggregatorClient` is one."""

    def pause(self, run_id: str) -> None:
        """Let it rest."""

    def resume(self, run_id: str) -> None:
        """Let it go on."""

    def stop(self, run_id: str) -> None:
        """End it."""

    def drain(self, name: str) -> None:
        """Ask a worker to finish its task and leave."""


class MonitorApp(App[None]):
    """Shows a run that somebody else keeps up to date.

    Args:
        watched: the run.
        control: who carries out what the keys ask for.
        read_on: called once a run that had ended was resumed.
    """

    CSS = """
    Screen { layout: vertical; }
    .line { height: 1; width: 1fr; }
    #round { height: 1; }
    #round .line { width: 16; }
    #bar { width: 1fr; }
    #bar Bar { width: 1fr; }
    DataTable { height: auto; max-height: 60%; scrollbar-size: 0 1; margin-top: 1; }
    #events { height: 1fr; min-height: 3; border-top: solid $primary; color: $text-muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "pause", "Pause/resume"),
        Binding("s", "stop", "Stop"),
        Binding("d", "drain", "Drain worker"),
        Binding("q,ctrl+c", "quit", "Quit", key_display="q"),
        Binding("question_mark", "help", "Help", key_display="?"),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, watched: Watched, control: Control, read_on: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._watched, self._control, self._read_on = watched, control, read_on
        self._drawn: tuple[int, int] = (-1, 0)
        self._rows: list[str] = []

    def compose(self) -> ComposeResult:
        """The layout, from top to bottom."""
        yield Static(id="title", classes="line")
        yield Static(id="bill", classes="line")
        with Horizontal(id="round"):
            yield Static(id="progress", classes="line")
            yield ProgressBar(id="bar", show_eta=False, show_percentage=False)
        yield Static(id="quality", classes="line")
        yield Static(id="loss", classes="line")
        yield DataTable[Text](cursor_type="row", cell_padding=0, header_height=2, id="workers")
        yield Static(id="events")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Set up the table and begin to draw."""
        table = self._table()
        for column in panels.COLUMNS:
            last = column is panels.COLUMNS[-1]
            table.add_column(panels.heading(column), width=column.width + (not last), key=column.key)
        table.focus()
        self._draw()
        self.set_interval(_DRAW_S, self._draw)

    def action_pause(self) -> None:
        """Pause a run that goes on, or let one that rests go on."""
        with self._watched.lock:
            run_id, state = self._watched.snapshot.run_id, self._watched.snapshot.state
        if state == control_pb2.RUN_STATE_COMPLETED:
            self._say("the run has completed", "warning")
        elif state in _RESTING:
            self._ask_for("resume asked for", lambda: self._control.resume(run_id), then=self._read_on)
        else:
            self._ask_for("pause asked for: the round goes to its end first", lambda: self._control.pause(run_id))

    def action_stop(self) -> None:
        """Stop the run, after a question."""
        with self._watched.lock:
            run_id, over = self._watched.snapshot.run_id, is_over(self._watched.snapshot.state)
        if over:
            self._say("the run has ended already", "warning")
            return

        def answered(yes: bool | None) -> None:
            if yes:
                self._ask_for("stop asked for", lambda: self._control.stop(run_id))

        self.push_screen(Question(f"Stop {run_id}? What it has trained is kept."), answered)

    def action_drain(self) -> None:
        """Ask the selected worker to finish its task and leave, after a question."""
        name = self._selected()
        if not name:
            self._say("no worker is selected", "warning")
            return
        shown = one_line(name, 40)

        def answered(yes: bool | None) -> None:
            if yes:
                self._ask_for(f"{shown} was asked to leave", lambda: self._control.drain(name))

        self.push_screen(Question(f"Drain {shown}? It finishes its task and leaves."), answered)

    def action_help(self) -> None:
        """Show the keys and where figures come from."""
        self.push_screen(Help())

    @work(thread=True)
    def _ask_for(self, done: str, call: Callable[[], Any], then: Callable[[], None] = lambda: None) -> None:
        """Call the aggregator without holding up the screen."""
        try:
            call()
        except NeuroFedError as error:
            self.call_from_thread(self._say, one_line(str(error)), "error")
        else:
            self.call_from_thread(self._say, done)
            then()

    def _say(self, text: str, severity: Any = "information") -> None:
        self.notify(text, severity=severity, markup=False)

    def _draw(self) -> None:
        now = (self._watched.changes, int(time.monotonic()))
        if now == self._drawn:
            return
        self._drawn = now
        if self._watched.error:  # told once the screen is given back
            self.exit()
            return
        with self._watched.lock:
            self._draw_header()
            self._draw_workers()
            self._draw_events()

    def _draw_header(self) -> None:
        watched, snapshot = self._watched, self._watched.snapshot
        quality, loss = panels.curves(snapshot)
        texts = {
            "title": panels.title(watched),
            "bill": panels.bill(watched, time.time()),
            "progress": panels.progress(watched),
            "quality": panels.curve(snapshot, quality, _CURVE_CELLS),
            "loss": panels.curve(snapshot, loss, _CURVE_CELLS),
        }
        for name, text in texts.items():
            self.query_one(f"#{name}", Static).update(text)
        bar = self.query_one("#bar", ProgressBar)
        bar.update(total=max(1, snapshot.spec.rounds), progress=watched.rounds_done())

    def _draw_workers(self) -> None:
        table, rows = self._table(), panels.worker_rows(self._watched)
        names = [name for name, _ in rows]
        if names != self._rows:
            selected = self._selected()
            self._rows = names
            table.clear()
            for name, cells in rows:
                table.add_row(*cells, key=name)
            if selected in names:
                table.move_cursor(row=names.index(selected))
            return
        for index, (_, cells) in enumerate(rows):
            old = table.get_row_at(index)
            for place, cell in enumerate(cells):
                if old[place] != cell:
                    table.update_cell_at((index, place), cell)  # type: ignore[arg-type]

    def _draw_events(self) -> None:
        panel = self.query_one("#events", Static)
        lines = list(self._watched.tail)[-max(1, panel.size.height) :]
        panel.update(Text("\n".join(lines), no_wrap=True, overflow="ellipsis"))

    def _selected(self) -> str:
        row = self._table().cursor_row
        return self._rows[row] if 0 <= row < len(self._rows) else ""

    def _table(self) -> DataTable[Text]:
        table: DataTable[Text] = self.query_one("#workers", DataTable)
        return table
