"""The domains that ship; installed as `sentinel_domains`."""
