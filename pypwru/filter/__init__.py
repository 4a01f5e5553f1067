"""pcap-filter text to classic BPF to eBPF, spliced into a handler.

``compiler.compile_filter`` compiles an expression to a ``Filter``; ``splice.splice_all`` replaces
the marker calls of a compiled BPF program by its two views. ``passes.py`` lists the passes between.
"""
