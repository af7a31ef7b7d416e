"""What the front end answers: routes, the dialects of inference, errors, evidence."""
