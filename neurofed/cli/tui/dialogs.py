"""What appears above the monitor: a question with yes and no, and the help."""

from __future__ import annotations

from typing import ClassVar, Final

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Static

_BOX: Final = """
    align: center middle;
    Static { width: auto; max-width: 90%; height: auto; border: round $primary; background: $surface; padding: 1 2; }
"""
_HELP: Final = """\
p      pause the run at the end of its round, or let it go on
s      stop the run; what it has trained is kept
d      let the selected worker finish its task and leave
up/down  select a worker
q      quit; the run goes on

measured  bytes, samples per second, firing rate, metrics, times
modelled  energy: computed from counted operations by the
          chip's cost model; no chip was measured
Energy and bytes are the run's so far. "last heard" is the time
since the aggregator heard of a worker.

any key closes this"""


class Question(ModalScreen[bool]):
    """Asks something that is answered by y or n."""

    CSS = f"Question {{{_BOX}}}"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape,q", "answer(False)", "No"),
    ]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        """The question."""
        yield Static(Text(f"{self._text}\n\ny  yes     n  no"))

    def action_answer(self, yes: bool) -> None:
        """Close with an answer."""
        self.dismiss(yes)


class Help(ModalScreen[None]):
    """The keys, and where figures come from."""

    CSS = f"Help {{{_BOX}}}"

    def compose(self) -> ComposeResult:
        """The text."""
        yield Static(Text(_HELP))

    def on_key(self) -> None:
        """Any key closes it."""
        self.dismiss(None)
