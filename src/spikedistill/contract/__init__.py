"""What every component promises, as checks: run by the tests on those of this package, by `check-plugin` on those of others."""
