"""Projects without a checkout: the workflow's files in the package, a folder that uses them, and the demo. Imports no torch.

The Snakefile of such a project includes the package's rules, wherever the package lies:

    from spikedistill.project import SNAKEFILE

    include: SNAKEFILE
"""

from spikedistill.project.files import ROOT

SNAKEFILE = str(ROOT / "Snakefile")
"""The workflow."""
