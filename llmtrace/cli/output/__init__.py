"""How a result is handed over: screen, documents, folders."""
