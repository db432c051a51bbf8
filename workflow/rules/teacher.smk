# Train an ANN teacher; every student with the same teacher shares it.
rule teacher:
    input:
        data=upstream("teacher", "data"),
    output:
        manifest=artifact("teacher"),
    log:
        log_of("teacher", "{name}"),
    benchmark:
        "logs/teacher/{name}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: needs("teacher")["cpus_per_task"]
    resources:
        **needs("teacher"),
    params:
        arguments=arguments("teacher"),
        gpus=gpus,
    message:
        "teacher {wildcards.name}"
    shell:
        RUN_ON_UPSTREAM
