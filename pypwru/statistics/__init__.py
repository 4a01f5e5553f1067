"""Statistics of a trace: counts by slices of records, resolved to names for each report."""
