#!/usr/bin/env bash
# Puts ctssl itself into the environment; snakemake runs this in the working directory.
set -eu
pip install --no-deps "${CTSSL_HOME:-.}"
