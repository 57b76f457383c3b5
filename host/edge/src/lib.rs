//! Bundles of Mezze for the edges: what each vendor's own tool deploys.
