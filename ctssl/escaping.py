"""Text that somebody else wrote, made harmless for the programs in which tables and pages are opened."""

import html
import re
from typing import Any

_MARKUP = re.compile(r"([\\`*\[\]|])")
_LATEX = {
    **{sign: f"\\{sign}" for sign in "{}$&#_%"},
    **{"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"},
    **{"[": "{[}", "*": "{*}"},  # else an argument of the \\ before them
    **{'"': "''"},  # \textquotedbl is an error in the default fonts
    **{"±": r"$\pm$", "²": r"$^2$", "–": "--"},
}


def in_csv(value: Any) -> Any:
    """The value for a csv file: a text that a spreadsheet would run as a formula gets an apostrophe in front.

    Numbers, also as text, and all other texts stay as they are.
    """
    if not isinstance(value, str) or len(value) < 2 or value[0] not in "=+-@\t\r":
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def in_markdown(text: str) -> str:
    """One line of Markdown that shows the text as it is, also in a table; HTML in it stays text."""
    return html.escape(in_markdown_template(text), quote=False)


def in_markdown_template(text: str) -> str:
    """The same for a template that escapes HTML itself."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def in_latex(text: str) -> str:
    """One line of LaTeX that shows the text as it is; it runs nothing, and ends no cell of a table.

    Straight quotes become curly ones, which all fonts have.
    """
    return "".join(_LATEX.get(sign, sign) for sign in " ".join(text.split()))
