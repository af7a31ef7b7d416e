"""Which verified claims are accepted: policies, the rules in them, and the file that states one."""
