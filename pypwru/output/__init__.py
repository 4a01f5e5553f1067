"""The pipeline of a run's records, and the rendering of events as text and JSON."""
