"""A network whose first layers are the parties' and whose last ones are the coordinator's."""
