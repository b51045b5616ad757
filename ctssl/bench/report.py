"""How a benchmark says what it measured."""

import json
import platform
from pathlib import Path
from typing import Any

import click


def report(values: dict[str, Any], out: Path | None) -> None:
    """Print one JSON object, and write it into a file when one is named."""
    text = json.dumps({**values, "machine": platform.processor() or platform.machine()}, indent=1)
    click.echo(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")
