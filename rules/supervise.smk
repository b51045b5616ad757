"""Networks that are trained on labels, one inside each fold; no other study has these rules."""


rule fold_settings:
    # What the trainings for a target depend on, as a file: see run_settings.
    output:
        text=f"{RESULTS}/runs/{{supervised}}/targets/{{target}}.json",
    log:
        f"{RESULTS}/logs/fold_settings/{{supervised}}_{{target}}.log",
    conda:
        "../envs/train.yaml"
    threads: 1
    params:
        settings=lambda w: settings.fold(CONFIG, MANIFEST, w.supervised, w.target),
    shell:
        "exec ctssl stage fold_settings --settings {params.settings:q} --log {log:q} --out {output.text:q}"


rule fold:
    input:
        settings=rules.fold_settings.output.text,
        atlas=ATLAS_INPUT,
        # ancient: a new scan without a label trains nothing anew. Labels do, through the settings.
        scans=ancient(SCANS),
        splits=ancient(SPLITS),
        enough=ancient(ENOUGH),
    output:
        record=FOLD_RECORD,
        predictions=f"{FOLD_FOLDER}/predictions.csv",
        members=f"{FOLD_FOLDER}/scans.csv",
    log:
        f"{RESULTS}/logs/fold/{{supervised}}_seed{{seed}}_fold{{fold}}_{{target}}.log",
    # After SIGTERM (a preempted node) it goes on from its checkpoint.
    retries: CONFIG.limits.retries
    conda:
        "../envs/train.yaml"
    threads: CONFIG.pretraining.threads * CONFIG.pretraining.devices
    resources:
        atlas=ATLAS,
        gpu=CONFIG.pretraining.devices * (CONFIG.pretraining.device == "cuda"),
        attempt=attempt,
        tries=CONFIG.limits.retries + 1,
        machine=settings.training_machine(CONFIG),
        packed=PACKED if CONFIG.store.packed else "none",
        about=preparation.about(CONFIG),
    params:
        settings=lambda w: settings.fold(CONFIG, MANIFEST, w.supervised, w.target),
    shell:
        "exec ctssl stage fold --settings {params.settings:q} --log {log:q} --seed {wildcards.seed:q}"
        " --fold {wildcards.fold:q} --atlas {resources.atlas:q} --scans {input.scans:q}"
        " --splits {input.splits:q} --out {output.record:q}"
        " --threads {threads:q} --machine {resources.machine:q} --packed {resources.packed:q}"
        " --about {resources.about:q}"
        " --attempt {resources.attempt:q} --tries {resources.tries:q}"


rule join:
    input:
        folds=lambda w: records_of(w.supervised, w.seed, w.target),
        scans=rules.cohort.output.scans,
        splits=rules.splits.output.folds,
    output:
        result=f"{RESULTS}/probes/{{supervised}}_seed{{seed}}_folds/{{target}}.json",
        predictions=f"{RESULTS}/probes/{{supervised}}_seed{{seed}}_folds/{{target}}.csv",
    log:
        f"{RESULTS}/logs/join/{{supervised}}_seed{{seed}}_{{target}}.log",
    conda:
        "../envs/train.yaml"
    threads: 1
    params:
        settings=lambda w: settings.join(CONFIG, MANIFEST, w.supervised, w.target),
    shell:
        "exec ctssl stage join --settings {params.settings:q} --log {log:q}"
        " {input.folds:q} --scans {input.scans:q} --splits {input.splits:q} --out {output.result:q}"
