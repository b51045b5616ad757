"""A synthetic chest whose geometry is known everywhere; also the built-in atlas."""
