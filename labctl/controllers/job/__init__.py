"""The Job controller: pods that run until the work is done."""
