"""Mutation testing: faults that a careless change could make, each of which some test must notice. `make mutants` runs them.

The faults are data, one TOML file for each room of the package: a module, the test files that look at it (the fastest first), and
what is changed. `slow` names files whose slow tests are needed, too. A fault that no test can notice says so: `equivalent` is the
reason.
"""
