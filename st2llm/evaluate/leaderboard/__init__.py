"""One page over many runs: data sets by arms, gains, cost and links to the reports."""
