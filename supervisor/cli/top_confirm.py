"""The question of `top` before something is done to a worker."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Static


class Confirm(ModalScreen[bool]):
    """Asks once before something is done to a worker."""

    CSS = """
    Confirm { align: center middle; }
    Confirm Static { width: auto; max-width: 60; border: round $warning; padding: 1 2; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,enter", "answer(True)", "yes"),
        Binding("n,escape,q", "answer(False)", "no"),
    ]

    def __init__(self, question: str) -> None:
        """Ask this question."""
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """Show it."""
        yield Static(f"{self._question}\n\n[b]y[/b] yes   [b]n[/b] no")

    def action_answer(self, answer: bool) -> None:  # noqa: FBT001 - textual passes what the binding says
        """Close with the answer."""
        self.dismiss(answer)
