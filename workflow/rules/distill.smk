# Train an SNN student, with or without a teacher.
rule distill:
    input:
        data=upstream("distill", "data"),
        teacher=upstream("distill", "teacher"),
    output:
        manifest=artifact("distill"),
    log:
        log_of("distill", "{name}"),
    benchmark:
        "logs/distill/{name}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: needs("distill")["cpus_per_task"]
    resources:
        **needs("distill"),
    params:
        arguments=arguments("distill"),
        gpus=gpus,
    message:
        "distill {wildcards.name}"
    shell:
        RUN_ON_UPSTREAM
