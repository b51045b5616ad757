"""Our figures in the layout of the paper, beside the published ones; no other study has this rule."""


rule paper:
    input:
        probes=all_probes(),
        cards=GIVEN_CARDS,
    output:
        csv=f"{RESULTS}/tables/paper.csv",
        markdown=f"{RESULTS}/tables/paper.md",
        latex=f"{RESULTS}/tables/paper.tex",
    log:
        f"{RESULTS}/logs/paper.log",
    conda:
        "../envs/train.yaml"
    threads: 1
    resources:
        about=preparation.about(CONFIG),
    params:
        settings=settings_tables.paper(CONFIG),
    shell:
        "exec ctssl stage paper --settings {params.settings:q} --log {log:q}"
        " {input.probes:q} --csv {output.csv:q} --markdown {output.markdown:q} --latex {output.latex:q}"
        " --about {resources.about:q}"
