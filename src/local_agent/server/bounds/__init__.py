"""What one request, one client and all of them may cost."""
