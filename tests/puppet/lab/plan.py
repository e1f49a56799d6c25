"""Who is where. The zones under conf/zones say the same to DNS."""

DOMAIN = "example.test"

# The last part of each host's address, in 10.9.0.0/24 and in fd00:9::/64.
HOSTS = {
    "dns": 2,
    "web": 3,
    "ca": 11,
    "compile1": 12,
    "compile2": 13,
    "files": 14,
    "agent": 21,
}

# The port differs on one server, so that a tunnel shows whose port was dialled: the SRV record's.
SERVERS = {"ca": 8140, "compile1": 8140, "compile2": 8140, "files": 8143}

# The agent host's second address, for `sourceaddress`.
SECOND_ADDRESS = "10.9.0.22"

# Every server carries every official name, but for those that it LACKS. A connection taken to the wrong server thus
# succeeds, and it is the access logs that give it away.
OFFICIAL_NAMES = ["puppet", "puppetca", "puppetfiles", "puppetreport"]
DOMAINS = [DOMAIN, "plain.test", "six.test", "pair.test", "renamed.test", "brief.test", "machine.test"]

# Whose certificate is older than which domains, and lacks the official names there.
LACKS = {"compile1": ["renamed.test"]}


def ipv4(host):
    return f"10.9.0.{HOSTS[host]}"


def ipv6(host):
    return f"fd00:9::{HOSTS[host]}"


def fqdn(host):
    return f"{host}.{DOMAIN}"


def alternative_names(server):
    """The names that a server's certificate carries beside its own."""
    domains = [domain for domain in DOMAINS if domain not in LACKS.get(server, ())]
    return OFFICIAL_NAMES + [f"{name}.{domain}" for domain in domains for name in OFFICIAL_NAMES]
