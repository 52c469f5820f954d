"""Tables as text, Markdown, LaTeX, HTML, CSV and JSON."""
