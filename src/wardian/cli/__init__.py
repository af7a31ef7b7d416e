"""The `wardian` command. A command reads its options and calls the library; nothing else."""
