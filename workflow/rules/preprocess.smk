# Prepare a dataset: decode, integrate event frames, store as one array.
rule preprocess:
    output:
        manifest=artifact("data"),
    log:
        "logs/preprocess/{name}.log",
    benchmark:
        "logs/preprocess/{name}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: needs("preprocess", "data")["cpus_per_task"]
    resources:
        **needs("preprocess", "data"),
    params:
        arguments=arguments("data"),
    message:
        "preprocess {wildcards.name}"
    shell:
        "spmd spikedistill run {params.arguments:q} --log-file {log:q}"
