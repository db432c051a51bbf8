"""Translate a rule's resources into a request: resources, partitions, slots of this machine, quoting of commands."""
