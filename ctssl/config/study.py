"""Settings of pretraining and evaluation, and the whole configuration."""

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, field_validator, model_validator

from ctssl.config.base import Section
from ctssl.config.methods import OPTIONS, MethodOptions
from ctssl.config.prepare import Atlas, Graph, Limits, Mask, Quality, Registration, Store, Volume

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def _check_name(name: str) -> str:
    if not NAME.fullmatch(name):
        msg = f"a name has small letters, digits and single hyphens, but this is {name!r}"
        raise ValueError(msg)
    return name


class Pretraining(Section):
    """pretraining: the machine side of every run."""

    device: Literal["cuda", "cpu", "auto"] = Field(description="auto: a GPU if there is one (demo only)")
    threads: int = Field(ge=1, description="CPU threads of one training")
    precision: Literal["bf16", "fp32"]
    checkpoint_steps: int = Field(ge=1, description="optimiser steps between checkpoints")


class Run(Section):
    """runs[]: one configured pretraining, or given weights."""

    name: str
    label: str = Field(default="", description="row name in the tables; the name when empty")
    method: str = Field(description="a key of ctssl.config.methods.OPTIONS")
    seeds: tuple[NonNegativeInt, ...] = Field(default=(0,), min_length=1)
    weights: Path | None = Field(default=None, description="use these instead of pretraining")
    options: MethodOptions

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        return _check_name(name)

    @model_validator(mode="before")
    @classmethod
    def _options(cls, data: Any) -> Any:
        if not isinstance(data, dict) or isinstance(data.get("options"), MethodOptions):
            return data
        method = data.get("method")
        if method not in OPTIONS:
            msg = f"method is one of {', '.join(OPTIONS)}, but this is {method!r}"
            raise ValueError(msg)
        return {**data, "options": OPTIONS[method].model_validate(data.get("options") or {})}

    @property
    def title(self) -> str:
        """The row name in tables and figures."""
        return self.label or self.name


class Target(Section):
    """evaluation.targets[]: one label column and how it is predicted."""

    name: str
    column: str = Field(description="a column of the manifest")
    task: Literal["regress", "classify"]
    log: bool = Field(default=False, description="regress the natural logarithm (values must be above 0)")

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        return _check_name(name)

    @model_validator(mode="after")
    def _log_needs_numbers(self) -> "Target":
        if self.log and self.task != "regress":
            msg = f"target {self.name}: log goes with task: regress only"
            raise ValueError(msg)
        return self


class Evaluation(Section):
    """evaluation: cross-validated probes on frozen features."""

    folds: int = Field(ge=2)
    split_seed: int = Field(ge=0)
    stratify: str | None = Field(description="label column that folds are balanced on; null: none")
    targets: tuple[Target, ...]


class Config(Section):
    """The whole configuration: config.yaml, overlaid by the user's file."""

    manifest: Path | None = Field(description="scans.csv; null: the workflow says what to do")
    prepared: Path | None = Field(description="folder with atlas/ and stores/ made elsewhere, or null")
    results: Path
    atlas: Atlas
    volume: Volume
    mask: Mask
    registration: Registration
    graph: Graph
    store: Store
    quality: Quality
    limits: Limits
    pretraining: Pretraining
    runs: tuple[Run, ...]
    baselines: tuple[Literal["laa-950"], ...]
    evaluation: Evaluation

    @model_validator(mode="after")
    def _ct_of_the_atlas_is_there(self) -> "Config":
        if self.registration.ct_weight > 0 and self.atlas.source == "file" and self.atlas.ct is None:
            msg = "registration.ct_weight above 0 needs the CT of the atlas: give atlas.ct"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> "Config":
        for what, names in (
            ("runs and baselines", [r.name for r in self.runs] + list(self.baselines)),
            ("row labels", [r.title for r in self.runs] + [b.upper() for b in self.baselines]),
            ("targets", [t.name for t in self.evaluation.targets]),
        ):
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                msg = f"names of {what} must differ, but these come twice: {', '.join(twice)}"
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _graphs_have_edges(self) -> "Config":
        rho, pitch = self.graph.rho_mm, self.atlas.pitch_mm
        if self.prepared is None and self.graph.edges == "distance" and rho <= pitch:
            msg = f"graph.rho_mm ({rho:g}) joins nothing: landmarks lie atlas.pitch_mm ({pitch:g}) apart"
            raise ValueError(msg)
        return self

    def run(self, name: str) -> Run:
        """The run with this name."""
        return next(r for r in self.runs if r.name == name)

    def target(self, name: str) -> Target:
        """The target with this name."""
        return next(t for t in self.evaluation.targets if t.name == name)
