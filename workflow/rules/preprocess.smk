# Prepare a dataset: decode, integrate event frames, store as one array.
rule preprocess:
    output:
        manifest=artifact("preprocess"),
    log:
        log_of("preprocess", "{name}"),
    benchmark:
        "logs/preprocess/{name}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: needs("preprocess")["cpus_per_task"]
    resources:
        **needs("preprocess"),
    params:
        arguments=arguments("preprocess"),
        gpus=gpus,
    message:
        "preprocess {wildcards.name}"
    shell:
        RUN_STAGE
