"""Settings of the rows of a study: runs and baselines, and the machine that trains."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from ctssl.config.base import Section, Seed, check_name, nearest
from ctssl.config.baselines import BASELINES, BaselineOptions
from ctssl.config.methods import OPTIONS, MethodOptions

How = Literal["nothing", "all", "folds", "given"]
"""Of a row: not pretrained (random, or trained on labels); on all scans; inside the folds; given weights."""


class _Row(Section):
    """What runs and baselines share: a name, and a method, which says what options there are."""

    methods: ClassVar[Mapping[str, type[Section]]]
    """Method -> its options."""

    @field_validator("name", check_fields=False)
    @classmethod
    def _name(cls, name: str) -> str:
        return check_name(name)

    @field_validator("method", check_fields=False)
    @classmethod
    def _method(cls, method: str) -> str:
        if method not in cls.methods:
            msg = f"method is one of {', '.join(cls.methods)}{nearest(method, cls.methods)}"
            raise ValueError(msg)
        return method

    @field_validator("options", mode="before", check_fields=False)
    @classmethod
    def _options(cls, options: Any, info: ValidationInfo) -> Any:
        """Those of the chosen method: what is missing gets its default."""
        if "method" not in info.data:  # which is said already
            return cls.model_fields["options"].get_default()
        kind = cls.methods[info.data["method"]]
        given = options.model_dump(exclude_unset=True) if isinstance(options, Section) else options
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


class Run(_Row):
    """runs[]: one configured pretraining, or given weights."""

    methods = OPTIONS

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
    pretrained_on: Literal["all", "folds"] = Field(
        default="all", description="folds: one training for each fold, which sees its training subjects"
    )
    options: MethodOptions = Field(default=MethodOptions(), validate_default=True)

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

    @model_validator(mode="after")
    def _only_what_is_pretrained_here_goes_into_folds(self) -> "Run":
        if self.inside and (self.weights is not None or self.options.supervised):
            why = "was trained elsewhere" if self.weights else "is trained inside each fold anyway"
            msg = f"run {self.name}: {self.method} {why}: take the run's `pretrained_on` out"
            raise ValueError(msg)
        return self

    @property
    def inside(self) -> bool:
        """Whether there is a pretraining inside each fold in place of one."""
        return self.pretrained_on == "folds"

    @property
    def part(self) -> str:
        """Last word of the run's rows: whom its network has seen, `all`, or by training inside the folds."""
        return "folds" if self.options.supervised else "inside" if self.inside else "all"

    @property
    def title(self) -> str:
        """The row name in tables and figures."""
        return self.label or self.name


class Baseline(_Row):
    """baselines[]: one kind of hand-made features; a bare name stands for the one of this name."""

    methods = BASELINES

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

    @property
    def title(self) -> str:
        """The row name in tables."""
        own = self.name if self.name != self.method else BASELINES[self.method].title
        return self.label or own
