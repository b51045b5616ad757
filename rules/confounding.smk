"""What features say of confounders, and what confounders say of targets; no other study has these rules."""


rule confounder:
    input:
        features=f"{RESULTS}/features/{{row}}.parquet",
        scans=rules.cohort.output.scans,
        splits=ALL_SPLITS,
    output:
        result=f"{RESULTS}/confounding/{{row}}/{{confounder}}.json",
        predictions=f"{RESULTS}/confounding/{{row}}/{{confounder}}.csv",
    log:
        f"{RESULTS}/logs/confounding/{{row}}_{{confounder}}.log",
    conda:
        "../envs/train.yaml"
    threads: 1
    params:
        settings=lambda w: settings_tables.confounder(CONFIG, MANIFEST, w.confounder),
    shell:
        "exec ctssl stage confounder --settings {params.settings:q} --log {log:q}"
        " {input.splits:q} --features {input.features:q} --scans {input.scans:q}"
        " --out {output.result:q}"


rule alone:
    input:
        scans=rules.cohort.output.scans,
        splits=ALL_SPLITS,
    output:
        result=f"{RESULTS}/confounding/alone/{{confounder}}/{{target}}.json",
        predictions=f"{RESULTS}/confounding/alone/{{confounder}}/{{target}}.csv",
    log:
        f"{RESULTS}/logs/confounding/alone_{{confounder}}_{{target}}.log",
    conda:
        "../envs/train.yaml"
    threads: 1
    params:
        settings=lambda w: settings_tables.alone(
            CONFIG, MANIFEST, w.confounder, w.target
        ),
    shell:
        "exec ctssl stage alone --settings {params.settings:q} --log {log:q}"
        " {input.splits:q} --scans {input.scans:q} --out {output.result:q}"


rule confounding:
    input:
        about=[
            f"{RESULTS}/confounding/{row}/{confounder}.json"
            for row in ROWS + BASELINE_ROWS
            for confounder in CONFOUNDERS
        ],
        alone=[
            f"{RESULTS}/confounding/alone/{confounder}/{target}.json"
            for confounder in CONFOUNDERS
            for target in TARGETS
        ],
    output:
        csv=f"{RESULTS}/tables/confounding.csv",
        markdown=f"{RESULTS}/tables/confounding.md",
    log:
        f"{RESULTS}/logs/confounding.log",
    conda:
        "../envs/train.yaml"
    threads: 1
    params:
        settings=settings_tables.confounding(CONFIG),
    shell:
        "exec ctssl stage confounding --settings {params.settings:q} --log {log:q}"
        " {input.about:q} {input.alone:q} --csv {output.csv:q} --markdown {output.markdown:q}"
