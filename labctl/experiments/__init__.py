"""Experiments: their files, matrix, repetition, statistics and report. They run on whatever offers the protocol of a stage: a real lab, or a simulated one."""
