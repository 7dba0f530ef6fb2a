"""Reports of experiments: a self-contained HTML page for everybody, and a PDF figure for papers. Both are drawn from a Result alone."""
