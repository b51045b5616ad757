"""Where scans and labels come from. Each cohort writes images and a manifest (scans.csv)."""
