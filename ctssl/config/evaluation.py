"""Settings of the evaluation: folds, who counts as what, targets."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from ctssl.config.base import NAME, Section, Seed, check_name

Rare = Literal["keep", "drop", "merge"]
"""What becomes of classes with fewer subjects than there are folds."""

Task = Literal["regress", "classify"]

_IN_A_FILE_NAME = re.compile(r"[^/\\{}]{1,100}")


class Target(Section):
    """evaluation.targets[]: one label column and how it is predicted."""

    name: str
    column: str = Field(description="a column of the manifest")
    task: Literal["regress", "classify", "survive"]
    log: bool = Field(default=False, description="regress the natural logarithm (values must be above 0)")
    rare: Rare | None = Field(default=None, description="in place of evaluation.rare; null: as it says")
    event: str | None = Field(
        default=None,
        description="survive, where it must be given: a column that is 1 where the event came at that time, "
        "0 where the subject was only followed so long",
    )
    ordered: bool | None = Field(
        default=None, description="classify: classes have an order, that of their names; null: integers do"
    )

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        return check_name(name)

    @model_validator(mode="after")
    def _log_needs_numbers(self) -> "Target":
        if self.log and self.task != "regress":
            msg = f"target {self.name}: log goes with task: regress only"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _time_needs_an_event(self) -> "Target":
        if (self.event is None) == (self.task == "survive"):
            msg = (
                f"target {self.name}: task survive needs `event`, the column that says whether the event came"
                if self.event is None
                else f"target {self.name}: event goes with task: survive only"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _order_is_of_classes(self) -> "Target":
        if self.ordered is not None and self.task != "classify":
            msg = f"target {self.name}: ordered goes with task: classify only"
            raise ValueError(msg)
        return self


class Confounder(Section):
    """evaluation.confounders[]: what says nothing of the lungs; a bare text is its column."""

    name: str = Field(
        default="", description="as of a target; the column in small letters and hyphens when empty"
    )
    column: str = Field(
        description="a column of the manifest, or kernel, scanner, slice_thickness_mm, slice_mm of the files"
    )
    task: Task | None = Field(
        default=None,
        description="numbers or classes; null: classes where a value is no number or at most 10 differ",
    )

    @model_validator(mode="before")
    @classmethod
    def _by_column(cls, given: Any) -> Any:
        given = {"column": given} if isinstance(given, str) else given
        if isinstance(given, dict) and not given.get("name") and isinstance(given.get("column"), str):
            name = re.sub(r"[^a-z0-9]+", "-", given["column"].lower()).strip("-")
            if not NAME.fullmatch(name):
                msg = (
                    f"the column {given['column'][:70]!r} makes no name, which has up to 60 small letters, "
                    "digits and single hyphens: give the confounder a `name`, as {name: site, column: ...}"
                )
                raise ValueError(msg)
            return given | {"name": name}
        return given

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        return check_name(name)


class Evaluation(Section):
    """evaluation: cross-validated probes on frozen features."""

    folds: int = Field(ge=2)
    split_seed: Seed
    stratify: str | None = Field(description="label column that folds are balanced on; null: none")
    repeats: int = Field(ge=1, le=1000, description="how often all subjects are split anew")
    scans_of_subject: Literal["all", "first", "mean"] = Field(
        description="what a subject with several scans is to a probe"
    )
    rare: Rare = Field(description="what becomes of classes with fewer subjects than folds")
    leave_out: str | None = Field(description="column with one fold for each value, in tables of its own")
    confounders: tuple[Confounder, ...] = Field(
        description="what the same probes predict in a table of its own"
    )
    published: Literal["copdgene", "mosmed", "covid19-ct"] | None = Field(
        description="the published figures of this cohort stand beside ours; null: none"
    )
    label_shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        description="shares of each fold's training subjects for curves over few labels; none: no curves"
    )
    label_draws: int = Field(ge=1, le=1000, description="how often each share is drawn")
    reference: str | None = Field(
        description="name of the run or baseline that all others are compared with; null: the first run"
    )
    targets: tuple[Target, ...]

    @field_validator("label_shares")
    @classmethod
    def _rise(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if list(shares) != sorted(set(shares)):
            msg = "shares must rise, each once, as [0.01, 0.1, 1]"
            raise ValueError(msg)
        return shares

    @field_validator("stratify", "leave_out")
    @classmethod
    def _names_a_file(cls, column: str | None) -> str | None:
        if column is not None and not _IN_A_FILE_NAME.fullmatch(column):
            msg = "the file of the folds has this name: up to 100 characters, no slashes, no braces"
            raise ValueError(msg)
        return column
