"""The atlas; and one scan: image and mask onto its axes, registration, landmarks, graph, picture."""

MASKS_ON_GPU = CONFIG.mask.method == "lungmask" and CONFIG.mask.device == "cuda"


rule atlas:
    output:
        folder=directory(ATLAS),
    log:
        f"{RESULTS}/logs/atlas.log",
    conda:
        "../envs/prepare.yaml"
    threads: CONFIG.registration.threads if CONFIG.atlas.source == "template" else 1
    resources:
        time_s=int(CONFIG.limits.time_s * max(1, len(CONFIG.atlas.scans))),
        mem_mb=int(CONFIG.limits.memory_gb * 1000),
        max_voxels=CONFIG.limits.max_voxels,
        mask_device=CONFIG.mask.device,
        mask_weights=str(CONFIG.mask.weights or "download"),
        gpu=int(MASKS_ON_GPU and bool(CONFIG.atlas.scans)),
    params:
        settings=settings.atlas(CONFIG, MANIFEST),
    shell:
        "exec ctssl stage atlas --settings {params.settings:q} --log {log:q} --out {output.folder:q}"
        " --max-voxels {resources.max_voxels:q}"
        " --mask-device {resources.mask_device:q} --mask-weights {resources.mask_weights:q}"
        " --time-s {resources.time_s:q} --memory-mb {resources.mem_mb:q}"


rule volume:
    input:
        atlas=rules.atlas.output.folder,
    output:
        folder=directory(f"{RESULTS}/volumes/{{scan}}"),
    log:
        f"{RESULTS}/logs/volume/{{scan}}.log",
    retries: CONFIG.limits.retries
    conda:
        "../envs/prepare.yaml"
    threads: 1
    resources:
        attempt=attempt,
        tries=CONFIG.limits.retries + 1,
        time_s=int(CONFIG.limits.time_s),
        mem_mb=int(CONFIG.limits.memory_gb * 1000),
        max_voxels=CONFIG.limits.max_voxels,
        mask_device=CONFIG.mask.device,
        mask_weights=str(CONFIG.mask.weights or "download"),
        gpu=int(MASKS_ON_GPU),
    params:
        settings=lambda w: settings.volume(CONFIG, MANIFEST, w.scan),
    shell:
        "exec ctssl stage volume --settings {params.settings:q} --log {log:q} --scan {wildcards.scan:q}"
        " --atlas {input.atlas:q} --out {output.folder:q}"
        " --max-voxels {resources.max_voxels:q}"
        " --mask-device {resources.mask_device:q} --mask-weights {resources.mask_weights:q}"
        " --time-s {resources.time_s:q} --memory-mb {resources.mem_mb:q}"
        " --attempt {resources.attempt:q} --tries {resources.tries:q}"


rule register:
    input:
        atlas=rules.atlas.output.folder,
        volume=rules.volume.output.folder,
    output:
        folder=directory(f"{RESULTS}/registration/{{scan}}"),
        picture=f"{RESULTS}/quality/{{scan}}.png",
    log:
        f"{RESULTS}/logs/register/{{scan}}.log",
    retries: CONFIG.limits.retries
    conda:
        "../envs/prepare.yaml"
    threads: CONFIG.registration.threads
    resources:
        attempt=attempt,
        tries=CONFIG.limits.retries + 1,
        time_s=int(CONFIG.limits.time_s),
        mem_mb=int(CONFIG.limits.memory_gb * 1000),
    params:
        settings=settings.register(CONFIG),
    shell:
        "exec ctssl stage register --settings {params.settings:q} --log {log:q} --scan {wildcards.scan:q}"
        " --atlas {input.atlas:q} --volume {input.volume:q}"
        " --out {output.folder:q} --picture {output.picture:q}"
        " --time-s {resources.time_s:q} --memory-mb {resources.mem_mb:q}"
        " --attempt {resources.attempt:q} --tries {resources.tries:q}"
