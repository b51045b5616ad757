"""Patch stores, and the cohort's tables: who was excluded, quality, who has a store."""

if CONFIG.prepared is None:

    rule store:
        input:
            atlas=rules.atlas.output.folder,
            volume=rules.volume.output.folder,
            registration=rules.register.output.folder,
        output:
            folder=directory(f"{RESULTS}/stores/{{scan}}"),
        log:
            f"{RESULTS}/logs/store/{{scan}}.log",
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
            settings=settings.store(CONFIG),
        shell:
            "exec ctssl stage store --settings {params.settings:q} --log {log:q} --scan {wildcards.scan:q}"
            " --atlas {input.atlas:q} --volume {input.volume:q} --registration {input.registration:q}"
            " --out {output.folder:q}"
            " --time-s {resources.time_s:q} --memory-mb {resources.mem_mb:q}"
            " --attempt {resources.attempt:q} --tries {resources.tries:q}"


rule cohort:
    input:
        stores=of_every_scan("stores"),
        registrations=of_every_scan("registration"),
        boxes=of_every_scan("boxes") if BOXED else [],
    output:
        failures=FAILURES,
        quality=QUALITY,
        scans=SCANS,
        sheet=f"{RESULTS}/quality/index.html",
    log:
        f"{RESULTS}/logs/cohort.log",
    conda:
        "../envs/prepare.yaml"
    threads: 1
    params:
        settings=settings.cohort(CONFIG, MANIFEST),
    shell:
        "exec ctssl stage cohort --settings {params.settings:q} --log {log:q}"
        " --failures {output.failures:q} --quality {output.quality:q} --scans {output.scans:q}"
        " --sheet {output.sheet:q}"


if CONFIG.store.packed:

    rule pack:
        input:
            scans=rules.cohort.output.scans,
        output:
            # update: the card says what the copy holds already. The copy itself is beside it.
            card=update(PACKED),
        log:
            f"{RESULTS}/logs/pack.log",
        conda:
            "../envs/train.yaml"
        threads: CONFIG.pretraining.threads
        params:
            settings=settings.pack(CONFIG),
        shell:
            "exec ctssl stage pack --settings {params.settings:q} --log {log:q}"
            " --scans {input.scans:q} --out {output.card:q}"


rule enough:
    input:
        failures=rules.cohort.output.failures,
        quality=rules.cohort.output.quality,
        # Here and not in pretrain, which waits for this job: another input would retrain.
        packed=PACKED if CONFIG.store.packed else [],
    output:
        text=ENOUGH,
    log:
        f"{RESULTS}/logs/enough.log",
    conda:
        "../envs/prepare.yaml"
    threads: 1
    params:
        settings=settings.enough(CONFIG),
    shell:
        "exec ctssl stage enough --settings {params.settings:q} --log {log:q}"
        " --failures {input.failures:q} --quality {input.quality:q} --out {output.text:q}"
