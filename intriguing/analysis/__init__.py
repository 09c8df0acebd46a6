"""What the attacks are measured by: transfer, units, Lipschitz bounds."""
