"""Progress of several workers: one live line each on a terminal, a line for each change elsewhere."""

from collections.abc import Mapping, Sequence

from supervisor.cli.terminal import Colour, coloured, is_coloured, is_live, plain, size


class Progress:
    """Shows where each of some workers is."""

    def __init__(self, names: Sequence[str]) -> None:
        """Show these workers, in this order."""
        self._names = names
        self._width = max(map(len, names), default=0)
        self._live = is_live() and len(names) < size()[1]
        self._colour = is_coloured()
        self._shown: dict[str, str] = {}
        self._drawn = 0

    def show(self, texts: Mapping[str, str], colours: Mapping[str, Colour]) -> None:
        """Show what is new of them."""
        changed = [name for name in self._names if self._shown.get(name) != texts[name]]
        self._shown.update(texts)
        if not changed:
            return
        if not self._live:
            for name in changed:
                self._line(name, colours.get(name))
            return
        if self._drawn:
            print(f"\x1b[{self._drawn}F", end="")
        for name in self._names:
            print("\x1b[2K", end="")
            self._line(name, colours.get(name))
        self._drawn = len(self._names)

    def _line(self, name: str, colour: Colour | None) -> None:
        text = plain(self._shown[name])
        if self._live:
            text = text[: max(10, size()[0] - self._width - 3)]  # a wrapped line could not be redrawn
        print(f"{name:<{self._width}}  {coloured(text, colour, on=self._colour)}", flush=True)
