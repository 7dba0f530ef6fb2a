"""The node agent: it makes the pods that the API gives its node true, and says what is.

Who calls it: the machine's init (`run`), and the master over SSH (`exec`, `attach`, `logs`, `helper`, `forwarder`, `facts`, `clean`).
What flows: the API's pods down to the Runtime (crun, conmon, namespaces); what the machine answers up into the pods' status.
What it never does: listen on a port; decide where a pod belongs; trust its own memory about what runs; import anything else of labctl.
Standard library only, Python 3.9+: it ships as one zipapp to any machine that has python3.
"""

VERSION = "v1.37.0-labctl"
