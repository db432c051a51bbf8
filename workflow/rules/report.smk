# Compare everything that was measured: tables and figures, also in Snakemake's HTML report.


onsuccess:
    logger.info(f"results: {Path(report_file('results.html')).resolve()}")


onerror:
    # Report what has finished, with rows that say what is missing. After Ctrl-C alone, no report is written.
    if workflow.scheduler.failed:
        shell(
            "spikedistill report --resolved {RESOLVED_CONFIG:q} --log-file {REPORT_LOG:q} || true"
        )


rule report:
    input:
        evaluations=evaluations,
    output:
        table_html=report(
            report_file("results.html"),
            caption="../report/results.rst",
            category="Results",
            labels={
                "what": "everything on one page: tables, figures, cost, configuration"
            },
        ),
        table_markdown=report_file("results.md"),
        table_latex=report_file("results.tex"),
        figures_latex=report_file("figures.tex"),
        table_csv=report(
            report_file("results.csv"),
            caption="../report/results.rst",
            category="Results",
            labels={"what": "every measured quantity as CSV"},
        ),
        tests=report(
            report_file("tests.csv"),
            caption="../report/tests.rst",
            category="Results",
            labels={"what": "paired tests of the methods as CSV"},
        ),
        accuracy_over_time=report(
            report_file("accuracy_over_time.svg"),
            caption="../report/accuracy_over_time.rst",
            category="Figures",
            labels={"what": "accuracy after t time steps"},
        ),
        accuracy_over_energy=report(
            report_file("accuracy_over_energy.svg"),
            caption="../report/accuracy_over_energy.rst",
            category="Figures",
            labels={"what": "accuracy against energy"},
        ),
        accuracy_over_sweep=report(
            report_file("accuracy_over_sweep.svg"),
            caption="../report/accuracy_over_sweep.rst",
            category="Figures",
            labels={"what": "accuracy against a swept number"},
        ),
        validation_over_sweep=report(
            report_file("validation_over_sweep.svg"),
            caption="../report/validation_over_sweep.rst",
            category="Figures",
            labels={"what": "sweeps on the validation split"},
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
        confusion_matrices=report(
            report_file("confusion_matrices.svg"),
            caption="../report/confusion_matrices.rst",
            category="Figures",
            labels={"what": "confusion matrices"},
        ),
        saliency_maps=report(
            report_file("saliency_maps.svg"),
            caption="../report/saliency_maps.rst",
            category="Pictures",
            labels={"what": "what teachers and students attend to"},
        ),
        event_frames=report(
            report_file("event_frames.svg"),
            caption="../report/event_frames.rst",
            category="Pictures",
            labels={"what": "event frames of test recordings"},
        ),
        costs=report(
            report_file("costs.csv"),
            caption="../report/costs.rst",
            category="Cost",
            labels={"what": "what every stage took, as CSV"},
        ),
        for_papers=[
            report_file(f"{name}.pdf")
            for name in (
                "accuracy_over_time",
                "accuracy_over_energy",
                "accuracy_over_sweep",
                "validation_over_sweep",
                "training_curves",
                "firing_rates",
                "confusion_matrices",
                "saliency_maps",
                "event_frames",
            )
        ],
    log:
        REPORT_LOG,
    benchmark:
        "logs/report/report.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: REPORT_COST.cpus
    resources:
        **required_resources(lambda gpus: REPORT_COST, {}),
    params:
        config=RESOLVED_CONFIG,
    message:
        "report"
    shell:
        "spmd spikedistill report --resolved {params.config:q} --log-file {log:q}"
