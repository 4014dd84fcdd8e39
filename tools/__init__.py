"""Programs of the checkout, which the wheel leaves out."""
