"""Features, folds, probes with what they predict, tables and figures."""


rule features:
    input:
        atlas=ATLAS_INPUT,
        scans=rules.cohort.output.scans,
        weights=lambda w: weights_of(w.run, w.seed, w.part),
    output:
        table=f"{RESULTS}/features/{{run}}_seed{{seed}}_{{part}}.parquet",
    log:
        f"{RESULTS}/logs/features/{{run}}_seed{{seed}}_{{part}}.log",
    conda:
        "../envs/train.yaml"
    threads: CONFIG.pretraining.threads
    resources:
        atlas=ATLAS,
        gpu=int(CONFIG.pretraining.device == "cuda"),
        device=CONFIG.pretraining.device,
    params:
        settings=settings.features(CONFIG),
    shell:
        "exec ctssl stage features --settings {params.settings:q} --log {log:q}"
        " --atlas {resources.atlas:q} --scans {input.scans:q}"
        " --weights {input.weights:q} --device {resources.device:q} --threads {threads:q} --out {output.table:q}"


rule baseline:
    input:
        scans=rules.cohort.output.scans,
    output:
        table=f"{RESULTS}/features/{{baseline}}_seed{{seed}}_{{part}}.parquet",
    log:
        f"{RESULTS}/logs/features/{{baseline}}_seed{{seed}}_{{part}}.log",
    conda:
        "../envs/train.yaml"
    threads: 1
    params:
        settings=lambda w: settings.baseline(CONFIG, MANIFEST, w.baseline),
    shell:
        "exec ctssl stage baseline --settings {params.settings:q} --log {log:q}"
        " --scans {input.scans:q} --out {output.table:q}"


rule splits:
    input:
        scans=rules.cohort.output.scans,
    output:
        # update: subjects keep their fold when new ones arrive.
        folds=update(SPLITS),
    log:
        f"{RESULTS}/logs/splits.log",
    conda:
        "../envs/train.yaml"
    threads: 1
    params:
        settings=settings_probes.splits(CONFIG),
    shell:
        "exec ctssl stage splits --settings {params.settings:q} --log {log:q}"
        " --scans {input.scans:q} --out {output.folds:q}"


if AGAIN:

    rule splits_again:
        input:
            scans=rules.cohort.output.scans,
        output:
            folds=update(SPLITS_AGAIN),
        log:
            f"{RESULTS}/logs/splits_again/{{again}}.log",
        conda:
            "../envs/train.yaml"
        threads: 1
        params:
            settings=lambda w: settings_probes.splits(CONFIG, int(w.again)),
        shell:
            "exec ctssl stage splits_again --settings {params.settings:q} --log {log:q}"
            " --scans {input.scans:q} --out {output.folds:q}"


rule probe:
    input:
        features=f"{RESULTS}/features/{{row}}.parquet",
        splits=ALL_SPLITS,
    output:
        result=f"{RESULTS}/probes/{{row}}/{{target}}.json",
        predictions=f"{RESULTS}/probes/{{row}}/{{target}}.csv",
        # Of all labels, and of scans without one. In the same job: a process takes longer to start than this.
        final=f"{RESULTS}/predictions/{{row}}/{{target}}.json",
        unlabelled=f"{RESULTS}/predictions/{{row}}/{{target}}.csv",
    log:
        f"{RESULTS}/logs/probes/{{row}}_{{target}}.log",
    conda:
        "../envs/train.yaml"
    threads: 1
    params:
        settings=lambda w: settings_probes.probe(CONFIG, MANIFEST, w.target),
    shell:
        "exec ctssl stage probe --settings {params.settings:q} --log {log:q}"
        " --features {input.features:q} {input.splits:q}"
        " --out {output.result:q} --final {output.final:q}"


rule tables:
    input:
        probes=all_probes(),
        cards=GIVEN_CARDS,
    output:
        csv=f"{RESULTS}/tables/probes.csv",
        markdown=f"{RESULTS}/tables/probes.md",
    log:
        f"{RESULTS}/logs/tables.log",
    conda:
        "../envs/train.yaml"
    threads: 1
    resources:
        about=preparation.about(CONFIG),
        asked=asked_pages(),
    params:
        settings=settings_tables.tables(CONFIG),
    shell:
        "exec ctssl stage tables --settings {params.settings:q} --log {log:q}"
        " {input.probes:q} --csv {output.csv:q} --markdown {output.markdown:q}"
        " --about {resources.about:q} --asked {resources.asked:q}"


rule figures:
    input:
        features=[f"{RESULTS}/features/{row}.parquet" for row in ROWS],
    output:
        umap=f"{RESULTS}/figures/umap.png",
    log:
        f"{RESULTS}/logs/figures.log",
    conda:
        "../envs/train.yaml"
    threads: 1
    params:
        settings=lambda w: settings.figures(CONFIG, MANIFEST),
    shell:
        "exec ctssl stage figures --settings {params.settings:q} --log {log:q}"
        " {input.features:q} --out {output.umap:q}"
