"""What a trace adds up to: counted by slices of records, named when somebody wants to read it."""
