"""The screen of `top`: what is where, and what the keys do."""

import time
from typing import ClassVar, Final, cast

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.coordinate import Coordinate
from textual.widgets import DataTable, Footer, Input, RichLog, Static

from supervisor.cli.command import CommandError
from supervisor.cli.figures import span
from supervisor.cli.top_confirm import Confirm
from supervisor.cli.top_source import Seen, Source
from supervisor.cli.top_view import COLUMNS, ORDERS, Order, arranged, detail, machine, row, title, told
from supervisor.model.news import Wish
from supervisor.model.status import WorkerStatus

EVERY_S: Final = 1.0
LATE_S: Final = 3.0  # an answer that takes longer is worth a word
LINES_KEPT: Final = 500


class Top(App[None]):
    """The screen. It shows what `Source` tells, and asks the daemon for what the keys say."""

    CSS = """
    #away { display: none; background: $error; color: $text; padding: 0 1; }
    #machine { padding: 0 1; height: auto; }
    #workers { height: 1fr; min-height: 5; }
    #detail { padding: 0 1; height: auto; max-height: 8; border-top: solid $primary; }
    #events { height: 7; padding: 0 1; border-top: solid $primary; }
    #wanted { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("o", "order", "order"),
        Binding("slash", "find", "find"),
        Binding("r", "wish('restart')", "restart"),
        Binding("s", "wish('stop')", "stop"),
        Binding("t", "wish('start')", "start"),
        Binding("x", "wish('reset')", "reset"),
        Binding("escape", "show_all", show=False),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, source: Source, first: Seen) -> None:
        """Begin with what was seen first."""
        super().__init__()
        self._source = source
        self._seen = first
        self._order: Order = ORDERS[0]
        self._wanted = ""
        self._shown: list[str] = []
        self._asked_s: float | None = None  # since when the daemon has not answered

    def compose(self) -> ComposeResult:
        """Lay out the screen."""
        yield Static(id="away", markup=False)
        yield Static(id="machine", markup=False)
        with Vertical():
            table: DataTable[Text] = DataTable(id="workers", cursor_type="row", zebra_stripes=True)
            yield table
            yield Input(placeholder="part of a name or a phase; Enter keeps it, Esc shows all", id="wanted")
            yield Static(id="detail", markup=False)
            yield RichLog(id="events", max_lines=LINES_KEPT, wrap=False)
        yield Footer()

    def on_mount(self) -> None:
        """Draw what was seen first, and look again every second."""
        self._table.add_columns(*COLUMNS)
        self._table.focus()
        self.show(self._seen)
        self.set_interval(EVERY_S, self.look)

    @property
    def _table(self) -> DataTable[Text]:
        return cast("DataTable[Text]", self.query_one("#workers", DataTable))

    def look(self) -> None:
        """Ask the daemon anew, unless it still owes an answer: a thread that waits cannot be called off."""
        now_s = time.monotonic()
        if self._asked_s is None:
            self._asked_s = now_s
            self._ask_all()
        elif now_s - self._asked_s >= LATE_S:
            since_s = self._asked_s if self._seen.away is None else self._seen.away_since_s
            self._say_away(since_s, self._seen.away or "the daemon does not answer")

    @work(thread=True, group="look")
    def _ask_all(self) -> None:
        """Ask in a thread: the daemon may be away, and keys are obeyed all the same."""
        seen = self._source.look()
        self.call_from_thread(self._answered, seen)

    def _answered(self, seen: Seen) -> None:
        self._asked_s = None
        self.show(seen)

    def _say_away(self, since_s: float, why: str | None) -> None:
        away = self.query_one("#away", Static)
        away.display = why is not None
        if why is not None:
            away.update(f"for {span(time.monotonic() - since_s)} nothing new: {why}")

    def show(self, seen: Seen) -> None:
        """Draw everything anew."""
        self._seen = seen
        self._say_away(seen.away_since_s, seen.away)
        self.title = title(seen.status, self._order, self._wanted)
        self.query_one("#machine", Static).update(
            Text.assemble((f"{self.title}\n", "bold"), machine(seen.status))
        )
        self._draw_workers()
        self._draw_detail()
        events = self.query_one("#events", RichLog)
        for one in seen.events:
            events.write(told(one))

    def _draw_workers(self) -> None:
        """Change the cells that changed; rows are made anew only where others are shown."""
        table, chosen = self._table, self._chosen_name()
        workers = arranged(self._seen.status.workers, self._order, self._wanted)
        names = [worker.name for worker in workers]
        rows = [row(worker, self._seen.courses.get(worker.name)) for worker in workers]
        if names != self._shown:
            table.clear()
            for name, cells in zip(names, rows, strict=True):
                table.add_row(*cells, key=name)
            if chosen in names:
                table.move_cursor(row=names.index(chosen))
            self._shown = names
            return
        for number, cells in enumerate(rows):
            for column, cell in enumerate(cells):
                place = Coordinate(number, column)
                if table.get_cell_at(place) != cell:
                    table.update_cell_at(place, cell, update_width=True)

    def _draw_detail(self) -> None:
        worker = self._chosen()
        self.query_one("#detail", Static).update("" if worker is None else detail(worker))

    def _chosen_name(self) -> str | None:
        number = self._table.cursor_row
        return self._shown[number] if 0 <= number < len(self._shown) else None

    def _chosen(self) -> WorkerStatus | None:
        name = self._chosen_name()
        return next((worker for worker in self._seen.status.workers if worker.name == name), None)

    def on_data_table_row_highlighted(self) -> None:
        """Tell more of the worker on which the cursor is."""
        self._draw_detail()

    def action_order(self) -> None:
        """Take the next order."""
        self._order = ORDERS[(ORDERS.index(self._order) + 1) % len(ORDERS)]
        self._redraw()

    def action_find(self) -> None:
        """Let a name be written."""
        wanted = self.query_one("#wanted", Input)
        wanted.display = True
        wanted.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show those of whom this is a part."""
        self._wanted = event.value.strip()
        self._redraw()

    def on_input_submitted(self) -> None:
        """Keep it, and go back to the table."""
        self.query_one("#wanted", Input).display = bool(self._wanted)
        self._table.focus()

    def action_show_all(self) -> None:
        """Show everybody again."""
        wanted = self.query_one("#wanted", Input)
        wanted.value = ""
        wanted.display = False
        self._table.focus()

    def _redraw(self) -> None:
        self._seen = Seen(self._seen.status, self._seen.courses, (), self._seen.away, self._seen.away_since_s)
        self.show(self._seen)

    def action_wish(self, wish: Wish) -> None:
        """Ask whether it is meant, then ask the daemon for it."""
        name = self._chosen_name()
        if name is None:
            return

        def answered(yes: bool | None) -> None:  # noqa: FBT001 - textual's callback
            if yes:
                self.ask(wish, name)

        self.push_screen(Confirm(f"{wish} {name}?"), answered)

    @work(thread=True, group="ask")
    def ask(self, wish: Wish, name: str) -> None:
        """Hand the wish to the daemon; how it goes is seen in the table."""
        try:
            self._source.ask(wish, name)
        except CommandError as error:
            self.call_from_thread(self.notify, str(error), severity="error")
