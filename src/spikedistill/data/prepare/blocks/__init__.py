"""Rows that are prepared block by block: journaled, resumed after an interruption, shared by the ranks of a job."""
