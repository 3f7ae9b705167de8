"""Where rows come from. Each source stands alone in its module, with the vendor's library."""
