"""The userspace proxy: one process per minion that accepts redirected connections and picks a pod for each."""
