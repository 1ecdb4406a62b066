"""What the clusters on AWS share: settings, resources and their tags, TLS, and what is mended of dask-cloudprovider."""
