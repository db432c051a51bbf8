# spikedistill: preprocess -> teacher -> distill -> evaluate -> report.
#
#   snakemake --profile cluster          on Slurm
#   snakemake --profile cluster/local    the same jobs on this machine
#   snakemake -n                         what would run
#
# The configuration is config.yaml, or the file given with --configfile instead.

if "experiments" not in config:

    configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/preprocess.smk"
include: "workflow/rules/teacher.smk"
include: "workflow/rules/distill.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        lost=lost_artifacts,
        report=rules.report.output,
    localrule: True
