"""The figures in docs/training.md are those of the files in docs/results."""

import json
import re
from pathlib import Path

import pytest

from ctssl.config.methods import OPTIONS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "training.md").read_text()


def rows():
    """Row name -> its number, of the tables of speed."""
    text = PAGE.split("\n## Speed\n")[1]
    found = re.findall(r"^\| ([^|]+) \| ([\d,.]+) \|$", text, re.MULTILINE)
    return {name: float(number.replace(",", "")) for name, number in found}


@pytest.mark.parametrize(
    ("file", "key", "row"),
    [
        ("store", "random_patches_per_s", "ours, at random"),
        ("store", "zarr_python_patches_per_s", "zarr-python"),
        ("store", "packed_patches_per_s", "packed copy, at random"),
        ("store", "memmap_patches_per_s", "raw int16 memory map"),
        ("train", "patches_per_s", "whole steps: reading, two views, bf16 step"),
        ("train", "step_only_patches_per_s", "steps alone"),
        ("train", "recipe_patches_per_s", "published recipe, float32, one patch after the other"),
        ("train", "recipe_with_kept_memory_patches_per_s", "the same, freed memory kept as by ours"),
        ("condconv", "conditioned_patches_per_s", "location-conditioned trunk of drasclr"),
        ("condconv", "plain_patches_per_s", "the same trunk without experts"),
        ("condconv", "loop_patches_per_s", "a kernel and a convolution for each patch, as released"),
    ],
)
def test_the_page_says_what_was_measured(file, key, row):
    values = json.loads((DOCS / f"results/{file}.json").read_text())
    assert rows()[row] == pytest.approx(values[key], abs=0.051 if values[key] < 1000 else 0.5)


def test_shares_follow_from_their_figures():
    store, train = (json.loads((DOCS / f"results/{name}.json").read_text()) for name in ("store", "train"))
    assert store["times_zarr_python"] == pytest.approx(
        store["random_patches_per_s"] / store["zarr_python_patches_per_s"], rel=0.01
    )
    assert f"{train['times_recipe']:.1f} times the recipe" in PAGE
    assert f"{store['times_zarr_python']:.0f} times zarr-python" in PAGE
    assert f"{store['share_of_memmap']:.2f} of the memory map" in PAGE
    condconv = json.loads((DOCS / "results/condconv.json").read_text())
    conditioned, plain, loop = (
        condconv[f"{kind}_patches_per_s"] for kind in ("conditioned", "plain", "loop")
    )
    assert f"{conditioned / plain:.2f} of the plain trunk (target 0.9)" in PAGE
    assert f"the released loop reaches {loop / plain:.2f} of it" in PAGE
    assert conditioned >= 0.9 * plain


def test_the_costs_of_methods_are_those_measured():
    measured = json.loads((DOCS / "results/methods.json").read_text())["methods"]
    part = (DOCS / "methods.md").read_text().split("\n## What they cost\n")[1].split("\n## ")[0]
    found = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if "| " in line
    ]
    expected = []
    for method, values in measured.items():
        whole = [f"{values['parameters']:,}", str(values["features"])]
        last = [f"{values['embed_s_per_scan']:g}", f"{values['peak_memory_mb']:,}"]
        if not values["phases"]:  # nothing is trained
            expected.append([method, "volume", "–", "–", "–", *whole, *last])
        for phase, of_phase in values["phases"].items():
            name = f"{method}, {phase}" if len(values["phases"]) > 1 else method
            name += f" ({values['passes']} passes)" if values["passes"] > 1 else ""
            steps = (of_phase[key] for key in ("samples_per_step", "s_per_step", "s_per_1000_samples"))
            expected.append([name, of_phase["unit"], *(f"{n:g}" for n in steps), *whole, *last])
    assert found[1:] == expected
    assert set(measured) == set(OPTIONS)
