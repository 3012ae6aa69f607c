"""What listens on this machine: addresses, the control socket, and what an HTTP request must look like."""
