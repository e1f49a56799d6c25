# @summary A server: a name or an address, with a port or without
type Puppet_shim::Server = Variant[
  Puppet_shim::Name,
  Puppet_shim::Address,
  Puppet_shim::Listener,
  Pattern[/\A[A-Za-z0-9_.-]+:[0-9]{1,5}\z/]
]
