"""Snakemake imports these modules whenever it builds the DAG: they must stay light."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "ants", "zarr", "tensorstore", "numpy", "pandas", "scipy", "SimpleITK", "sklearn")


@pytest.mark.parametrize(
    "module",
    [
        *("ctssl.config", "ctssl.settings", "ctssl.settings_tables", "ctssl.manifest", "ctssl.recipes"),
        *("ctssl.planning", "ctssl.confounders"),
        *("ctssl.jobs.environment", "ctssl.jobs.summary", "ctssl.cli"),
    ],
)
def test_importing_stays_light(module):
    code = f"import sys, {module}; print(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert done.stdout.split() == []
