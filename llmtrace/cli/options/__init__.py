"""Options: declared once, in groups, and the small grammars of their values."""
