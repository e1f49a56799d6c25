"""The three ways an agent's traffic gets into the shim."""

from dataclasses import dataclass

from lab import plan

NAMES = {"server": "puppet", "ca_server": "puppetca", "report_server": "puppetreport"}


@dataclass(frozen=True)
class Way:
    # What the agent's puppet.conf says.
    settings: dict
    # Where puppet:// file sources point.
    files: str
    # What the shim listens on; None leaves it to the shim's defaults.
    listen: list | None = None
    # The names that the hosts file points at loopback.
    aliases: tuple = ()
    # The TCP ports that are open once the shim is up.
    ports: tuple = (8139,)


def proxy(domain=plan.DOMAIN, host="127.0.0.1"):
    """The agent is told of a proxy and keeps all its names."""
    names = {setting: f"{name}.{domain}" for setting, name in NAMES.items()}
    return Way(
        settings=names | plugins_from(f"puppetfiles.{domain}") | {"http_proxy_host": host, "http_proxy_port": 8139},
        files=f"puppet://puppetfiles.{domain}",
    )


def alias():
    """The official names, bare ones here, lead to loopback; the TLS hello tells the role."""
    return Way(
        settings=NAMES | plugins_from("puppetfiles"),
        files="puppet://puppetfiles",
        listen=["127.0.0.1:8140", "[::1]:8140"],
        aliases=tuple(plan.OFFICIAL_NAMES),
        ports=(8140,),
    )


def ports():
    """One official name for everything; the port tells the role."""
    return Way(
        settings={"server": "puppet", "ca_port": 8141, "report_port": 8142} | plugins_from("puppet:8143"),
        files="puppet://puppet:8143",
        listen=[f"127.0.0.1:{port}" for port in (8140, 8141, 8142, 8143)],
        aliases=("puppet",),
        ports=(8140, 8141, 8142, 8143),
    )


def plugins_from(authority):
    return {
        "pluginsource": f"puppet://{authority}/plugins",
        "pluginfactsource": f"puppet://{authority}/pluginfacts",
    }
