# Train an SNN student, with or without a teacher.
rule distill:
    input:
        data=upstream("students", "data"),
        teacher=upstream("students", "teacher"),
    output:
        manifest=artifact("students"),
    log:
        "logs/distill/{name}.log",
    benchmark:
        "logs/distill/{name}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: needs("distill", "students")["cpus_per_task"]
    resources:
        **needs("distill", "students"),
    params:
        arguments=arguments("students"),
    message:
        "distill {wildcards.name}"
    shell:
        "spmd spikedistill run {params.arguments:q} --log-file {log:q}"
