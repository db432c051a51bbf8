"""Tables, figures and pages that compare the runs of a plan. Imports no torch."""
