"""Programs that make files of the tree from the code; not part of the installed package."""
