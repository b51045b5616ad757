"""The whole configuration, and what its parts must be for each other."""

from pathlib import Path

from pydantic import Field, field_validator, model_validator

from ctssl.config.base import Section, nearest
from ctssl.config.evaluation import Confounder, Evaluation, Target
from ctssl.config.prepare import Atlas, Graph, Limits, Mask, Quality, Registration, Store, Volume
from ctssl.config.runs import Baseline, Pretraining, Run


class Reports(Section):
    """reports: what tables and pages that others may see tell of the files."""

    file_names: bool = Field(description="false: scans go by their id; true: images by their path, too")


class Config(Section):
    """The whole configuration: config.yaml, overlaid by the user's file."""

    manifest: Path | None = Field(description="scans.csv; null: the workflow says what to do")
    prepared: Path | None = Field(description="folder with atlas/ and stores/ made elsewhere, or null")
    results: Path
    cohort: str = Field(max_length=100, description="its name, told by the card of the weights and tables")
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
            ("confounders", [c.name for c in self.evaluation.confounders]),
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
    def _reference_is_there(self) -> "Config":
        names = [*(r.name for r in self.runs), *(b.name for b in self.baselines)]
        wanted = self.evaluation.reference
        if wanted is not None and wanted not in names:
            msg = f"evaluation.reference: no run or baseline is called {wanted}{nearest(wanted, names)}"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _networks_learn_no_times(self) -> "Config":
        times = {target.name for target in self.evaluation.targets if target.task == "survive"}
        for run in self.runs:
            if asked := times.intersection(run.targets or ()):
                msg = f"run {run.name} cannot be trained for task survive: take {min(asked)} from its targets"
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
        """The names of the targets that a run or baseline predicts, in their order.

        A supervised run predicts no time to an event: nothing trains a network for that.
        """
        run = next((r for r in self.runs if r.name == name), None)
        asked = run.targets if run else None
        supervised = run is not None and run.options.supervised
        return [
            t.name
            for t in self.evaluation.targets
            if (asked is None or t.name in asked) and not (supervised and t.task == "survive")
        ]

    def confounder(self, name: str) -> Confounder:
        """The confounder with this name."""
        return next(c for c in self.evaluation.confounders if c.name == name)

    def target(self, name: str) -> Target:
        """The target with this name."""
        return next(t for t in self.evaluation.targets if t.name == name)
