# spikedistill: preprocess -> teacher -> distill -> evaluate -> report.
#
#   snakemake --profile cluster          on Slurm
#   snakemake --profile cluster/local    the same jobs on this machine
#   snakemake -n                         what would run
#
# The configuration is config.yaml, or the file given with --configfile instead.


include: "workflow/rules/common.smk"


for name in RULES:

    include: f"workflow/rules/{name}.smk"


rule all:
    default_target: True
    input:
        lost=lost_artifacts,
        report=rules.report.output,
    localrule: True
