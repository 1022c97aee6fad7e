"""What drives the agents of the matrix and judges where their calls hang."""
