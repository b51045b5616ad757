"""Self-supervised pretraining on all scans, one job per run and seed."""


rule run_settings:
    # What a run depends on, as a file. Snakemake does not look at the params of a job below one that
    # reruns, and scans.csv reruns with every new scan: without this file a changed setting would wait
    # for the next invocation.
    output:
        text=f"{RESULTS}/runs/{{run}}/settings.json",
    log:
        f"{RESULTS}/logs/run_settings/{{run}}.log",
    conda:
        "../envs/train.yaml"
    threads: 1
    params:
        settings=lambda w: settings.pretrain(CONFIG, MANIFEST, w.run),
    shell:
        "exec ctssl stage run_settings --settings {params.settings:q} --log {log:q} --out {output.text:q}"


rule pretrain:
    input:
        settings=rules.run_settings.output.text,
        atlas=ATLAS_INPUT,
        # ancient: new scans do not retrain; changed preparation does, through the settings. Not
        # rules.cohort.output.scans: ancient() would mark that very object, for every rule that uses it.
        scans=ancient(SCANS),
        enough=ancient(ENOUGH),
    output:
        weights=f"{RESULTS}/runs/{{run}}/seed{{seed}}/all/model.safetensors",
        card=f"{RESULTS}/runs/{{run}}/seed{{seed}}/all/model.json",
        history=f"{RESULTS}/runs/{{run}}/seed{{seed}}/all/history.csv",
    log:
        f"{RESULTS}/logs/pretrain/{{run}}_seed{{seed}}_all.log",
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
        "exec ctssl stage pretrain --settings {params.settings:q} --log {log:q} --seed {wildcards.seed:q}"
        " --atlas {resources.atlas:q} --scans {input.scans:q} --weights {output.weights:q}"
        " --threads {threads:q} --machine {resources.machine:q} --packed {resources.packed:q}"
        " --about {resources.about:q}"
        " --attempt {resources.attempt:q} --tries {resources.tries:q}"
