"""Models that leave their study: folders to share, and features of new scans in one call."""
