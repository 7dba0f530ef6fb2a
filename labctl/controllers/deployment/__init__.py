"""The Deployment controller: rolls pods from one template to the next, through ReplicaSets."""
