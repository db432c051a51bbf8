# Measure a teacher or a student on the test split.
rule evaluate:
    input:
        data=upstream("evaluations", "data"),
        model=upstream("evaluations", "model"),
        teacher=upstream("evaluations", "teacher"),
    output:
        manifest=artifact("evaluations"),
    log:
        "logs/evaluate/{name}.log",
    benchmark:
        "logs/evaluate/{name}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: needs("evaluate", "evaluations")["cpus_per_task"]
    resources:
        **needs("evaluate", "evaluations"),
    params:
        arguments=arguments("evaluations"),
    message:
        "evaluate {wildcards.name}"
    shell:
        "spmd spikedistill run {params.arguments:q} --log-file {log:q}"
