"""From scans.csv to patch stores, encoders, features and result tables. Rules are in rules/."""

from snakemake.utils import min_version

min_version("9.16")


configfile: f"{workflow.basedir}/config.yaml"


include: "rules/common.smk"


if CONFIG.prepared is None:

    include: "rules/prepare.smk"

    if BOXED:

        include: "rules/boxes.smk"


include: "rules/store.smk"
include: "rules/pretrain.smk"
include: "rules/evaluate.smk"
include: "rules/scores.smk"


if CONFOUNDERS:

    include: "rules/confounding.smk"


if CONFIG.evaluation.published:

    include: "rules/paper.smk"


if INSIDE:

    include: "rules/inside.smk"


if CONFIG.evaluation.leave_out and ROWS + BASELINE_ROWS:

    include: "rules/left_out.smk"


if SUPERVISED:

    include: "rules/supervise.smk"


rule all:
    default_target: True
    input:
        FAILURES,
        QUALITY,
        ENOUGH,
        # Named here too: Snakemake does not miss files that only finished jobs would read.
        of_every_scan("stores"),
        of_every_scan("boxes") if BOXED else [],
        PACKED if CONFIG.store.packed else [],
        all_features(),
        all_tables(),
        all_predictions(),


onsuccess:
    say_exclusions(RESULTS)


onerror:
    say_exclusions(RESULTS)
