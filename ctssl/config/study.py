"""Settings of pretraining and evaluation, and the whole configuration."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from ctssl.config.base import Section, nearest
from ctssl.config.baselines import BASELINES, BaselineOptions
from ctssl.config.methods import OPTIONS, MethodOptions
from ctssl.config.prepare import Atlas, Graph, Limits, Mask, Quality, Registration, Store, Volume

NAME = re.compile(r"(?=.{1,60}$)[a-z0-9]+(-[a-z0-9]+)*")
_IN_A_FILE_NAME = re.compile(r"[^/\\{}]{1,100}")
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _check_name(name: str) -> str:
    if not NAME.fullmatch(name):
        msg = f"a name has up to 60 small letters, digits and single hyphens, but this is {name[:70]!r}"
        raise ValueError(msg)
    return name


def _check_method(method: str, kinds: Mapping[str, type[Section]]) -> str:
    if method not in kinds:
        msg = f"method is one of {', '.join(kinds)}{nearest(method, kinds)}"
        raise ValueError(msg)
    return method


def _of_method(
    options: Any, info: ValidationInfo, kinds: Mapping[str, type[Section]], unknown: type[Section]
) -> Section:
    """The options of the chosen method: what is missing gets its default."""
    if "method" not in info.data:  # which is said already
        return unknown()
    kind = kinds[info.data["method"]]
    given = options.model_dump(exclude_unset=True) if isinstance(options, unknown) else options
    return options if isinstance(options, kind) else kind.model_validate(given or {})


class Pretraining(Section):
    """pretraining: the machine side of every run."""

    device: Literal["cuda", "cpu", "auto"] = Field(description="auto: a GPU if there is one (demo only)")
    threads: int = Field(ge=1, le=1024, description="CPU threads of one training")
    precision: Literal["bf16", "fp32"]
    checkpoint_steps: int = Field(ge=1, description="optimiser steps between checkpoints")
    checkpoints: int = Field(ge=1, le=100, description="how many of the latest are kept")
    devices: int = Field(ge=1, le=1024, description="GPUs, or CPU processes, of one training")
    passes: int = Field(ge=1, le=1024, description="parts of a step's batch: less memory, same result")
    compile_networks: bool = Field(description="torch.compile; may pay on a GPU")


class Run(Section):
    """runs[]: one configured pretraining, or given weights."""

    name: str
    label: str = Field(default="", description="row name in the tables; the name when empty")
    method: str = Field(description="a key of ctssl.config.methods.OPTIONS")
    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1)
    weights: Path | None = Field(default=None, description="use these instead of pretraining")
    targets: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="names of evaluation.targets that a network is trained for on the labels; null: all",
    )
    options: MethodOptions = Field(default=MethodOptions(), validate_default=True)

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        return _check_name(name)

    @field_validator("method")
    @classmethod
    def _method(cls, method: str) -> str:
        return _check_method(method, OPTIONS)

    @field_validator("options", mode="before")
    @classmethod
    def _options(cls, options: Any, info: ValidationInfo) -> Any:
        return _of_method(options, info, OPTIONS, MethodOptions)

    @model_validator(mode="after")
    def _frozen_has_weights(self) -> "Run":
        if self.options.frozen and self.weights is None:
            msg = (
                f"run {self.name}: {self.method} is not trained here, but used as it was published: make "
                f"`weights` of its file with `ctssl import-weights FILE --method {self.method} "
                "--out model.safetensors` and name that"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _supervised_has_no_weights(self) -> "Run":
        if self.options.supervised and self.weights is not None:
            msg = f"run {self.name}: {self.method} is trained anew inside each fold: take `weights` out"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _others_take_all_targets(self) -> "Run":
        if self.targets is not None and not self.options.supervised:
            msg = f"run {self.name}: {self.method} is probed on all targets: take the run's `targets` out"
            raise ValueError(msg)
        return self

    @property
    def title(self) -> str:
        """The row name in tables and figures."""
        return self.label or self.name


class Baseline(Section):
    """baselines[]: one kind of hand-made features; a bare name stands for the one of this name."""

    name: str
    label: str = Field(default="", description="row name in the tables; that of the kind when empty")
    method: str = Field(default="", description="a key of ctssl.config.baselines.BASELINES; or the name")
    options: BaselineOptions = Field(default=BaselineOptions(), validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        given = {"name": given} if isinstance(given, str) else given
        if isinstance(given, dict) and not given.get("method") and "name" in given:
            return given | {"method": given["name"]}
        return given

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        return _check_name(name)

    @field_validator("method")
    @classmethod
    def _method(cls, method: str) -> str:
        return _check_method(method, BASELINES)

    @field_validator("options", mode="before")
    @classmethod
    def _options(cls, options: Any, info: ValidationInfo) -> Any:
        return _of_method(options, info, BASELINES, BaselineOptions)

    @property
    def title(self) -> str:
        """The row name in tables."""
        own = self.name if self.name != self.method else BASELINES[self.method].title
        return self.label or own


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
    split_seed: Seed
    stratify: str | None = Field(description="label column that folds are balanced on; null: none")
    targets: tuple[Target, ...]

    @field_validator("stratify")
    @classmethod
    def _names_a_file(cls, column: str | None) -> str | None:
        if column is not None and not _IN_A_FILE_NAME.fullmatch(column):
            msg = "the file of the folds has this name: up to 100 characters, no slashes, no braces"
            raise ValueError(msg)
        return column


class Reports(Section):
    """reports: what tables and pages that others may see tell of the files."""

    file_names: bool = Field(description="false: scans go by their id; true: images by their path, too")


class Config(Section):
    """The whole configuration: config.yaml, overlaid by the user's file."""

    manifest: Path | None = Field(description="scans.csv; null: the workflow says what to do")
    prepared: Path | None = Field(description="folder with atlas/ and stores/ made elsewhere, or null")
    results: Path
    data_licence: str = Field(max_length=300, description="of the scans, told by the card of the weights")
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
    baselines: tuple[Baseline, ...]
    evaluation: Evaluation
    reports: Reports

    @field_validator("results", "prepared")
    @classmethod
    def _no_wildcards(cls, folder: Path | None) -> Path | None:
        if folder is not None and set("{}") & set(str(folder)):
            msg = "the name of this folder may not hold { or }, which Snakemake takes for wildcards"
            raise ValueError(msg)
        return folder

    @model_validator(mode="after")
    def _ct_of_the_atlas_is_there(self) -> "Config":
        if self.registration.ct_weight > 0 and self.atlas.source == "file" and self.atlas.ct is None:
            msg = "registration.ct_weight above 0 needs the CT of the atlas: give atlas.ct"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> "Config":
        for what, names in (
            ("runs and baselines", [r.name for r in self.runs] + [b.name for b in self.baselines]),
            ("row labels", [r.title for r in self.runs] + [b.title for b in self.baselines]),
            ("targets", [t.name for t in self.evaluation.targets]),
        ):
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                msg = f"names of {what} must differ, but these come twice: {', '.join(twice)}"
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _targets_are_there(self) -> "Config":
        names = [target.name for target in self.evaluation.targets]
        for run in self.runs:
            unknown = [name for name in run.targets or () if name not in names]
            if unknown:
                near = nearest(unknown[0], names)
                msg = f"run {run.name}: no evaluation.targets is called {', '.join(unknown)}{near}"
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _devices_have_groups(self) -> "Config":
        devices = self.pretraining.devices
        for run in self.runs:
            groups = getattr(run.options, "bn_groups", devices)  # of a method that has them
            if run.weights is None and devices > groups:
                msg = (
                    f"pretraining.devices is {devices}, but run {run.name} has {groups} batch norm groups to "
                    "share: use fewer devices, or raise its options.bn_groups, which changes results"
                )
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

    def baseline(self, name: str) -> Baseline:
        """The baseline with this name."""
        return next(b for b in self.baselines if b.name == name)

    def targets_of(self, name: str) -> list[str]:
        """The names of the targets that a run or baseline predicts, in their order."""
        asked = next((r.targets for r in self.runs if r.name == name), None)
        return [t.name for t in self.evaluation.targets if asked is None or t.name in asked]

    def target(self, name: str) -> Target:
        """The target with this name."""
        return next(t for t in self.evaluation.targets if t.name == name)
