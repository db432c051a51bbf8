"""The comparison as tables: what a row holds, and how it is written for people, papers and programs."""
