"""What the two panels share: controls that find their place at any width, a line of text, pictures."""

from __future__ import annotations

from html import escape
from typing import Any

import ipywidgets  # type: ignore[import-untyped]

from gadam.display import front_end

RED, AMBER = "#b00020", "#8a4b00"


def grid(*controls: Any) -> Any:
    """Put controls side by side, as many as there is room for."""
    for control in controls:
        control.layout.width = "auto"
        control.style.description_width = "9em"
    layout = {"grid_template_columns": "repeat(auto-fill, minmax(18em, 1fr))", "width": "100%"}
    return ipywidgets.GridBox(controls, layout=layout)


def line(text: str, colour: str = "inherit") -> str:
    """Make a paragraph of a panel; the text is no HTML."""
    weight = "normal" if colour == "inherit" else "bold"
    return f'<p style="margin:2px 0; line-height:1.4; color:{colour}; font-weight:{weight}">{escape(text)}</p>'


def red_line(error: Exception) -> str:
    """Say an error as a red line: an `InputError` speaks for itself, any other says what it is."""
    words = " ".join(str(error).split())
    return line(words if type(error).__name__ == "InputError" else f"{type(error).__name__}: {words}", RED)


class Panel(ipywidgets.VBox):
    """Widgets with pictures. Where nobody looks at widgets the pictures stand for all of them."""

    def __init__(self) -> None:
        self.picture = ipywidgets.HTML(layout={"width": "100%", "margin": "0"})
        super().__init__(layout={"width": "100%"})

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        if front_end() == "notebook":
            return super()._repr_mimebundle_(**kwargs)
        words = {"text/plain": f"<{type(self).__name__}>"}
        return words | ({"text/html": self.picture.value} if self.picture.value else {})
