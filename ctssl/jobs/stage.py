"""What all commands of jobs share: the group, logs, how a job ends."""

import shlex
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from ctssl.errors import CtsslError, MachineFault, machine_fault
from ctssl.files import writing_to
from ctssl.jobs import supervise
from ctssl.log import keep, redirect, say

PATH = click.Path(path_type=Path)
_WRITTEN = ("out", "failures", "weights", "csv")  # where a job writes, by the first of these that it has


@click.group(help="One job of the workflow; the rules call these.")
def stage() -> None:
    """Group of the rules' commands."""


def job(*paths: str) -> Callable[[Callable[..., None]], click.Command]:
    """A command of the group with --settings, --log and required paths; it dies with snakemake."""

    def decorate(function: Callable[..., None]) -> click.Command:
        def body(log: Path | None, **values: Any) -> None:
            supervise.die_with_snakemake()
            attempt = values.get("attempt", 1)
            try:
                redirect(log, attempt)
                say(shlex.join(["ctssl", *sys.argv[1:]]))
                with ExitStack() as failed, writing_to(next(values[n] for n in _WRITTEN if n in values)):
                    if attempt < values.get("tries", 1):
                        failed.callback(keep)
                    function(**values)
                    failed.pop_all()
            except CtsslError:  # some are OSErrors too
                raise
            except OSError as error:
                if error.errno is None:  # a library's word on what it read, not the system's
                    raise
                say(traceback.format_exc())
                fault = machine_fault(error)
                what = f"{function.__name__} could not run: {fault.message}"
                raise MachineFault(what, fault.advice) from error

        body.__doc__ = function.__doc__
        command = stage.command(function.__name__)(body)
        command.params += getattr(function, "__click_params__", [])
        command.params += [click.Option([f"--{p}"], type=PATH, required=True) for p in paths]
        command.params += [click.Option(["--settings"], required=True), click.Option(["--log"], type=PATH)]
        return command

    return decorate


def attempts(function: Callable[..., None]) -> Callable[..., None]:
    """The function with the options that say which try of a job this is."""
    function = click.option("--attempt", type=int, default=1)(function)
    return click.option("--tries", type=int, default=1, help="a crash in the last one excludes a scan")(
        function
    )


def machine_options(function: Callable[..., None]) -> Callable[..., None]:
    """The function with the options that say on what networks run."""
    function = click.option("--device", type=click.Choice(["cuda", "cpu", "auto"]), required=True)(function)
    return click.option("--threads", type=int, required=True)(function)
