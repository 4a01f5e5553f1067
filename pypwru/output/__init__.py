"""Rendering of events as text, JSON, journeys and pcap, and the files that they are written to."""
