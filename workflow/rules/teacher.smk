# Train an ANN teacher; every student with the same teacher shares it.
rule teacher:
    input:
        data=upstream("teachers", "data"),
    output:
        manifest=artifact("teachers"),
    log:
        "logs/teacher/{name}.log",
    benchmark:
        "logs/teacher/{name}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: needs("teacher", "teachers")["cpus_per_task"]
    resources:
        **needs("teacher", "teachers"),
    params:
        arguments=arguments("teachers"),
    message:
        "teacher {wildcards.name}"
    shell:
        "spmd spikedistill run {params.arguments:q} --log-file {log:q}"
