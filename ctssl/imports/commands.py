"""`ctssl import-weights`."""

from pathlib import Path

import click

from ctssl.imports import LAYOUTS

PATH = click.Path(path_type=Path)


class Method(click.ParamType):
    """A key of LAYOUTS, also with _ for -."""

    name = "method"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The key."""
        method = value.replace("_", "-")
        if method not in LAYOUTS:
            self.fail(f"{value!r} is none of {', '.join(LAYOUTS)}", param, ctx)
        return method


@click.command("import-weights")
@click.argument("files", nargs=-1, type=PATH, required=True)
@click.option("--method", type=Method(), required=True, help=f"One of {', '.join(LAYOUTS)}.")
@click.option("--out", type=PATH, required=True, help="File: model.safetensors; its card is beside it.")
@click.option("--licence", default="not stated", show_default=True, help="Of the weights, for the card.")
@click.option("--option", "options", multiple=True, help="KEY=VALUE of the method, such as window_step=0.5.")
def import_weights(
    files: tuple[Path, ...], method: str, out: Path, licence: str, options: tuple[str, ...]
) -> None:
    """Turn published weights into a file that a run can be given; of context-aware, patch and graph FILE."""
    import yaml

    from ctssl.imports.importing import import_weights as do

    chosen = {}
    for text in options:
        key, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"--option is KEY=VALUE, but this is {text!r}")
        try:
            chosen[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise click.UsageError(f"--option {key} has a value that is no YAML: {value[:60]!r}") from error
    click.echo(do(files, method, out, licence, chosen))
