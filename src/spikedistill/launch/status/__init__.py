"""What is known of every stage of a plan at this moment: collected once, shown as a table, as lines or as JSON."""
