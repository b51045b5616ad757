"""Probes whose folds leave out one value of a column each; no other study has these rules."""


rule splits_by:
    input:
        scans=rules.cohort.output.scans,
    output:
        folds=f"{RESULTS}/splits/by-{CONFIG.evaluation.leave_out}.csv",
    log:
        f"{RESULTS}/logs/splits_by.log",
    conda:
        "../envs/train.yaml"
    threads: 1
    params:
        settings=settings_probes.splits_by(CONFIG, MANIFEST),
    shell:
        "exec ctssl stage splits_by --settings {params.settings:q} --log {log:q}"
        " --scans {input.scans:q} --out {output.folds:q}"


rule probe_by:
    input:
        features=f"{RESULTS}/features/{{row}}.parquet",
        splits=rules.splits_by.output.folds,
    output:
        result=f"{BY_FOLDER}/{{row}}/{{target}}.json",
        predictions=f"{BY_FOLDER}/{{row}}/{{target}}.csv",
    log:
        f"{RESULTS}/logs/by/{{row}}_{{target}}.log",
    conda:
        "../envs/train.yaml"
    threads: 1
    params:
        settings=lambda w: settings_probes.probe_by(CONFIG, MANIFEST, w.target),
    shell:
        "exec ctssl stage probe_by --settings {params.settings:q} --log {log:q}"
        " --features {input.features:q} --splits {input.splits:q} --out {output.result:q}"


rule tables_by:
    input:
        probes=[
            f"{BY_FOLDER}/{row}/{target}.json"
            for row in ROWS + BASELINE_ROWS
            for target in TARGETS
        ],
    output:
        csv=f"{RESULTS}/tables/by-{CONFIG.evaluation.leave_out}.csv",
        markdown=f"{RESULTS}/tables/by-{CONFIG.evaluation.leave_out}.md",
    log:
        f"{RESULTS}/logs/tables_by.log",
    conda:
        "../envs/train.yaml"
    threads: 1
    params:
        settings=settings_tables.tables_by(CONFIG),
    shell:
        "exec ctssl stage tables_by --settings {params.settings:q} --log {log:q}"
        " {input.probes:q} --csv {output.csv:q} --markdown {output.markdown:q}"
