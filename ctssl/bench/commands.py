"""`ctssl bench ...`: each command measures and prints one JSON object."""

from pathlib import Path
from typing import Any

import click

PATH = click.Path(path_type=Path)
SIDE = click.IntRange(64, 4096)


@click.group()
def bench() -> None:
    """Measure; each prints one JSON object."""


@bench.command()
@click.option("--scans", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--json", "out", type=PATH, help="Also write the JSON here.")
def dag(scans: int, out: Path | None) -> None:
    """Time the dry run of a new study of this many scans."""
    from ctssl.bench.dag import bench_dag
    from ctssl.bench.report import report

    report(bench_dag(scans), out)


@bench.command()
@click.option("--scans", type=click.IntRange(1), default=4, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=7, show_default=True)
@click.option("--spacing-mm", type=click.FloatRange(1, 8), default=2.0, show_default=True)
@click.option("--hard", multiple=True, help="Make each phantom this hard case; docs/phantom.md lists them.")
@click.option("--json", "out", type=PATH, help="Also write the JSON here.")
def register(scans: int, seed: int, spacing_mm: float, hard: tuple[str, ...], out: Path | None) -> None:
    """Register phantoms, whose landmarks are known, to the built-in atlas."""
    from ctssl.bench.register import bench_register
    from ctssl.bench.report import report

    report(bench_register(scans, seed, spacing_mm, hard), out)


@bench.command()
@click.argument("atlas", type=PATH)
@click.argument("masks", type=PATH, nargs=-1, required=True)
@click.option("--released", is_flag=True, help="The released settings too: ten minutes a mask.")
@click.option("--json", "out", type=PATH, help="Also write the JSON here.")
def masks(atlas: Path, masks: tuple[Path, ...], released: bool, out: Path | None) -> None:
    """Register lung MASKS to that of an ATLAS: ours, its affine part, the released settings."""
    from ctssl.bench.masks import bench_masks
    from ctssl.bench.report import report

    report(bench_masks(atlas, masks, with_released=released), out)


@bench.command()
@click.option("--suffix", type=click.Choice([".nii.gz", ".nii", ".nrrd", ".mha"]), default=".nii.gz")
@click.option("--size", type=(SIDE, SIDE, SIDE), default=(512, 512, 400), show_default=True)
@click.option("--seed", type=click.IntRange(0), default=7, show_default=True)
@click.option("--json", "out", type=PATH, help="Also write the JSON here.")
def prepare(suffix: str, size: tuple[int, int, int], seed: int, out: Path | None) -> None:
    """Prepare one full-size scan: seconds, memory, bytes read and written of each job."""
    from ctssl.bench.prepare import bench_prepare
    from ctssl.bench.report import report

    report(bench_prepare(size, suffix, seed), out)


@bench.command("phantom")
@click.option("--scans", type=click.IntRange(1), default=4, show_default=True)
@click.option("--spacing-mm", type=click.FloatRange(1, 8), default=2.0, show_default=True)
@click.option("--slice-mm", type=click.FloatRange(0.75, 8), default=2.0, show_default=True)
@click.option("--json", "out", type=PATH, help="Also write the JSON here.")
def bench_of_phantoms(scans: int, spacing_mm: float, slice_mm: float, out: Path | None) -> None:
    """Time phantoms and their stores."""
    from ctssl.bench.phantom import bench_phantom
    from ctssl.bench.report import report

    report(bench_phantom(scans, spacing_mm, slice_mm), out)


@bench.command("train")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), required=True)
@click.option("--scans", type=click.IntRange(2), default=64, show_default=True)
@click.option("--steps", type=click.IntRange(1), default=40, show_default=True, help="measured of each kind")
@click.option("--batch", type=click.IntRange(2), default=64, show_default=True, help="patches of a step")
@click.option("--compile", "compiled", is_flag=True, help="compile the networks")
@click.option("--json", "out", type=PATH, help="Also write the JSON here.")
def bench_of_training(
    device: Any, scans: int, steps: int, batch: int, compiled: bool, out: Path | None
) -> None:
    """Patches a second of training, beside the published recipe."""
    from ctssl.bench.report import report
    from ctssl.bench.train import bench_train

    report(bench_train(device, scans, steps, batch=batch, compiled=compiled), out)


@bench.command("store")
@click.option("--scans", type=click.IntRange(1), default=64, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--json", "out", type=PATH, help="Also write the JSON here.")
def bench_of_stores(scans: int, rounds: int, out: Path | None) -> None:
    """Read patches at random, beside zarr-python and a memory map."""
    from ctssl.bench.report import report
    from ctssl.bench.store import bench_store

    report(bench_store(scans, rounds), out)


@bench.command("condconv")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--batch", type=click.IntRange(8), default=64, show_default=True, help="patches of a step")
@click.option("--steps", type=click.IntRange(1), default=10, show_default=True, help="measured of each kind")
@click.option("--json", "out", type=PATH, help="Also write the JSON here.")
def bench_of_conditioned_convolutions(device: Any, batch: int, steps: int, out: Path | None) -> None:
    """Patches a second, forward and back, of conditioned convolutions beside plain ones."""
    from ctssl.bench.condconv import bench_condconv
    from ctssl.bench.report import report

    report(bench_condconv(device, batch, steps), out)


@bench.command("methods")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--method", "names", multiple=True, help="One of them [default: all].")
@click.option("--scans", type=click.IntRange(2), default=128, show_default=True)
@click.option("--steps", type=click.IntRange(1), default=3, show_default=True, help="measured of each phase")
@click.option("--passes", type=click.IntRange(1), default=1, show_default=True, help="parts of a step")
@click.option("--json", "out", type=PATH, help="Also write the JSON here.")
def bench_of_methods(
    device: Any, names: tuple[str, ...], scans: int, steps: int, passes: int, out: Path | None
) -> None:
    """Seconds a step, a thousand samples and a scan, memory and size of each method."""
    from ctssl.bench.methods import bench_methods
    from ctssl.bench.report import report
    from ctssl.config.methods import OPTIONS

    report(bench_methods(device, names or list(OPTIONS), scans, steps, passes), out)
