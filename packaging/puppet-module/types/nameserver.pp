# @summary A nameserver: `192.0.2.53`, `192.0.2.53:5353`, `tls://192.0.2.53`, `tls://[2001:db8::53]:8853#dns.example.com`
type Puppet_shim::Nameserver = Variant[
  Puppet_shim::Address,
  Puppet_shim::Listener,
  Pattern[/\Atls:\/\/[0-9A-Fa-f:.\[\]]+(#[A-Za-z0-9_.-]+)?\z/]
]
