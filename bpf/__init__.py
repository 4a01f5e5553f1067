"""The C of the handlers, as package data."""
