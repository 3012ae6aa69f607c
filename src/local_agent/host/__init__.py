"""What goes on on this host, for the person who looks after it: what `ps`, `logs`, `status`, `doctor` and others do.

Works for any user and with the API out of reach: scopes and services come from systemd, figures from the cgroups'
files. Records and the agents' own words are added where this user may read them.
"""
