"""Self-supervised pretraining, one job per run, seed and part."""


rule pretrain:
    input:
        atlas=rules.atlas.output.folder,
        # ancient: new scans do not retrain; changed preparation does, through the settings.
        scans=ancient(rules.cohort.output.scans),
    output:
        weights=f"{RESULTS}/runs/{{run}}/seed{{seed}}/{{part}}/model.safetensors",
        card=f"{RESULTS}/runs/{{run}}/seed{{seed}}/{{part}}/model.json",
        history=f"{RESULTS}/runs/{{run}}/seed{{seed}}/{{part}}/history.csv",
    log:
        f"{RESULTS}/logs/pretrain/{{run}}_seed{{seed}}_{{part}}.log",
    conda:
        "../envs/train.yaml"
    threads: CONFIG.pretraining.threads
    resources:
        gpu=int(CONFIG.pretraining.device == "cuda"),
        checkpoint_steps=CONFIG.pretraining.checkpoint_steps,
    params:
        settings=lambda w: settings.pretrain(CONFIG, w.run),
    shell:
        "exec ctssl stage pretrain --settings {params.settings:q} --log {log:q} --seed {wildcards.seed}"
        " --atlas {input.atlas:q} --scans {input.scans:q} --weights {output.weights:q}"
        " --checkpoint-steps {resources.checkpoint_steps}"
