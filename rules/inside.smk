"""Networks that are pretrained inside each fold, and probes of their features; no other study has these rules."""


rule pretrain_inside:
    input:
        settings=rules.run_settings.output.text,
        atlas=ATLAS_INPUT,
        # ancient: see pretrain. A new subject gets a fold and is not trained on; an old one keeps its own.
        scans=ancient(SCANS),
        splits=ancient(SPLITS),
        enough=ancient(ENOUGH),
    output:
        weights=f"{INSIDE_FOLDER}/model.safetensors",
        card=f"{INSIDE_FOLDER}/model.json",
        history=f"{INSIDE_FOLDER}/history.csv",
        members=f"{INSIDE_FOLDER}/scans.csv",
    log:
        f"{RESULTS}/logs/pretrain/{{run}}_seed{{seed}}_fold{{fold}}.log",
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
        settings=lambda w: settings.pretrain(CONFIG, MANIFEST, w.run),
    shell:
        "exec ctssl stage pretrain_inside --settings {params.settings:q} --log {log:q}"
        " --seed {wildcards.seed:q} --fold {wildcards.fold:q}"
        " --atlas {resources.atlas:q} --scans {input.scans:q} --splits {input.splits:q}"
        " --weights {output.weights:q} --members {output.members:q}"
        " --threads {threads:q} --machine {resources.machine:q} --packed {resources.packed:q}"
        " --about {resources.about:q}"
        " --attempt {resources.attempt:q} --tries {resources.tries:q}"


rule probe_inside:
    input:
        pairs=lambda w: pairs_of(w.run, w.seed),
        splits=rules.splits.output.folds,
    output:
        result=f"{RESULTS}/probes/{{run}}_seed{{seed}}_inside/{{target}}.json",
        predictions=f"{RESULTS}/probes/{{run}}_seed{{seed}}_inside/{{target}}.csv",
    log:
        f"{RESULTS}/logs/probes/{{run}}_seed{{seed}}_inside_{{target}}.log",
    conda:
        "../envs/train.yaml"
    threads: 1
    params:
        settings=lambda w: settings_probes.probe_inside(CONFIG, MANIFEST, w.target),
    shell:
        "exec ctssl stage probe_inside --settings {params.settings:q} --log {log:q}"
        " {input.pairs:q} --splits {input.splits:q} --out {output.result:q}"
