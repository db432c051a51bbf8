# Measure a teacher or a student on the test split.
rule evaluate:
    input:
        data=upstream("evaluate", "data"),
        model=upstream("evaluate", "model"),
        teacher=upstream("evaluate", "teacher"),
    output:
        manifest=artifact("evaluate"),
    log:
        log_of("evaluate", "{name}"),
    benchmark:
        "logs/evaluate/{name}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: needs("evaluate")["cpus_per_task"]
    resources:
        **needs("evaluate"),
    params:
        arguments=arguments("evaluate"),
        gpus=gpus,
    message:
        "evaluate {wildcards.name}"
    shell:
        RUN_ON_UPSTREAM
