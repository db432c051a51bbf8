# Compare everything that was measured: tables and figures, also in Snakemake's HTML report.


rule report:
    input:
        evaluations=evaluations,
    output:
        table_html=report(
            report_file("results.html"),
            caption="../report/results.rst",
            category="Results",
            labels={"what": "test accuracy of teachers and students"},
        ),
        table_markdown=report_file("results.md"),
        table_csv=report(
            report_file("results.csv"),
            caption="../report/results.rst",
            category="Results",
            labels={"what": "the same table as CSV"},
        ),
        accuracy_over_time=report(
            report_file("accuracy_over_time.svg"),
            caption="../report/accuracy_over_time.rst",
            category="Figures",
            labels={"what": "accuracy after t time steps"},
        ),
        training_curves=report(
            report_file("training_curves.svg"),
            caption="../report/training_curves.rst",
            category="Figures",
            labels={"what": "training curves"},
        ),
        firing_rates=report(
            report_file("firing_rates.svg"),
            caption="../report/firing_rates.rst",
            category="Figures",
            labels={"what": "firing rate of each layer"},
        ),
    log:
        "logs/report/report.log",
    benchmark:
        "logs/report/report.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: REPORT_COST.cpus
    resources:
        **needed(lambda gpus: REPORT_COST, {}),
    params:
        config=RESOLVED_CONFIG,
    message:
        "report"
    shell:
        "spmd spikedistill report --resolved {params.config:q} --log-file {log:q}"
