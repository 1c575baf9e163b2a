"""`fedrevive bench`: named workloads, each measured side by side with a reference, repetition by repetition.

The unit is processor time, summed over every process that takes part: it survives a machine that others use as well,
where seconds do not. Ratios are taken within a repetition, so that both sides meet the same machine.
"""
