"""Routes of the ingress, one file a group; each only translates between HTTP and a deployment."""
