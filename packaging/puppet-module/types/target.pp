# @summary Servers: one by its name or address, or all under a domain, `*.fra.example.com`
type Puppet_shim::Target = Variant[Puppet_shim::Name, Puppet_shim::Address, Pattern[/\A\*\.[A-Za-z0-9_.-]+\z/]]
