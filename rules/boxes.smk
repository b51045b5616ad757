"""Boxes of whole lungs, for methods that cut their samples from them; no other study has this rule."""


rule box:
    input:
        atlas=rules.atlas.output.folder,
        volume=rules.volume.output.folder,
    output:
        folder=directory(f"{RESULTS}/boxes/{{scan}}"),
    log:
        f"{RESULTS}/logs/box/{{scan}}.log",
    retries: CONFIG.limits.retries
    conda:
        "../envs/prepare.yaml"
    threads: 1
    resources:
        attempt=attempt,
        tries=CONFIG.limits.retries + 1,
        time_s=int(CONFIG.limits.time_s),
        mem_mb=int(CONFIG.limits.memory_gb * 1000),
    params:
        settings=settings.box(CONFIG),
    shell:
        "exec ctssl stage box --settings {params.settings:q} --log {log:q} --scan {wildcards.scan:q}"
        " --atlas {input.atlas:q} --volume {input.volume:q} --out {output.folder:q}"
        " --time-s {resources.time_s:q} --memory-mb {resources.mem_mb:q}"
        " --attempt {resources.attempt:q} --tries {resources.tries:q}"
