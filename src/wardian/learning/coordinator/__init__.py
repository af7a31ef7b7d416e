"""The coordinator: who attends, what is asked, what becomes of it, and how it survives."""
