"""What is measured: speed, memory, accuracy, parity. Each module is a command."""
