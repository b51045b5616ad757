"""The settings of folds and of probes; as those of ctssl.settings."""

from typing import Any

from ctssl import outcomes
from ctssl.config import Config
from ctssl.digests import digest, label_digest, members
from ctssl.manifest import Manifest
from ctssl.settings import cases_of, first_of, how_split, text_of


def splits(config: Config, seed: int | None = None) -> str:
    """Settings of the folds of the first split, or of the one with this seed."""
    how = how_split(config) | ({} if seed is None else {"split_seed": seed})
    return text_of("splits", manifest=str(config.manifest), **how)


def splits_by(config: Config, manifest: Manifest) -> str:
    """Settings of the folds that leave out one value of a column each; they hold a digest of it."""
    column = str(config.evaluation.leave_out)
    values = {"values": label_digest(manifest.column(column)), "subjects": digest(members(manifest))}
    return text_of("splits_by", manifest=str(manifest.path), column=column, **values)


def probe(config: Config, manifest: Manifest, target: str) -> str:
    """Settings of a probe; they hold a digest of its label column."""
    return text_of("probe", **asked(config, manifest, target))


def probe_by(config: Config, manifest: Manifest, target: str) -> str:
    """Settings of a probe whose folds leave out one value of a column each."""
    return text_of("probe_by", **asked(config, manifest, target), by=config.evaluation.leave_out)


def probe_inside(config: Config, manifest: Manifest, target: str) -> str:
    """Settings of a probe on features of a network for each fold."""
    return text_of("probe_inside", **asked(config, manifest, target), **first_of(config))


def asked(config: Config, manifest: Manifest, target: str) -> dict[str, Any]:
    """What is predicted, and of whom."""
    chosen = config.target(target)
    labels = label_digest(outcomes.texts(manifest, chosen))
    values = chosen.model_dump(mode="json", exclude={"rare"})
    cases = cases_of(config, manifest, chosen)
    return {"manifest": str(manifest.path), "target": values, "labels": labels, **cases}
