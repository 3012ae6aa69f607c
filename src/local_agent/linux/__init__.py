"""The kernel's files and calls: /proc, cgroups, and files that another user may have made."""
