"""What a rule asks for: resources, partitions, this machine's slots, and the quoting of commands."""
