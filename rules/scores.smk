"""How much rows differ, and what few labels are worth."""

if len(ROWS + FOLD_ROWS + INSIDE_ROWS + BASELINE_ROWS) > 1:

    rule pairs:
        input:
            probes=all_probes(),
        output:
            csv=f"{RESULTS}/tables/pairs.csv",
            markdown=f"{RESULTS}/tables/pairs.md",
        log:
            f"{RESULTS}/logs/pairs.log",
        conda:
            "../envs/train.yaml"
        threads: 1
        params:
            settings=settings_scores.pairs(CONFIG),
        shell:
            "exec ctssl stage pairs --settings {params.settings:q} --log {log:q}"
            " {input.probes:q} --csv {output.csv:q} --markdown {output.markdown:q}"


if CONFIG.evaluation.label_shares and all_curves():

    rule curve:
        input:
            features=f"{RESULTS}/features/{{row}}.parquet",
            splits=SPLITS,
        output:
            result=f"{RESULTS}/curves/{{row}}/{{target}}.json",
        log:
            f"{RESULTS}/logs/curves/{{row}}_{{target}}.log",
        conda:
            "../envs/train.yaml"
        threads: 1
        params:
            settings=lambda w: settings_scores.curve(CONFIG, MANIFEST, w.target),
        shell:
            "exec ctssl stage curve --settings {params.settings:q} --log {log:q}"
            " --features {input.features:q} --splits {input.splits:q} --out {output.result:q}"

    rule curves:
        input:
            found=all_curves(),
        output:
            csv=f"{RESULTS}/tables/curves.csv",
            figure=f"{RESULTS}/figures/curves.png",
        log:
            f"{RESULTS}/logs/curves.log",
        conda:
            "../envs/train.yaml"
        threads: 1
        params:
            settings=settings_scores.curves(CONFIG),
        shell:
            "exec ctssl stage curves --settings {params.settings:q} --log {log:q}"
            " {input.found:q} --csv {output.csv:q} --figure {output.figure:q}"
