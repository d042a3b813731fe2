"""The audit of predictions from elsewhere: how they were scored, and what each choice of protocol is worth."""
